//! Reads LiteLLM's YAML: each address with its key is one way out, and the models that lead there are its model map. Never asks anybody, and
//! takes nothing whose provider has no endpoint in Anthropic's format.

use std::path::Path;

use serde_json::{Map, Value};

use super::sources::{API_KEY, Key, Look, MOST, address, literal};

/// Most entries of `model_list`; several lead to one way out.
const MOST_MODELS: usize = 2048;

/// Where one entry of `model_list` leads.
struct Way {
    provider: String,
    url: String,
    key: String,
    models: Map<String, Value>,
}

impl Look {
    pub(super) fn litellm(&mut self, file: &Path, value: &Value) {
        let Some(entries) = value["model_list"].as_array() else {
            return self.skip(file, "it has no `model_list`: no LiteLLM file that can be read here");
        };
        let mut ways: Vec<Way> = Vec::new();
        for entry in entries.iter().take(MOST_MODELS) {
            match way(value, entry) {
                Ok(way) => merge(&mut ways, way),
                Err(why) => self.skip_once(file, why),
            }
        }
        if entries.len() > MOST_MODELS || ways.len() > MOST {
            self.skip(file, format!("more than {MOST_MODELS} models or {MOST} ways out: the rest was not looked at"));
        }
        for way in ways.into_iter().take(MOST) {
            let own = address(&way.provider) == Some(way.url.as_str());
            let name = if own { way.provider.as_str() } else { host(&way.url) };
            // LiteLLM sends the key of an address of one's own as Anthropic's.
            let header = if way.provider == "anthropic" && !own { Some(API_KEY) } else { None };
            self.add(file, name, &way.url, key(value, &way.key), header, way.models);
        }
    }

    /// The same reason of many entries is said once.
    fn skip_once(&mut self, file: &Path, why: String) {
        if !self.skipped.iter().any(|(_, said)| *said == why) {
            self.skip(file, why);
        }
    }
}

/// What is said of an entry: its own parameters, then those of the credential that it names.
fn parameter<'a>(file: &'a Value, entry: &'a Value, name: &str) -> Option<&'a str> {
    let parameters = &entry["litellm_params"];
    let credentials = file["credential_list"].as_array().into_iter().flatten();
    let wanted = parameters["litellm_credential_name"].as_str();
    let mut named = credentials.filter(|known| wanted.is_some() && known["credential_name"].as_str() == wanted);
    let own = parameters[name].as_str();
    own.or_else(|| named.next()?["credential_values"][name].as_str()).map(str::trim).filter(|text| !text.is_empty())
}

fn way(file: &Value, entry: &Value) -> Result<Way, String> {
    let shown = entry["model_name"].as_str().unwrap_or_default();
    let model = parameter(file, entry, "model").ok_or_else(|| format!("`{shown}` names no model"))?;
    let (provider, model) = match (parameter(file, entry, "custom_llm_provider"), model.split_once('/')) {
        (Some(provider), Some((first, rest))) if first == provider => (provider, rest),
        (Some(provider), _) => (provider, model),
        (None, Some(both)) => both,
        (None, None) if model.starts_with("claude-") => ("anthropic", model),
        (None, None) => return Err(format!("`{shown}` does not say who its provider is")),
    };
    let Some(usual) = address(provider) else {
        return Err(format!(
            "its `{provider}` models speak another format than Anthropic's: LiteLLM itself can answer for them, \
             `hotspare profile add litellm --preset litellm`"
        ));
    };
    let base = parameter(file, entry, "api_base").map(|base| resolved(file, base));
    let url = match base {
        None => usual,
        Some(Err(variable)) => return Err(format!("`{shown}` has its address in the variable `{variable}`")),
        // Theirs is the one in OpenAI's format, unless it says that it is Anthropic's.
        Some(Ok(_)) if provider == "openrouter" => usual,
        Some(Ok(base)) if provider == "anthropic" || base.contains("/anthropic") => {
            let base = base.trim_end_matches('/');
            base.strip_suffix("/v1/messages").or(base.strip_suffix("/v1")).unwrap_or(base)
        }
        Some(Ok(_)) => return Err(format!("`{shown}` has an address in another format than Anthropic's")),
    };
    let key = match parameter(file, entry, "api_key") {
        Some(key) => key.to_owned(),
        None if url == usual => format!("os.environ/{}_API_KEY", provider.to_ascii_uppercase()),
        None => return Err(format!("`{shown}` has an address and no key")),
    };
    let mut models = Map::new();
    // Anthropic knows the client's names itself; a pattern on both sides maps nothing.
    if usual != url || provider != "anthropic" {
        models.extend((!shown.is_empty() && !model.contains('*')).then(|| (shown.to_owned(), model.into())));
    }
    Ok(Way { provider: provider.to_owned(), url: url.to_owned(), key, models })
}

/// Adds to the way out with the same address and key; the first entry for a name counts.
fn merge(ways: &mut Vec<Way>, way: Way) {
    match ways.iter_mut().find(|known| known.provider == way.provider && known.url == way.url && known.key == way.key) {
        Some(known) => {
            for (name, model) in way.models {
                known.models.entry(name).or_insert(model);
            }
        }
        None => ways.push(way),
    }
}

/// The text, or what the file itself says of the variable in it; else the variable's name.
fn resolved<'a>(file: &'a Value, text: &'a str) -> Result<&'a str, &'a str> {
    match text.strip_prefix("os.environ/") {
        None => Ok(text),
        Some(variable) => match file["environment_variables"][variable].as_str() {
            Some(value) if !value.is_empty() && !value.starts_with("os.environ/") => Ok(value),
            _ => Err(variable),
        },
    }
}

fn key(file: &Value, text: &str) -> Key {
    literal(resolved(file, text).unwrap_or(text))
}

fn host(url: &str) -> &str {
    url.split("://").last().unwrap_or(url).split(['/', ':']).next().unwrap_or(url)
}
