//! Knows the platforms and presets by their words: where each is, how it is authenticated, what it calls Claude's models. Never guesses a
//! model: a name that is not known there is no name.

use hotspare_core::{ClaudeModel, Platform, Preset};

use crate::auth::AuthHeader;
use crate::base_url::BaseUrl;
use crate::codes;
use crate::reader::{Findings, Table};

/// Where OpenRouter's endpoint in Anthropic's format begins.
const OPENROUTER: &str = "https://openrouter.ai/api";

/// The published format's platforms that this version does not speak, with what to use instead.
const NOT_YET: &[(&str, &str)] = &[
    ("bedrock", THROUGH_GATEWAY),
    ("claude_on_aws", THROUGH_GATEWAY),
    ("vertex", THROUGH_GATEWAY),
    ("foundry", THROUGH_GATEWAY),
    ("openai", THROUGH_GATEWAY),
];

const THROUGH_GATEWAY: &str = r#"reach it through a gateway that speaks the Anthropic format, with `"platform": "anthropic_compatible"`"#;

/// Providers that a host's name gives away. What is known of them holds without a preset too.
const HOSTS: [(&str, Platform); 9] = [
    ("openrouter.ai", Platform::OpenRouter),
    ("api.deepseek.com", Platform::Compatible(Preset::DeepSeek)),
    ("api.z.ai", Platform::Compatible(Preset::Zai)),
    ("open.bigmodel.cn", Platform::Compatible(Preset::Zai)),
    ("api.moonshot.ai", Platform::Compatible(Preset::Kimi)),
    ("api.moonshot.cn", Platform::Compatible(Preset::Kimi)),
    ("api.kimi.com", Platform::Compatible(Preset::Kimi)),
    ("api.minimax.io", Platform::Compatible(Preset::MiniMax)),
    ("api.minimaxi.com", Platform::Compatible(Preset::MiniMax)),
];

/// Reads `platform` and `preset`. None comes with an error: without them nothing else about the profile can be judged.
pub(crate) fn read(table: &mut Table<'_>, findings: &mut Findings) -> Option<Platform> {
    let words = [
        ("anthropic", Platform::Anthropic),
        ("anthropic_compatible", Platform::Compatible(Preset::Plain)),
        ("openrouter", Platform::OpenRouter),
    ];
    let platform = match table.take("platform") {
        None => None,
        Some(field) => Some(field.word(&words, NOT_YET, findings)?),
    };
    let Some(field) = table.take("preset") else { return Some(platform.unwrap_or(Platform::Anthropic)) };
    let preset = field.word(&Preset::NAMED, &[], findings)?;
    if platform.is_some_and(|platform| !matches!(platform, Platform::Compatible(_))) {
        let title = format!("`{}` does not go with this platform", field.path);
        findings
            .error(codes::PRESET_ELSEWHERE, &field.at(), title, "a preset of another platform")
            .help(r#"remove the preset, or write `"platform": "anthropic_compatible"`"#);
        return None;
    }
    Some(Platform::Compatible(preset))
}

/// What the address says of a platform whose provider is not named.
pub(crate) fn at_address(platform: Platform, url: &BaseUrl) -> Platform {
    match platform {
        Platform::Compatible(Preset::Plain) => HOSTS.iter().find(|(host, _)| *host == url.host).map_or(platform, |(_, known)| *known),
        platform => platform,
    }
}

/// Where a platform is, unless the profile says otherwise; none: it must say.
pub(crate) fn address(platform: Platform) -> Option<&'static str> {
    match platform {
        Platform::Anthropic => Some("https://api.anthropic.com"),
        Platform::OpenRouter => Some(OPENROUTER),
        Platform::Compatible(preset) => match preset {
            Preset::Plain => None,
            Preset::DeepSeek => Some("https://api.deepseek.com/anthropic"),
            Preset::Zai => Some("https://api.z.ai/api/anthropic"),
            Preset::Kimi => Some("https://api.moonshot.ai/anthropic"),
            Preset::MiniMax => Some("https://api.minimax.io/anthropic"),
            Preset::Ollama => Some("http://127.0.0.1:11434"),
            Preset::LmStudio => Some("http://127.0.0.1:1234"),
            Preset::Vllm => Some("http://127.0.0.1:8000"),
            Preset::LlamaCpp => Some("http://127.0.0.1:8080"),
            Preset::LiteLlm => Some("http://127.0.0.1:4000"),
        },
    }
}

/// Whether it usually runs on this machine and asks for no credential.
pub(crate) fn needs_no_credential(platform: Platform, url: &BaseUrl) -> bool {
    let server = matches!(platform, Platform::Compatible(Preset::Ollama | Preset::LmStudio | Preset::Vllm | Preset::LlamaCpp));
    server && url.is_loopback()
}

/// In which header a platform takes its credential, where the profile does not say: Anthropic tells keys from tokens by their form, all
/// others known take Bearer, and not all of them anything else.
pub(crate) fn header(platform: Platform) -> AuthHeader {
    match platform {
        Platform::Anthropic => AuthHeader::Auto,
        Platform::OpenRouter | Platform::Compatible(_) => AuthHeader::Bearer,
    }
}

/// What a platform calls a model by itself, where the profile's own map has nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OwnNames {
    /// What the client calls it.
    #[default]
    Same,
    /// The built-in table; a name with a vendor before it is already one of its own.
    OpenRouter,
    /// Nothing: it has models of its own, and which of them is meant only the user can say.
    Unknown,
}

impl OwnNames {
    /// Of a platform.
    pub(crate) fn of(platform: Platform) -> Self {
        match platform {
            Platform::OpenRouter => Self::OpenRouter,
            Platform::Compatible(preset) if preset.has_own_models() => Self::Unknown,
            Platform::Anthropic | Platform::Compatible(_) => Self::Same,
        }
    }

    /// The platform's name for a model.
    pub(crate) fn name(self, model: &str) -> Option<String> {
        match self {
            Self::Same => Some(model.to_owned()),
            Self::OpenRouter if model.contains('/') => Some(model.to_owned()),
            Self::OpenRouter => ClaudeModel::of(model).and_then(ClaudeModel::openrouter_name),
            Self::Unknown => None,
        }
    }
}

/// What a provider with models of its own says itself that it gives for Claude's names, by its preset; empty where it says nothing that
/// lasts: elsewhere the names of models change with each version, and one that is gone is worse than none.
///
/// DeepSeek: <https://api-docs.deepseek.com/guides/anthropic_api>, as of November 2026.
pub fn stand_ins(preset: &str) -> &'static [(&'static str, &'static str)] {
    match preset {
        "deepseek" => &[("claude-opus-*", "deepseek-v4-pro"), ("claude-*", "deepseek-flash")],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_an_address_that_is_a_usable_url() {
        for (name, preset) in Preset::NAMED {
            let address = address(Platform::Compatible(preset)).unwrap_or_else(|| panic!("{name} has no address"));
            let url = BaseUrl::parse(address).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!url.needs_allow_http(), "{name}");
            assert_eq!(url.to_string(), address);
        }
        assert!(BaseUrl::parse(OPENROUTER).is_ok());
    }

    #[test]
    fn a_host_gives_its_provider_away() {
        let at = |address: &str| at_address(Platform::Compatible(Preset::Plain), &BaseUrl::parse(address).expect("an address"));
        assert_eq!(at("https://openrouter.ai/api"), Platform::OpenRouter);
        assert_eq!(at("https://open.bigmodel.cn/api/anthropic"), Platform::Compatible(Preset::Zai));
        assert_eq!(at("https://gateway.example"), Platform::Compatible(Preset::Plain));
    }
}
