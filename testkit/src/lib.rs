//! A provider that plays scripts, on real sockets or in memory, and a virtual clock for the decision core. Never used for judging what is right: that is
//! the tests' own business.

pub mod answers;
pub mod canary;
pub mod clock;
mod network;
mod pipe;
mod request;
mod script;
pub mod strict;
mod upstream;

pub use clock::VirtualClock;
pub use network::{Dial, Listener, Network};
pub use pipe::Pipe;
pub use request::Received;
pub use script::{Event, Gate, Script};
pub use upstream::{Upstream, refused_addr};
