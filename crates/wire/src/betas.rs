//! Knows which `anthropic-beta` values may go where, and which body fields belong to which. A header value and its fields travel together:
//! both or neither. Never sends an unknown value to another company.

use hotspare_core::{Platform, Preset};

/// A beta's name without its date, and the places in a body that only it allows: keys from the top, `*` for any item of a list.
struct Gate {
    beta: &'static str,
    fields: &'static [&'static str],
}

const fn gate(beta: &'static str, fields: &'static [&'static str]) -> Gate {
    Gate { beta, fields }
}

/// What each beta lets into a body.
const GATES: [Gate; 16] = [
    gate("context-management", &["context_management"]),
    gate("effort", &["output_config.effort"]),
    gate("structured-outputs", &["output_format", "output_config.format", "tools.*.strict"]),
    gate("advanced-tool-use", &["tools.*.defer_loading", "tools.*.input_examples", "tools.*.allowed_callers"]),
    gate("tool-search-tool", &["tools.*.defer_loading"]),
    gate("fine-grained-tool-streaming", &["tools.*.eager_input_streaming"]),
    gate("thinking-display-updates", &["thinking.display"]),
    gate("thinking-binding-controls", &["thinking.block_binding"]),
    gate("per-turn-control", &["messages.*.output_config"]),
    gate("mid-conversation-output-config", &["messages.*.output_config"]),
    gate("mid-conversation-system-clear-at", &["messages.*.clear_at"]),
    gate("fast-mode", &["speed"]),
    gate("mcp-client", &["mcp_servers"]),
    gate("dangerous-tool-use", &["safeguards"]),
    gate("cache-diagnosis", &["diagnostics"]),
    gate("prompt-caching-scope", &["cache_control.scope"]),
];

/// OpenRouter's table: what it documents for its endpoint in Anthropic's format, and what every platform keeps.
const OPENROUTER: [&str; 4] =
    ["context-1m-2025-08-07", "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14", "structured-outputs-2025-11-13"];

/// A LiteLLM gateway's: it maps these on to whatever is behind it.
const LITELLM: [&str; 6] = [
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "effort-2025-11-24",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "structured-outputs-2025-11-13",
];

/// The name of a beta at a platform. `None` if it does not go there.
///
/// A platform that knows the family under another date gets the name that it knows: the client sends `structured-outputs-2025-12-15`
/// (2.1.332) where `OpenRouter` documents `-2025-11-13`, and the fields of the body belong to the family.
pub fn name_at(platform: Platform, beta: &str) -> Option<&str> {
    table(platform).map_or(Some(beta), |known| known.iter().find(|known| family(known) == family(beta)).copied())
}

/// What a platform knows. `None` if it takes every beta.
fn table(platform: Platform) -> Option<&'static [&'static str]> {
    match platform {
        Platform::Anthropic => None,
        Platform::OpenRouter => Some(&OPENROUTER),
        Platform::Compatible(Preset::LiteLlm) => Some(&LITELLM),
        Platform::Compatible(_) => Some(&[]),
    }
}

/// A beta's name without its date.
pub fn family(beta: &str) -> &str {
    let undated = beta.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
    if undated.len() < beta.len() { undated } else { beta }
}

/// The betas of a header's values, in order.
pub fn listed<'a>(values: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|beta| !beta.is_empty())
}

/// The places in a body that go with a beta.
pub fn fields_of(beta: &str) -> impl Iterator<Item = &'static str> {
    let family = family(beta).to_owned();
    GATES.iter().filter(move |gate| gate.beta == family).flat_map(|gate| gate.fields.iter().copied())
}

/// The families of betas, one of which a place in a body needs.
pub fn families_of_field(field: &str) -> impl Iterator<Item = &'static str> {
    GATES.iter().filter(move |gate| gate.fields.contains(&field)).map(|gate| gate.beta)
}

/// The families of betas that lose their meaning with a place in a body: those of the place itself and of what is inside it.
pub fn families_within(field: &str) -> impl Iterator<Item = &'static str> {
    let inside = format!("{field}.");
    let gone = move |known: &&str| *known == field || known.starts_with(&inside);
    GATES.iter().filter(move |gate| gate.fields.iter().any(&gone)).map(|gate| gate.beta)
}

