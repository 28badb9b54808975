//! Claude Code's own variables: where they send it, with which credential and models. Settings files, cc-switch and shell files all hold
//! the same ones.

use serde_json::{Value, json};

use super::model::{ANTHROPIC, API_KEY, Foreign, Key, Provider, bare, is_anthropic, is_claude, literal, shown};

/// Clouds by the variable that turns Claude Code to them (`claude.rs` knows the same ones).
const CLOUDS: [(&str, Foreign); 5] = [
    ("CLAUDE_CODE_USE_BEDROCK", Foreign::Bedrock),
    ("CLAUDE_CODE_USE_MANTLE", Foreign::Bedrock),
    ("CLAUDE_CODE_USE_VERTEX", Foreign::Vertex),
    ("CLAUDE_CODE_USE_FOUNDRY", Foreign::Foundry),
    ("CLAUDE_CODE_USE_ANTHROPIC_AWS", Foreign::ClaudeOnAws),
];

/// Families of Claude's models, with the variables that say what stands for each.
const FAMILIES: [(&str, &str); 4] = [
    ("fable", "ANTHROPIC_DEFAULT_FABLE_MODEL"),
    ("opus", "ANTHROPIC_DEFAULT_OPUS_MODEL"),
    ("sonnet", "ANTHROPIC_DEFAULT_SONNET_MODEL"),
    ("haiku", "ANTHROPIC_DEFAULT_HAIKU_MODEL"),
];

/// What a variable is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// A text.
    Text(String),
    /// Something that a profile can point at (`auth`).
    Reference(Value),
    /// Something that only a shell can work out, in words.
    Unknown(String),
}

impl Setting {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            Self::Reference(_) | Self::Unknown(_) => None,
        }
    }

    /// The key that it is, or why it is none.
    fn key(&self) -> Result<Key, String> {
        match self {
            Self::Text(text) => literal(text),
            Self::Reference(auth) => Ok(Key::Reference(auth.clone())),
            Self::Unknown(words) => Err(format!("has its key {words}")),
        }
    }
}

/// Looks a variable up; `None` if it is not set or empty.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<Setting>;

/// Looks a variable up in an object such as `env` of settings.
pub(super) fn of_object(env: &Value) -> impl Fn(&str) -> Option<Setting> + '_ {
    |name| {
        let text = match &env[name] {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => env[name].to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.trim().is_empty()).then_some(Setting::Text(text))
    }
}

/// Where Claude Code would go with these settings.
///
/// # Errors
///
/// The reason why no profile can go there.
pub(super) fn of_settings(settings: &Value) -> Result<Provider, String> {
    of_variables(&of_object(&settings["env"]), settings["apiKeyHelper"].as_str().filter(|helper| !helper.trim().is_empty()))
}

/// Where Claude Code would go with these variables; `helper` prints a key.
///
/// # Errors
///
/// The reason why no profile can go there.
pub(super) fn of_variables(get: Lookup<'_>, helper: Option<&str>) -> Result<Provider, String> {
    let text = |name: &str| get(name).as_ref().and_then(Setting::text).map(str::to_owned);
    if let Some((_, cloud)) = CLOUDS.iter().find(|(name, _)| text(name).is_some_and(|value| is_on(&value))) {
        return Err((*cloud).into());
    }
    let url = match get("ANTHROPIC_BASE_URL") {
        None => ANTHROPIC.to_owned(),
        Some(Setting::Text(url)) => url.trim().to_owned(),
        Some(Setting::Reference(_) | Setting::Unknown(_)) => return Err("has an address that only its shell can work out".to_owned()),
    };
    if let Some(cloud) = cloud_at(&url) {
        return Err(cloud.into());
    }
    let token = get("ANTHROPIC_AUTH_TOKEN");
    let api_key = get("ANTHROPIC_API_KEY");
    // As Claude Code sends them: a token as Bearer, a key as `x-api-key`.
    let header = (token.is_none() && api_key.is_some()).then_some(API_KEY);
    let mut notes = Vec::new();
    let is_same = token == api_key;
    let key = match (token, api_key) {
        (Some(token), other) => {
            if other.is_some() && !is_same {
                notes.push("its `ANTHROPIC_API_KEY` is left out: `ANTHROPIC_AUTH_TOKEN` goes before it".to_owned());
            }
            token.key()?
        }
        (None, Some(key)) => key.key()?,
        (None, None) => match (helper, get("CLAUDE_CODE_OAUTH_TOKEN").filter(|_| is_anthropic(&url))) {
            (Some(helper), _) => Key::Reference(json!({ "command": ["sh", "-c", helper] })),
            (None, Some(token)) => token.key()?,
            (None, None) if is_anthropic(&url) => return Err("is the client's own login: nothing to import".to_owned()),
            (None, None) if get("ANTHROPIC_CUSTOM_HEADERS").is_some() => {
                return Err("has its key in `ANTHROPIC_CUSTOM_HEADERS`, which a profile cannot send".to_owned());
            }
            (None, None) => return Err("has an address and no key".to_owned()),
        },
    };
    if get("ANTHROPIC_CUSTOM_HEADERS").is_some() {
        notes.push("its `ANTHROPIC_CUSTOM_HEADERS` do not come along".to_owned());
    }
    let models = if is_anthropic(&url) { Vec::new() } else { models(&text) };
    let mut provider = Provider::new(&url, key).with_header(header).with_models(models);
    provider.notes.splice(0..0, notes);
    Ok(provider)
}

