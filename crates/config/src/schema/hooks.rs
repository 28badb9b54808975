//! The part of the schema under `hooks`. Never read: see `crate::hooks`.
#![expect(dead_code, reason = "only the schema of these types is used")]

use schemars::JsonSchema;
use serde_json::json;

use super::Duration;

/// What is called at which moment: programs and addresses, in Claude Code's shape for hooks. `docs/hooks.md` says what they are told and what
/// they may say.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({
    "PreFailover": [{ "matcher": "rate_limit|overloaded", "hooks": [{ "type": "command", "command": ["~/bin/may-switch"], "timeout": "3s" }] }],
    "PostFailover": [{ "hooks": [{ "type": "http", "url": "http://127.0.0.1:9000/notify" }] }]
}))]
pub(super) struct Hooks {
    /// After an attempt failed.
    #[schemars(rename = "AttemptFailure")]
    attempt_failure: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+AttemptFailure")]
    more_attempt_failure: Option<Vec<HookGroup>>,
    /// Before the same profile is asked again. The request waits; the hook may block the retry, or name another profile.
    #[schemars(rename = "PreRetry")]
    pre_retry: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+PreRetry")]
    more_pre_retry: Option<Vec<HookGroup>>,
    /// Before a request goes to another profile. The request waits; the hook may rule that profile out, or name another.
    #[schemars(rename = "PreFailover")]
    pre_failover: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+PreFailover")]
    more_pre_failover: Option<Vec<HookGroup>>,
    /// When the client gets the answer of another profile.
    #[schemars(rename = "PostFailover")]
    post_failover: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+PostFailover")]
    more_post_failover: Option<Vec<HookGroup>>,
    /// When a session is back at a better profile.
    #[schemars(rename = "Failback")]
    failback: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+Failback")]
    more_failback: Option<Vec<HookGroup>>,
    /// When no profile could answer a request.
    #[schemars(rename = "Exhausted")]
    exhausted: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+Exhausted")]
    more_exhausted: Option<Vec<HookGroup>>,
    /// When a usage window of a profile is nearly or wholly used up.
    #[schemars(rename = "LimitWarning")]
    limit_warning: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+LimitWarning")]
    more_limit_warning: Option<Vec<HookGroup>>,
    /// When a budget is used up.
    #[schemars(rename = "BudgetReached")]
    budget_reached: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+BudgetReached")]
    more_budget_reached: Option<Vec<HookGroup>>,
    /// When a profile is out of use: its circuit breaker opened, or its limit, login or credit is used up.
    #[schemars(rename = "ProfileDown")]
    profile_down: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+ProfileDown")]
    more_profile_down: Option<Vec<HookGroup>>,
    /// When it may be used again.
    #[schemars(rename = "ProfileUp")]
    profile_up: Option<Vec<HookGroup>>,
    /// Put behind the hooks of the layers below.
    #[schemars(rename = "+ProfileUp")]
    more_profile_up: Option<Vec<HookGroup>>,
}

/// Hooks, and the failures that they are called for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct HookGroup {
    /// Names of failures, with `|` between them: Claude Code's words for errors (`rate_limit`, `overloaded`, `authentication_failed`, …) or those
    /// of the failure table (`dns`, `head_timeout`, …). Default: all of them.
    #[schemars(regex(pattern = "^[a-z_|* ]*$"), example = &"rate_limit|overloaded")]
    matcher: Option<String>,
    /// What is called.
    hooks: Vec<Hook>,
}

/// A program or an address.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Hook {
    Command(CommandHook),
    Http(HttpHook),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CommandHook {
    /// A program is run, or an address is posted to.
    r#type: CommandType,
    /// A program and its arguments; no shell. What happened comes as JSON on its standard input.
    #[schemars(length(min = 1), example = json!(["~/bin/may-switch"]))]
    command: Vec<String>,
    /// Variables of hotspare's own environment that it gets besides `HOME`, `LANG`, `LC_ALL`, `LOGNAME`, `PATH`, `TMPDIR`, `TZ` and `USER`.
    env: Option<Vec<EnvName>>,
    /// It is killed after this, with all that it started; at most 30 s. Default: 5s.
    timeout: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct HttpHook {
    /// A program is run, or an address is posted to.
    r#type: HttpType,
    /// Where what happened is posted to as JSON: https, or http to this machine.
    #[schemars(regex(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s@?#\\\\]+$"), example = &"http://127.0.0.1:9000/notify")]
    url: String,
    /// It is given up after this; at most 30 s. Default: 5s.
    timeout: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
enum CommandType {
    /// A program.
    Command,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case", inline)]
enum HttpType {
    /// An address.
    Http,
}

/// The name of an environment variable.
#[derive(JsonSchema)]
#[schemars(inline)]
struct EnvName(#[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))] String);