/// Whether a body may hold a place at a platform, as far as betas decide it: every place that needs one has one that goes there.
pub fn allows(platform: Platform, field: &str) -> bool {
    let Some(table) = table(platform) else { return true };
    let mut needed = families_of_field(field).peekable();
    needed.peek().is_none() || needed.any(|beta| table.iter().any(|kept| family(kept) == beta))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Claude Code 2.1.332 sends in its two modes, title requests included.
    const SENT: [&str; 19] = [
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "per-turn-control-2026-07-01",
        "mid-conversation-tool-changes-2026-07-01",
        "thinking-token-count-2026-05-13",
        "advanced-tool-use-2025-11-20",
        "effort-2025-11-24",
        "thinking-display-updates-2026-08-18",
        "dangerous-tool-use-2026-09-03",
        "afk-mode-2026-01-31",
        "oauth-2025-04-20",
        "extended-cache-ttl-2025-04-11",
        "prompt-caching-scope-2026-01-05",
        "thinking-binding-controls-2026-08-01",
        "tool-provenance-2026-10-26",
        "structured-outputs-2025-12-15",
        "mid-conversation-system-clear-at-2026-08-21",
        "cache-diagnosis-2026-04-07",
    ];

    fn kept(platform: Platform) -> Vec<&'static str> {
        SENT.into_iter().filter_map(|beta| name_at(platform, beta)).collect()
    }

    #[test]
    fn only_known_betas_go_to_another_company() {
        assert_eq!(kept(Platform::Anthropic), SENT);
        assert_eq!(kept(Platform::OpenRouter), ["interleaved-thinking-2025-05-14", "structured-outputs-2025-11-13"]);
        assert_eq!(
            kept(Platform::Compatible(Preset::LiteLlm)),
            ["interleaved-thinking-2025-05-14", "context-management-2025-06-27", "effort-2025-11-24", "structured-outputs-2025-11-13"]
        );
        for (_, preset) in Preset::NAMED.into_iter().filter(|(_, preset)| *preset != Preset::LiteLlm) {
            assert_eq!(kept(Platform::Compatible(preset)), [""; 0]);
        }
        assert_eq!(name_at(Platform::OpenRouter, "some-new-thing-2027-01-01"), None);
    }

    /// The dates of our tables beside the client's own: a new difference must be looked at when the pinned client moves.
    #[test]
    fn dated_names_differ_from_the_client_s_where_known() {
        let ours = OPENROUTER.iter().chain(&LITELLM);
        let mut differences: Vec<(&str, &str)> = ours
            .flat_map(|ours| {
                SENT.into_iter().filter(move |sent| family(sent) == family(ours) && sent != ours).map(move |sent| (*ours, sent))
            })
            .collect();
        differences.dedup();
        assert_eq!(differences, [("structured-outputs-2025-11-13", "structured-outputs-2025-12-15")]);
    }

    #[test]
    fn field_goes_where_its_beta_goes_under_any_date() {
        for beta in SENT {
            for field in fields_of(beta) {
                for platform in [Platform::OpenRouter, Platform::Compatible(Preset::LiteLlm), Platform::Compatible(Preset::Zai)] {
                    let goes = families_of_field(field).any(|family| name_at(platform, &format!("{family}-2031-01-01")).is_some());
                    assert_eq!(allows(platform, field), goes, "{beta} {field}");
                }
            }
        }
    }

    #[test]
    fn a_beta_and_its_fields_know_each_other() {
        assert_eq!(fields_of("context-management-2027-09-09").collect::<Vec<_>>(), ["context_management"]);
        assert_eq!(
            families_of_field("messages.*.output_config").collect::<Vec<_>>(),
            ["per-turn-control", "mid-conversation-output-config"]
        );
        assert_eq!(families_within("output_config").collect::<Vec<_>>(), ["effort", "structured-outputs"]);
        assert_eq!(families_within("output_config.effort").collect::<Vec<_>>(), ["effort"]);
        assert_eq!(families_of_field("output_config").next(), None);
        assert_eq!(fields_of("never-heard-of-2027-01-01").next(), None);
        assert_eq!(family("claude-code-20250219"), "claude-code");
        assert_eq!(family("context-1m-2025-08-07"), "context-1m");
    }

    #[test]
    fn a_field_goes_only_where_its_beta_goes() {
        assert!(allows(Platform::OpenRouter, "tools.*.strict") && !allows(Platform::OpenRouter, "context_management"));
        assert!(allows(Platform::Compatible(Preset::LiteLlm), "context_management"));
        assert!(!allows(Platform::Compatible(Preset::Zai), "tools.*.strict"));
        assert!(allows(Platform::Compatible(Preset::Zai), "max_tokens") && allows(Platform::Anthropic, "speed"));
    }
}
