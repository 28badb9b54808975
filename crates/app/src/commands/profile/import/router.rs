//! claude-code-router (musistudio/claude-code-router): `config.json` up to version 2, `config.sqlite` since version 3.

use std::path::Path;

use serde_json::Value;

use super::model::{API_KEY, Entry, Foreign, Provider, State, bare, is_claude, is_openrouter, key, shown};
use super::settings::{families, family_map};

/// Routes that have no counterpart: they go by what a request holds, not by its model.
const OTHER_ROUTES: [&str; 4] = ["think", "longContext", "webSearch", "image"];

/// Whether a JSON value is the router's configuration.
pub(super) fn is_config(value: &Value) -> bool {
    value["Providers"].is_array() || (value["providers"].is_array() && (value["Router"].is_object() || value["HOST"].is_string()))
}

/// Every provider, and each of its keys where it has several.
pub(super) fn entries(file: &Path, value: &Value) -> Vec<Entry> {
    let providers = if value["Providers"].is_array() { &value["Providers"] } else { &value["providers"] };
    let mut entries = Vec::new();
    for provider in providers.as_array().into_iter().flatten() {
        let name = provider["name"].as_str().or(provider["id"].as_str()).unwrap_or("provider");
        let pool = pool(provider);
        for credential in &pool {
            let name = match credential.label {
                Some(label) if pool.len() > 1 => format!("{name} {label}"),
                _ => name.to_owned(),
            };
            entries.push(Entry { name, from: file.to_owned(), content: content(value, provider, credential) });
        }
    }
    entries
}

/// One key of a provider.
struct Credential<'a> {
    label: Option<&'a str>,
    key: Option<&'a str>,
    is_enabled: bool,
}

/// The keys of a provider: those of its pool by priority, else its own (docs, "Credential pool": the pool goes before the form's key). The
/// form's key is one of them where the pool does not have it.
fn pool(provider: &Value) -> Vec<Credential<'_>> {
    let key = |value: &'_ Value| -> Option<String> {
        ["api_key", "apiKey", "apikey"]
            .iter()
            .find_map(|name| value[*name].as_str())
            .map(|key| key.trim().to_owned())
            .filter(|key| !key.is_empty())
    };
    let raw = |value: &'_ Value| {
        ["api_key", "apiKey", "apikey"].into_iter().find(|name| value[*name].as_str().is_some_and(|key| !key.trim().is_empty()))
    };
    let own = raw(provider).and_then(|name| provider[name].as_str());
    let mut listed: Vec<&Value> =
        provider["credentials"].as_array().into_iter().flatten().filter(|credential| raw(credential).is_some()).collect();
    listed.sort_by_key(|credential| credential["priority"].as_i64().unwrap_or(i64::MAX));
    let mut pool: Vec<Credential<'_>> = listed
        .iter()
        .map(|credential| Credential {
            label: ["name", "label", "id"].into_iter().find_map(|name| credential[name].as_str()),
            key: raw(credential).and_then(|name| credential[name].as_str()),
            is_enabled: credential["enabled"].as_bool() != Some(false),
        })
        .collect();
    if pool.is_empty() || (own.is_some() && listed.iter().all(|credential| key(credential) != key(provider))) {
        pool.push(Credential { label: None, key: own, is_enabled: pool.iter().all(|credential| !credential.is_enabled) });
    }
    pool
}

