//! The binary as a user runs it: real processes, each with a home of its own. What must hold of every message: what, where, what to do.

mod bad_input;
mod config;
mod demo;
mod doctor;
mod drill;
mod editing;
mod full;
mod home;
mod hooks;
mod importing;
mod init;
mod lasting;
mod ledger;
mod manual;
mod notices;
mod outage;
mod pauses;
mod profiles;
mod proving;
mod run;
mod serve;
mod service;
mod settings;
mod statusline;
mod user;
mod wiring;
