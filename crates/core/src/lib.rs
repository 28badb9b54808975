//! Decides what a failure means for a request and for a profile. Never does I/O, never waits, never reads a clock and never rolls
//! dice: time, chance and the state of the world are arguments.
//!
//! To follow a decision start at [`exchange::Exchange::poll`]; the table behind it is [`failure::FailureKind`].

pub mod affinity;
pub mod attempt;
pub mod blame;
pub mod budget;
pub mod commitment;
pub mod drill;
pub mod exchange;
pub mod facts;
pub mod failure;
pub mod fit;
pub mod health;
pub mod hook;
pub mod lasting;
pub mod models;
pub mod notice;
pub mod pause;
pub mod platform;
pub mod policy;
pub mod price;
pub mod record;
pub mod retries;
pub mod route;
pub mod spend;
pub mod window;
pub mod world;

pub use attempt::{AttemptId, AttemptKind, AttemptPlan};
pub use commitment::{Commitment, Ending, Position, Repair};
pub use drill::{DrillMark, Fault};
pub use exchange::{Action, Answer, BodyKind, Consultation, Exchange, LocalAnswer, Outcome, Ruling};
pub use facts::{ClientKind, Endpoint, ModelFamily, RequestFacts, SlowRequest};
pub use failure::{Failure, FailureKind, Grip, NextStep, Scope, Stage, Strike, Verdict};
pub use fit::{Misfit, Needs, Takes};
pub use health::Health;
pub use hook::{Gates, HookEvent, Matcher};
pub use lasting::{Calendar, Lasting};
pub use models::ClaudeModel;
pub use pause::Pause;
pub use platform::{Platform, Preset};
pub use policy::{Clocks, Failback, FailbackAt, MidStream, OnExhausted, Policy, SlowService, Triggers};
pub use price::Price;
pub use record::{AttemptEntry, Decision, ExchangeRecord, Tokens};
pub use retries::RetryMemory;
pub use route::{Candidate, Chain, ChainEntry, ChainRule, ModelPattern, PassedOver, Plan, ProfileId, Terms};
pub use spend::{Budget, Period, Spending};
pub use window::{LimitReading, UsageWindow, WindowReading, WindowStatus};
pub use world::{Surroundings, Switch, World};
