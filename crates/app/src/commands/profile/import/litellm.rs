//! LiteLLM's YAML (BerriAI/litellm, `model_list`): each address with its key is one provider, and the models that lead there are its map.

use std::path::Path;

use serde_json::Value;

use super::model::{ANTHROPIC, API_KEY, Entry, Foreign, Provider, address, bare, host, is_claude, key, shown, variable};

/// Where entries of `model_list` with one address and one key lead.
struct Deployment {
    provider: String,
    url: String,
    key: String,
    models: Vec<(String, String)>,
    /// True if a pattern takes whatever the provider has.
    is_open: bool,
}

/// The providers of a file, and the entries of which none can be made.
pub(super) fn entries(file: &Path, config: &Value) -> Vec<Entry> {
    let mut deployments: Vec<Deployment> = Vec::new();
    let mut entries = Vec::new();
    for entry in config["model_list"].as_array().into_iter().flatten() {
        match deployment(config, entry) {
            Ok(deployment) => merge(&mut deployments, deployment),
            Err(why) => {
                let name = entry["model_name"].as_str().unwrap_or("a model without a name").to_owned();
                entries.push(Entry { name, from: file.to_owned(), content: Err(why) });
            }
        }
    }
    let providers = deployments.into_iter().map(|deployment| {
        let is_usual = address(&deployment.provider) == Some(deployment.url.as_str());
        let name = if is_usual { deployment.provider.clone() } else { host(&deployment.url).to_owned() };
        Entry { name, from: file.to_owned(), content: provider(config, deployment, is_usual) }
    });
    providers.chain(entries).collect()
}

fn provider(config: &Value, deployment: Deployment, is_usual: bool) -> Result<Provider, String> {
    let key = key(resolved(config, &deployment.key).unwrap_or(&deployment.key))?;
    // LiteLLM sends the key of an address of one's own as Anthropic's.
    let header = (deployment.provider == "anthropic" && !is_usual).then_some(API_KEY);
    let found = Provider::new(&deployment.url, key).with_header(header).with_models(deployment.models);
    let is_openrouter = deployment.provider == "openrouter";
    Ok(if is_openrouter && !deployment.is_open { found.without_other_claude_models() } else { found })
}

/// What is said of an entry: its own parameters, then those of the credential that it names.
fn parameter<'a>(config: &'a Value, entry: &'a Value, name: &str) -> Option<&'a str> {
    let parameters = &entry["litellm_params"];
    let credentials = config["credential_list"].as_array().into_iter().flatten();
    let wanted = parameters["litellm_credential_name"].as_str();
    let mut named = credentials.filter(|known| wanted.is_some() && known["credential_name"].as_str() == wanted);
    let own = parameters[name].as_str();
    own.or_else(|| named.next()?["credential_values"][name].as_str()).map(str::trim).filter(|text| !text.is_empty())
}

fn deployment(config: &Value, entry: &Value) -> Result<Deployment, String> {
    let name = entry["model_name"].as_str().unwrap_or_default();
    let model = parameter(config, entry, "model").ok_or("names no model")?;
    let model = resolved(config, model).map_err(|variable| format!("has its model in the variable `{}`", shown(variable)))?;
    let (provider, model) = match (parameter(config, entry, "custom_llm_provider"), model.split_once('/')) {
        (Some(provider), Some((first, rest))) if first == provider => (provider, rest),
        (Some(provider), _) => (provider, model),
        (None, Some(both)) => both,
        (None, None) if model.starts_with("claude-") => ("anthropic", model),
        (None, None) => return Err("does not say who its provider is".to_owned()),
    };
    let Some(usual) = address(provider) else { return Err(foreign(provider)) };
    let base = parameter(config, entry, "api_base").map(|base| resolved(config, base));
    let url = match base {
        None => usual,
        Some(Err(variable)) => return Err(format!("has its address in the variable `{}`", shown(variable))),
        // Theirs is the one in OpenAI's format, unless it says that it is Anthropic's.
        Some(Ok(_)) if provider == "openrouter" => usual,
        Some(Ok(base)) if provider == "anthropic" || base.contains("/anthropic") => {
            let base = base.trim_end_matches('/');
            base.strip_suffix("/v1/messages").or(base.strip_suffix("/v1")).unwrap_or(base)
        }
        Some(Ok(_)) => return Err(format!("has an address of its own for `{}`: {}", shown(provider), Foreign::OpenAiChat)),
    };
    let key = match parameter(config, entry, "api_key") {
        Some(key) => key.to_owned(),
        None if url == usual => format!("os.environ/{}_API_KEY", provider.to_ascii_uppercase()),
        None => return Err("has an address and no key".to_owned()),
    };
    let models = (!name.is_empty() && !model.contains('*') && needs_map(url, name, model)).then(|| (name.to_owned(), model.to_owned()));
    Ok(Deployment {
        provider: provider.to_owned(),
        url: url.to_owned(),
        key,
        models: models.into_iter().collect(),
        is_open: model.contains('*'),
    })
}

/// Anthropic knows the client's names itself; what is called otherwise there needs its map.
fn needs_map(url: &str, name: &str, model: &str) -> bool {
    if url != ANTHROPIC {
        return true;
    }
    let (name, model) = (bare(name), bare(model));
    let is_same = is_claude(name) && (name.contains('*') || model.starts_with(name) || name.starts_with(model));
    !is_same
}

/// Why a provider of LiteLLM's is none of hotspare's.
fn foreign(provider: &str) -> String {
    let foreign = match provider {
        "bedrock" | "bedrock_converse" | "sagemaker" => Foreign::Bedrock,
        "vertex_ai" | "vertex_ai_beta" => Foreign::Vertex,
        "azure_ai" => Foreign::Foundry,
        "gemini" => Foreign::Gemini,
        _ => Foreign::OpenAiChat,
    };
    let sentence = foreign.to_string();
    let sentence = match foreign {
        // LiteLLM has models of others at these two as well.
        Foreign::Bedrock | Foreign::Vertex | Foreign::Foundry => sentence.replacen("is Claude on", "is on", 1),
        _ => sentence.replacen("speaks", &format!("is a model of `{}`, which speaks", shown(provider)), 1),
    };
    format!("{sentence}; LiteLLM itself can answer for it: `hotspare profile add litellm --preset litellm`")
}

/// Adds to the deployment with the same address and key.
fn merge(deployments: &mut Vec<Deployment>, next: Deployment) {
    let is_same = |known: &&mut Deployment| known.provider == next.provider && known.url == next.url && known.key == next.key;
    match deployments.iter_mut().find(is_same) {
        Some(known) => {
            known.models.extend(next.models);
            known.is_open |= next.is_open;
        }
        None => deployments.push(next),
    }
}

/// The text, or what the file itself says of the variable in it; else the variable's name.
fn resolved<'a>(config: &'a Value, text: &'a str) -> Result<&'a str, &'a str> {
    match text.strip_prefix("os.environ/").and(variable(text)).or_else(|| text.strip_prefix("os.environ/")) {
        None => Ok(text),
        Some(variable) => match config["environment_variables"][variable].as_str() {
            Some(value) if !value.trim().is_empty() && !value.starts_with("os.environ/") => Ok(value.trim()),
            _ => Err(variable),
        },
    }
}