fn content(config: &Value, provider: &Value, credential: &Credential<'_>) -> Result<Provider, String> {
    let name = provider["name"].as_str().unwrap_or_default();
    let text = |keys: &[&str]| keys.iter().find_map(|key| provider[*key].as_str()).map(str::trim).filter(|text| !text.is_empty());
    let url = text(&["api_base_url", "baseUrl", "baseurl"]);
    let capability =
        provider["capabilities"].as_array().into_iter().flatten().find(|capability| capability["type"] == "anthropic_messages");
    let capability = capability.and_then(|capability| capability["baseUrl"].as_str()).map(str::trim).filter(|url| !url.is_empty());
    let Some(url) = capability.or(url) else { return Err("has no address".to_owned()) };
    let kind = provider["type"].as_str().unwrap_or_default();
    let speaks = capability.is_some()
        || url.trim_end_matches('/').ends_with("/v1/messages")
        || kind.starts_with("anthropic")
        || is_passed_on(provider);
    if !speaks && !is_openrouter(url) {
        return Err(foreign(kind, url).into());
    }
    let key = key(credential.key.unwrap_or_default()).map_err(|why| why.replace("has an address and no key", "has no key"))?;
    let url = if is_openrouter(url) { super::model::OPENROUTER } else { base(url) };
    let header = if is_openrouter(url) || has_option(&provider["transformer"], "useBearer") { None } else { Some(API_KEY) };
    let (routes, mut notes) = routes(config, name);
    let listed: Vec<&str> = provider["models"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let has_claude = listed.iter().any(|model| is_claude(model));
    if routes.is_empty() && !listed.is_empty() && !has_claude {
        return Err(format!(
            "has no model of Claude's, and no route says which of its own stands for one (`{}`{})",
            shown(listed[0]),
            if listed.len() > 1 { ", …" } else { "" }
        ));
    }
    let is_off = provider["enabled"].as_bool() == Some(false);
    let state = match (is_off, credential.is_enabled) {
        (true, _) => State::Resting("it is switched off in claude-code-router".to_owned()),
        (false, false) => State::Resting("this key is switched off in claude-code-router".to_owned()),
        (false, true) => State::Enabled,
    };
    // A route to a model of Claude's puts no other one in its place: the name that was asked for is sent, as the provider spells it.
    let mapped = routes.into_iter().filter_map(|(pattern, model)| match is_claude(&model) {
        false => Some((pattern, model)),
        true if is_openrouter(url) => None,
        true => family_map(&model),
    });
    let mut found = Provider::new(url, key).with_header(header).with_state(state).with_models(mapped);
    if is_openrouter(url) && !listed.is_empty() {
        // OpenRouter has every model of Claude's, and takes money for it: those that are not listed stay refused.
        let is_listed = |family: &str| listed.iter().any(|model| is_claude(model) && model.to_ascii_lowercase().contains(family));
        if has_claude {
            let others = families().filter(|family| !is_listed(family)).map(|family| (format!("claude-{family}-*"), None));
            let is_free = |pattern: &String| found.models.iter().all(|(known, _)| known != pattern && known != "claude-*");
            let others: Vec<_> = others.filter(|(pattern, _)| is_free(pattern)).collect();
            found.models.splice(0..0, others);
        } else {
            found = found.without_other_claude_models();
        }
    }
    found.notes.append(&mut notes);
    Ok(found)
}

/// The models that the routes send to a provider: `default` for all of Claude's, `background` for the small ones.
fn routes(config: &Value, name: &str) -> (Vec<(String, String)>, Vec<String>) {
    let route = |route: &str| {
        let (at, model) = config["Router"][route].as_str()?.split_once(',')?;
        (at.trim() == name).then(|| bare(model).to_owned()).filter(|model| !model.is_empty())
    };
    let default = route("default").map(|model| ("claude-*".to_owned(), model));
    let background = route("background").map(|model| ("claude-haiku-*".to_owned(), model));
    let others: Vec<&str> = OTHER_ROUTES.into_iter().filter(|word| route(word).is_some()).collect();
    let notes = if others.is_empty() { Vec::new() } else { vec![format!("its routes for {} have no counterpart", others.join(", "))] };
    (background.into_iter().chain(default).collect(), notes)
}

/// Whether the router passes requests on in Anthropic's format: its `Anthropic` transformer, and nothing else.
fn is_passed_on(provider: &Value) -> bool {
    let uses = provider["transformer"]["use"].as_array();
    uses.is_some_and(|uses| {
        uses.len() == 1
            && uses.iter().all(|one| one.as_str().or(one[0].as_str()).is_some_and(|name| name.eq_ignore_ascii_case("anthropic")))
    })
}

/// Whether an option is on somewhere in a transformer.
fn has_option(transformer: &Value, option: &str) -> bool {
    match transformer {
        Value::Object(members) => members.iter().any(|(name, value)| (name == option && value == true) || has_option(value, option)),
        Value::Array(list) => list.iter().any(|value| has_option(value, option)),
        _ => false,
    }
}

fn foreign(kind: &str, url: &str) -> Foreign {
    match kind {
        "openai_responses" => Foreign::OpenAiResponses,
        "gemini_generate_content" | "gemini_interactions" => Foreign::Gemini,
        _ if url.contains("generativelanguage.googleapis.com") => Foreign::Gemini,
        _ if url.contains("aiplatform.googleapis.com") => Foreign::Vertex,
        _ => Foreign::OpenAiChat,
    }
}

/// The address without what hotspare adds itself.
fn base(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1/messages").or(url.strip_suffix("/v1")).unwrap_or(url).trim_end_matches('/')
}
