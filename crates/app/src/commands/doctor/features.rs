//! Lists what Claude Code can and cannot do the way it is led through hotspare, and what brings back what can be brought back. Never sets
//! anything.

use hotspare_config::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Setup;

/// One thing that the way through hotspare changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Feature {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub on: bool,
    /// What brings it back, or why nothing does.
    pub how: String,
}

/// Name, the variable that brings it back, and what is lost without.
const LEVERS: [(&str, &str, &str); 3] = [
    ("MCP tool search", "ENABLE_TOOL_SEARCH", "every tool's description goes along with every request"),
    (
        "fine-grained tool streaming",
        "CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING",
        "tool calls appear at once and not as they are written",
    ),
    ("trace context", "CLAUDE_CODE_PROPAGATE_TRACEPARENT", "requests carry no `traceparent`"),
];

/// What only full mode keeps.
const GONE: [&str; 3] = ["Remote Control", "schedules and claude.ai connectors", "managed settings from the organisation"];

/// In this mode, with the settings as they are. Where the settings name no base URL, sessions are led by `hotspare run`, which sets the
/// switches itself.
pub(super) fn of(setup: &Setup, mode: Mode) -> Vec<Feature> {
    let full = mode == Mode::Full;
    let by_run = setup.value("ANTHROPIC_BASE_URL").is_none();
    let levers = LEVERS.iter().map(|(name, variable, lost)| {
        let set = setup.value(variable).is_some_and(|(_, value)| !matches!(value, "0" | "false"));
        let (on, how) = match (full, set, by_run) {
            (true, ..) => (true, "full mode switches nothing off".to_owned()),
            (false, true, _) => (true, format!("{variable} is set")),
            (false, false, true) => (true, "`hotspare run` switches it on".to_owned()),
            (false, false, false) => (false, format!("set {variable}=true; without it {lost}")),
        };
        Feature { name: (*name).to_owned(), on, how }
    });
    let long = setup.value("ANTHROPIC_MODEL").is_some_and(|(_, model)| model.contains("[1m]"));
    let how = if long { "the model names it" } else { "choose a `[1m]` model; else a base URL makes it 200k" };
    let context = Feature { name: "1M context".to_owned(), on: long || full, how: how.to_owned() };
    let how = if full { "passes through in full mode" } else { "off behind any base URL; on with `hotspare run --mode full`" };
    let gone = GONE.iter().map(|name| Feature { name: (*name).to_owned(), on: full, how: how.to_owned() });
    levers.chain([context]).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::Kind;
    use super::*;

    fn on(setup: &Setup, mode: Mode) -> Vec<String> {
        of(setup, mode).into_iter().filter(|feature| feature.on).map(|feature| feature.name).collect()
    }

    #[test]
    fn what_is_off_is_named_by_the_way_that_clients_are_led() {
        let base = ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4117");
        let wired = Setup::of(&[(Kind::User, &[base])], false);
        assert!(on(&wired, Mode::Auto).is_empty(), "behind a base URL all of it is off");
        let levers = Setup::of(&[(Kind::User, &[base, ("ENABLE_TOOL_SEARCH", "true"), ("ANTHROPIC_MODEL", "opus[1m]")])], false);
        assert_eq!(on(&levers, Mode::Base), ["MCP tool search", "1M context"]);
        assert_eq!(on(&Setup::default(), Mode::Auto).len(), LEVERS.len(), "`run` sets the switches");
        assert_eq!(on(&wired, Mode::Full).len(), LEVERS.len() + 1 + GONE.len());
    }
}
