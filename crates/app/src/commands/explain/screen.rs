//! Words and HTTP statuses that screens show, besides failure kinds and exit codes.

use hotspare_core::HookEvent;

/// A word, its meaning, and what to do.
pub(super) type Row = (&'static str, &'static str, &'static str);

/// Words of `status`, `profile list` and the status line.
pub(super) const STATES: [Row; 16] = [
    ("serving", "the profile answers requests now", "nothing"),
    ("ready", "the profile can be used, and another one serves", "nothing"),
    ("cooling", "the profile failed a moment ago; requests go to the next one until its cooldown ends", "wait, or `hotspare reset NAME`"),
    ("open", "the profile's circuit breaker is open: it failed too often in a short time", "wait, or `hotspare reset NAME`"),
    ("half-open", "the profile is on trial: single requests go there, and good answers bring it back", "nothing"),
    (
        "blocked",
        "waiting alone may not help: a login, credit, a key or a usage window",
        "`hotspare status` names the cause and the command",
    ),
    ("offline", "this machine's network is down", "look at this machine's network"),
    ("paused", "you paused the profile, or failover is off", "`hotspare profile resume NAME`"),
    ("spent", "the profile has used up its budget of the day", "wait for the next day, or raise `budget` in the configuration"),
    ("missing key", "the process that serves cannot read the profile's credential", "`hotspare doctor` says where to put it"),
    ("protected", "a client goes through hotspare, its profile serves, and a spare can take over", "nothing"),
    ("switch", "you chose the profile that comes first", "`hotspare switch auto` goes back to the chain"),
    ("failover", "a request went on at another profile because one failed", "`hotspare why` shows the cause"),
    ("probe", "a small request or a connection that finds out whether a profile is well again", "nothing"),
    ("primary", "the first profile of a chain", "nothing"),
    ("spare", "a profile that takes over when the ones before it cannot answer", "nothing"),
];

/// HTTP statuses, as `why` and `logs` show them.
pub(super) const STATUSES: [Row; 14] = [
    (
        "400",
        "the provider rejects the request as invalid; from a spare the next profile is tried",
        "read the provider's words: `hotspare why`",
    ),
    (
        "401",
        "the credential is not accepted; from hotspare itself: the local token is missing",
        "log in again, or renew the key; `hotspare doctor`",
    ),
    ("402", "the account has no credit or its payment failed", "add credit at the provider, then `hotspare reset NAME`"),
    ("403", "the account or key may not do this, or a firewall stands before the provider", "look at what the key may do; `hotspare why`"),
    ("404", "the model or the address does not exist there", "map the model (`models`), or correct `base_url`"),
    ("408", "the request took too long to arrive", "look at the network between the client and the provider"),
    ("413", "the request is too large", "compact the conversation (`/compact`), or raise `server.max_body` if hotspare refused it"),
    ("424", "the request leads back to hotspare itself", "correct `base_url` of the profile"),
    ("429", "too many requests, or a usage limit is reached", "`hotspare status` shows which limit and its reset"),
    ("500", "the provider failed", "wait: a spare answers meanwhile"),
    ("502", "a gateway before the provider got no valid answer", "wait; where only you see it, look at that gateway"),
    ("503", "the provider or a gateway before it is unavailable", "wait: a spare answers meanwhile"),
    ("504", "a gateway before the provider waited too long", "wait: a spare answers meanwhile"),
    ("529", "the provider is overloaded", "wait: a spare answers meanwhile"),
];

/// The document of `doctor`'s checks: a heading for each.
const CHECKS: &str = include_str!("../../../../../docs/doctor.md");

/// `doctor`'s checks with what each looks at.
pub(super) fn checks() -> impl Iterator<Item = (&'static str, String)> {
    let sections = CHECKS.split("\n## ").skip(1);
    sections.filter_map(|section| {
        let (name, text) = section.split_once('\n')?;
        Some((name.trim(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    })
}

/// When the event's hooks are called.
pub(super) fn event_meaning(event: HookEvent) -> &'static str {
    match event {
        HookEvent::AttemptFailure => "an attempt failed",
        HookEvent::PreRetry => "before a retry at the same profile; may decide",
        HookEvent::PreFailover => "before a request goes to another profile; may decide",
        HookEvent::PostFailover => "the client got the answer of another profile",
        HookEvent::Failback => "a session is back at a better profile",
        HookEvent::Exhausted => "no profile could answer a request",
        HookEvent::LimitWarning => "a usage window is nearly or wholly used up",
        HookEvent::BudgetReached => "a budget is used up",
        HookEvent::ProfileDown => "a profile is out of use",
        HookEvent::ProfileUp => "a profile may be used again",
    }
}
