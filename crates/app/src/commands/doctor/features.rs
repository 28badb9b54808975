//! Lists what Claude Code can and cannot do behind a base URL, and which setting brings back what can be brought back. Never sets one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Setup;

/// One thing that a base URL changes.
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

/// What nothing brings back behind a base URL.
const GONE: [(&str, &str); 3] = [
    ("Remote Control", "off behind any base URL"),
    ("schedules and claude.ai connectors", "off behind any base URL"),
    ("managed settings from the organisation", "not fetched behind any base URL"),
];

/// With the settings as they are.
pub(super) fn of(setup: &Setup) -> Vec<Feature> {
    let levers = LEVERS.iter().map(|(name, variable, lost)| {
        let on = setup.value(variable).is_some_and(|(_, value)| !matches!(value, "0" | "false"));
        let how = if on { format!("{variable} is set") } else { format!("set {variable}=true; without it {lost}") };
        Feature { name: (*name).to_owned(), on, how }
    });
    let long = setup.value("ANTHROPIC_MODEL").is_some_and(|(_, model)| model.contains("[1m]"));
    let how = if long { "the model names it" } else { "choose a `[1m]` model; else 200k are assumed" };
    let context = Feature { name: "1M context".to_owned(), on: long, how: how.to_owned() };
    let gone = GONE.iter().map(|(name, why)| Feature { name: (*name).to_owned(), on: false, how: (*why).to_owned() });
    levers.chain([context]).chain(gone).collect()
}
