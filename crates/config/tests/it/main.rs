//! What a user sees of the configuration: every example file with its diagnostics, the files on disk, the published schema.
//!
//! `corpus/good` loads. `corpus/shape` is wrong in a way that the schema can see too, `corpus/meaning` in a way that only the loader can.

mod agreement;
mod compiled;
mod corpus;
mod evil;
mod files;
mod home;
mod layered;
mod layers;
mod lenient;
mod properties;
mod validator;
mod values;