/// As the client reads a switch.
fn is_on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

/// A cloud's own endpoint, which wants its own signatures.
fn cloud_at(url: &str) -> Option<Foreign> {
    let host = super::model::host(url);
    let is_aws = host.starts_with("bedrock-runtime") && host.contains("amazonaws.com");
    if is_aws {
        return Some(Foreign::Bedrock);
    }
    host.ends_with("aiplatform.googleapis.com").then_some(Foreign::Vertex)
}

/// The models that stand for Claude's. A name of Claude's stands for itself: another one of hers is never put in its place.
fn models(text: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut models = Vec::new();
    let of_family =
        |family: &str, variable: &str| text(variable).or_else(|| if family == "haiku" { text("ANTHROPIC_SMALL_FAST_MODEL") } else { None });
    for (family, variable) in FAMILIES {
        let model = of_family(family, variable).filter(|model| !is_own_name(model, family));
        models.extend(model.map(|model| (format!("claude-{family}-*"), model)));
    }
    let Some(main) = text("ANTHROPIC_MODEL") else { return models };
    let main = match alias(bare(&main)) {
        // An alias stands for what its family's variable says.
        Some(family) => FAMILIES.iter().find(|(known, _)| *known == family).and_then(|(family, variable)| of_family(family, variable)),
        None => Some(main),
    };
    match main {
        Some(main) if !is_claude(&main) => models.push(("claude-*".to_owned(), main)),
        Some(main) => {
            let map = family_map(&main).filter(|(pattern, _)| models.iter().all(|(known, _)| known != pattern));
            models.extend(map);
        }
        None => {}
    }
    models
}

/// The families of Claude's models.
pub(super) fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(family, _)| *family)
}

/// The map that a provider's own spelling of a Claude model needs, for its family alone; `None` if it is spelt as Anthropic does.
pub(super) fn family_map(model: &str) -> Option<(String, String)> {
    let family = families().find(|family| bare(model).to_ascii_lowercase().contains(family))?;
    (!is_own_name(model, family)).then(|| (format!("claude-{family}-*"), model.to_owned()))
}

/// Whether it is a name of the family as Anthropic spells it, so that nothing need be put in its place.
fn is_own_name(model: &str, family: &str) -> bool {
    let model = bare(model).to_ascii_lowercase();
    model.strip_prefix("claude-").is_some_and(|rest| rest.split('-').any(|part| part == family) && !rest.contains(['.', '/', ':', '@']))
}

/// The family that a word of `--model` means.
fn alias(model: &str) -> Option<&'static str> {
    match model.to_ascii_lowercase().as_str() {
        "opus" | "opusplan" | "best" => Some("opus"),
        "sonnet" => Some("sonnet"),
        "haiku" => Some("haiku"),
        "fable" => Some("fable"),
        // What it means depends on the account.
        "default" => Some(""),
        _ => None,
    }
}

