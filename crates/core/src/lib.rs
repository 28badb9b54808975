//! Decides what a failure means for a request and for a profile. Never does I/O, never waits, never reads a clock and never rolls
//! dice: time, chance and the state of the world are arguments.
//!
//! To follow a decision start at [`exchange::Exchange::poll`]; the table behind it is [`failure::FailureKind`].

pub mod attempt;
pub mod commitment;
pub mod exchange;
pub mod facts;
pub mod failure;
pub mod health;
pub mod models;
pub mod platform;
pub mod policy;
pub mod record;
pub mod retries;
pub mod route;

pub use attempt::{AttemptId, AttemptKind, AttemptPlan};
pub use commitment::{Commitment, Ending, Position};
pub use exchange::{Action, Answer, BodyKind, Exchange, LocalAnswer, Outcome, World};
pub use facts::{ClientKind, Endpoint, ModelFamily, RequestFacts};
pub use failure::{Failure, FailureKind, NextStep, Scope, Stage, Verdict};
pub use health::Health;
pub use models::ClaudeModel;
pub use platform::{Platform, Preset};
pub use policy::{Clocks, MidStream, OnExhausted, Policy, Triggers};
pub use record::{AttemptEntry, Decision, ExchangeRecord, Tokens};
pub use retries::RetryMemory;
pub use route::{Candidate, Chain, ChainEntry, ChainRule, ModelPattern, Plan, ProfileId, Terms};
