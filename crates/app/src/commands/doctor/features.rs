//! Lists what Claude Code can and cannot do the way it is led through hotspare, and what brings back what can be brought back. Never sets
//! anything.

use hotspare_config::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Setup;
use crate::claude::BASE_URL;

/// How the client is led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Led {
    /// By its base URL.
    Base,
    /// hotspare is its HTTPS proxy.
    Full,
}

/// One thing that the way through hotspare changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Feature {
    /// Its name.
    pub name: String,
    /// Whether it is there, the way the client is led.
    pub on: bool,
    /// What brings it back, or why nothing does.
    pub how: String,
    /// Whether base mode has it, with its switches set.
    pub base: bool,
    /// Whether full mode has it.
    pub full: bool,
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

/// What only full mode keeps. Claude Code 2.1.332 asks for its own provider as the base URL before each (read in its program; the headers,
/// betas, Artifacts and side requests measured by `cargo xtask e2e parity`). docs/full-mode.md has the same names.
const GONE: [&str; 11] = [
    "Remote Control",
    "schedules and claude.ai connectors",
    "managed settings from the organisation",
    "Artifacts and their skills",
    "another model after a refusal",
    "offers at a usage limit",
    "model catalog and model notices",
    "prompt cache scope and keep-alive",
    "Haiku for side requests",
    "first-party betas",
    "first-party request headers",
];

/// How clients are led: by what the settings say; where they say nothing, as `hotspare run` does it.
pub(super) fn led(setup: &Setup, mode: Mode) -> Led {
    let by_base_url = setup.value(BASE_URL).is_some();
    let is_full = setup.our_proxy().is_some() || (!by_base_url && mode == Mode::Full);
    if is_full { Led::Full } else { Led::Base }
}

/// What there is and what there is not. Where the settings lead nowhere, sessions are led by `hotspare run`, which sets the switches itself.
pub(super) fn of(setup: &Setup, led: Led) -> Vec<Feature> {
    let full = led == Led::Full;
    let by_run = setup.value(BASE_URL).is_none() && setup.our_proxy().is_none();
    let levers = LEVERS.iter().map(|(name, variable, lost)| {
        let set = setup.value(variable).is_some_and(|(_, value)| !matches!(value, "0" | "false"));
        let (on, how) = match (full, set, by_run) {
            (true, ..) => (true, "full mode switches nothing off".to_owned()),
            (false, true, _) => (true, format!("{variable} is set")),
            (false, false, true) => (true, "`hotspare run` switches it on".to_owned()),
            (false, false, false) => (false, format!("set {variable}=true; without it {lost}")),
        };
        Feature { name: (*name).to_owned(), on, how, base: true, full: true }
    });
    let long = setup.value("ANTHROPIC_MODEL").is_some_and(|(_, model)| model.contains("[1m]"));
    let how = match (full, long) {
        (true, _) => "as without hotspare",
        (false, true) => "the model names it",
        (false, false) => "choose a `[1m]` model; else a base URL makes it 200k",
    };
    let context = Feature { name: "1M context".to_owned(), on: long || full, how: how.to_owned(), base: long, full: true };
    let how = match (full, by_run) {
        (true, _) => "passes through in full mode",
        (false, true) => "off behind any base URL; on with `hotspare run --mode full`",
        (false, false) => "off behind any base URL; on with `hotspare install --mode full`",
    };
    let gone = GONE.iter().map(|name| Feature { name: (*name).to_owned(), on: full, how: how.to_owned(), base: false, full: true });
    levers.chain([context]).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::Kind;
    use super::*;

    fn on(setup: &Setup, mode: Mode) -> Vec<String> {
        of(setup, led(setup, mode)).into_iter().filter(|feature| feature.on).map(|feature| feature.name).collect()
    }

    #[test]
    fn full_mode_document_names_what_base_mode_lacks() {
        let document = include_str!("../../../../../docs/full-mode.md");
        for name in GONE {
            assert!(document.contains(&format!("| {name} |")), "{name} is not in docs/full-mode.md");
        }
    }

    #[test]
    fn what_is_off_is_named_by_the_way_that_clients_are_led() {
        let base = (BASE_URL, "http://127.0.0.1:4117");
        let wired = Setup::of(&[(Kind::User, &[base])], false);
        assert!(on(&wired, Mode::Auto).is_empty(), "behind a base URL all of it is off");
        let levers = Setup::of(&[(Kind::User, &[base, ("ENABLE_TOOL_SEARCH", "true"), ("ANTHROPIC_MODEL", "opus[1m]")])], false);
        assert_eq!(on(&levers, Mode::Base), ["MCP tool search", "1M context"]);
        assert_eq!(on(&Setup::default(), Mode::Auto).len(), LEVERS.len(), "`run` sets the switches");
        assert!(on(&wired, Mode::Full).is_empty(), "the settings' base URL goes before what `run` would do");
        let full = Setup::of(&[(Kind::User, &[(BASE_URL, ""), ("HTTPS_PROXY", "http://hotspare:hs-1@127.0.0.1:4117")])], false);
        for by in [(&full, Mode::Auto), (&Setup::default(), Mode::Full)] {
            assert_eq!(on(by.0, by.1).len(), LEVERS.len() + 1 + GONE.len());
        }
        let differs: Vec<String> = of(&full, Led::Full).into_iter().filter(|one| !one.base && one.full).map(|one| one.name).collect();
        assert_eq!(differs.len(), 1 + GONE.len(), "{differs:?}");
    }
}