/// `name` with what it cannot be: a sentence about an entry.
pub(super) fn about(name: &str, what: &str) -> String {
    format!("`{}` {what}", shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(env: &Value) -> Provider {
        of_settings(&json!({ "env": env })).unwrap_or_else(|why| panic!("{env}: {why}"))
    }

    #[track_caller]
    fn check_models(variables: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut env = json!({ "ANTHROPIC_BASE_URL": "https://gw.example", "ANTHROPIC_AUTH_TOKEN": "sk-test-1" });
        for (name, value) in variables {
            env[*name] = (*value).into();
        }
        let found: Vec<(String, Option<String>)> = provider(&env).models;
        let expected: Vec<_> = expected.iter().map(|(from, to)| ((*from).to_owned(), Some((*to).to_owned()))).collect();
        assert_eq!(found, expected, "{variables:?}");
    }

    #[test]
    fn model_variables_never_put_one_claude_in_place_of_another() {
        check_models(&[("ANTHROPIC_MODEL", "glm-5[1m]")], &[("claude-*", "glm-5")]);
        check_models(&[("ANTHROPIC_MODEL", "claude-sonnet-4-5")], &[]);
        check_models(&[("ANTHROPIC_MODEL", "anthropic/claude-sonnet-4.5")], &[("claude-sonnet-*", "anthropic/claude-sonnet-4.5")]);
        check_models(&[("ANTHROPIC_MODEL", "opus")], &[]);
        check_models(&[("ANTHROPIC_MODEL", "default")], &[]);
        check_models(
            &[("ANTHROPIC_MODEL", "opus"), ("ANTHROPIC_DEFAULT_OPUS_MODEL", "glm-5")],
            &[("claude-opus-*", "glm-5"), ("claude-*", "glm-5")],
        );
        check_models(&[("ANTHROPIC_SMALL_FAST_MODEL", "air")], &[("claude-haiku-*", "air")]);
        check_models(&[("ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-haiku-4.5")], &[("claude-haiku-*", "claude-haiku-4.5")]);
        check_models(&[("ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-3-5-haiku-20241022")], &[]);
        // The owner says so in so many words.
        check_models(&[("ANTHROPIC_DEFAULT_OPUS_MODEL", "claude-sonnet-5")], &[("claude-opus-*", "claude-sonnet-5")]);
    }

    #[test]
    fn clouds_are_named_as_what_they_are() {
        for (variable, value, words) in [
            ("CLAUDE_CODE_USE_BEDROCK", json!("1"), "Amazon Bedrock"),
            ("CLAUDE_CODE_USE_BEDROCK", json!(1), "Amazon Bedrock"),
            ("CLAUDE_CODE_USE_VERTEX", json!(true), "Google Vertex AI"),
            ("CLAUDE_CODE_USE_FOUNDRY", json!("true"), "Microsoft Foundry"),
            ("CLAUDE_CODE_USE_ANTHROPIC_AWS", json!("1"), "Claude Platform on AWS"),
            ("ANTHROPIC_BASE_URL", json!("https://bedrock-runtime.us-west-2.amazonaws.com"), "Amazon Bedrock"),
        ] {
            let why = of_settings(&json!({ "env": { (variable): value, "ANTHROPIC_API_KEY": "sk-test-1" } })).err().unwrap_or_default();
            assert!(why.contains(words), "{variable}: {why}");
        }
        assert!(of_settings(&json!({ "env": { "CLAUDE_CODE_USE_BEDROCK": "0", "ANTHROPIC_API_KEY": "sk-test-1" } })).is_ok());
    }

    #[test]
    fn second_key_is_noted_and_not_lost_in_silence() {
        let both = provider(&json!({ "ANTHROPIC_AUTH_TOKEN": "sk-test-1", "ANTHROPIC_API_KEY": "sk-test-2" }));
        assert!(both.header.is_none() && both.notes[0].contains("`ANTHROPIC_API_KEY` is left out"), "{:?}", both.notes);
        assert!(provider(&json!({ "ANTHROPIC_AUTH_TOKEN": "sk-test-1", "ANTHROPIC_API_KEY": "sk-test-1" })).notes.is_empty());
    }
}
