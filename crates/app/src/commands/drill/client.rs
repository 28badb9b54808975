//! Finds out what the user's Claude Code sends: its models, the kind of its credential, and where its requests go.
//!
//! A drill that asked for another model than the client would prove a chain that the client's own requests never take.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspare_config::Locations;
use hotspare_core::Endpoint;
use hotspare_gateway::drill::{ClientLogin, MAX_MODELS};
use hotspare_store::Reader;
use serde_json::{Map, Value};

use crate::claude;
use crate::commands;

/// Model of a client that names none and has sent nothing yet (Claude Code 2.1.330).
const DEFAULT_MODEL: &str = "claude-opus-5-5";

/// Names behind the client's own aliases where no variable replaces them (Claude Code 2.1.330).
const ALIASES: [(&str, &str, &str); 4] = [
    ("opus", "ANTHROPIC_DEFAULT_OPUS_MODEL", "claude-opus-5-5"),
    ("sonnet", "ANTHROPIC_DEFAULT_SONNET_MODEL", "claude-sonnet-5-5"),
    ("haiku", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-haiku-5-5"),
    ("fable", "ANTHROPIC_DEFAULT_FABLE_MODEL", "claude-fable-5"),
];

/// Variables that name a model beside the main one.
const OTHER_MODELS: [&str; 2] = ["ANTHROPIC_SMALL_FAST_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"];

/// Recorded requests of the last day are looked at: an older one may be of a model that is no longer used.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// Most recorded requests that are looked at.
const MAX_ROWS: u32 = 200;

/// Largest settings file that is read.
const MAX_SETTINGS: u64 = 4 * 1024 * 1024;

/// What the client sends, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    /// Its models, the main one first.
    pub models: Vec<String>,
    /// The kind of its credential.
    pub login: ClientLogin,
    /// Where its requests go.
    pub goes: Goes,
}

/// Where a client's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goes {
    /// To a local address.
    Local(SocketAddr),
    /// To another address.
    Elsewhere(String),
    /// To the provider itself.
    Direct,
}

impl Client {
    /// The client that this user would start here. `named` is the model of `--model`, and then the only one.
    pub(super) fn find(locations: &Locations, named: Option<&str>) -> Self {
        let settings = Settings::read(locations);
        let models = named.map_or_else(|| models(&settings, &recorded(locations)), |model| vec![model.to_owned()]);
        Self { models, login: settings.login(), goes: settings.goes() }
    }
}

/// Models of the last real requests, the last one first.
fn recorded(locations: &Locations) -> Vec<String> {
    let rows = Reader::open(&locations.state_dir).ok().flatten().and_then(|ledger| {
        let filter = hotspare_store::Filter { since_ms: commands::ms_ago(LOOK_BACK), failovers: false, after: None, limit: MAX_ROWS };
        ledger.list_real(&filter).ok()
    });
    let records = rows.into_iter().flat_map(|listing| listing.rows).map(|row| row.record);
    let asked = records.filter(|record| record.endpoint == Endpoint::Messages);
    let mut models: Vec<String> = asked.filter_map(|record| record.model).collect();
    models.reverse();
    models
}

fn models(settings: &Settings, recorded: &[String]) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    let mut add = |model: &str| {
        // The client takes its suffix for the long context off before it sends.
        let model = model.trim().trim_end_matches("[1m]").to_owned();
        if !model.is_empty() && !models.contains(&model) && models.len() < MAX_MODELS {
            models.push(model);
        }
    };
    let main = settings.variable("ANTHROPIC_MODEL").or_else(|| settings.value("model"));
    if let Some(main) = main.and_then(|name| settings.resolved(&name)) {
        add(&main);
    }
    for model in recorded {
        add(model);
    }
    for name in ALIASES.iter().map(|(_, variable, _)| *variable).chain(OTHER_MODELS) {
        if let Some(model) = settings.variable(name).and_then(|name| settings.resolved(&name)) {
            add(&model);
        }
    }
    if models.is_empty() {
        models.push(DEFAULT_MODEL.to_owned());
    }
    models
}

/// The settings files in the client's order, strongest first, and the environment behind them.
struct Settings {
    files: Vec<Map<String, Value>>,
    environment: HashMap<String, String>,
}

impl Settings {
    fn read(locations: &Locations) -> Self {
        let project = |name: &str| std::env::current_dir().map(|folder| folder.join(".claude").join(name)).unwrap_or_default();
        let files: [PathBuf; 4] =
            [locations.claude_managed.clone(), project("settings.local.json"), project("settings.json"), locations.claude_settings.clone()];
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { files: files.iter().filter_map(|file| read(file)).collect(), environment: environment.collect() }
    }

    /// A variable as the client sees it. One that is set to nothing in a file hides those below.
    fn variable(&self, name: &str) -> Option<String> {
        let in_files = self.files.iter().find_map(|file| file.get("env")?.get(name));
        let value = match in_files {
            Some(Value::String(value)) => value.clone(),
            Some(value) => value.to_string(),
            None => self.environment.get(name)?.clone(),
        };
        (!value.is_empty()).then_some(value)
    }

    /// A setting of text.
    fn value(&self, key: &str) -> Option<String> {
        self.files.iter().find_map(|file| file.get(key)?.as_str()).map(str::to_owned)
    }

    /// The name that is sent for what the user chose; `None` if that is left to the client.
    fn resolved(&self, name: &str) -> Option<String> {
        let plain = name.trim().trim_end_matches("[1m]");
        let alias = match plain {
            "" | "default" => return None,
            "opusplan" | "best" => "opus",
            other => other,
        };
        let known = ALIASES.iter().find(|(known, ..)| *known == alias);
        Some(known.map_or_else(|| plain.to_owned(), |(_, variable, own)| self.variable(variable).unwrap_or_else(|| (*own).to_owned())))
    }

    fn login(&self) -> ClientLogin {
        let own = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"].into_iter().find_map(|name| self.variable(name));
        match own {
            Some(key) if !key.starts_with("sk-ant-") => ClientLogin::Other,
            // Without a variable it is a login of the client's own, which may be in the system's keychain, or a helper's key.
            Some(_) | None => ClientLogin::Anthropic,
        }
    }

    fn goes(&self) -> Goes {
        let local = |url: &str| {
            let uri: http::Uri = url.parse().ok()?;
            let authority = uri.authority()?.as_str().rsplit('@').next()?.replace("localhost:", "127.0.0.1:");
            authority.parse::<SocketAddr>().ok()
        };
        if let Some(url) = self.variable(claude::BASE_URL) {
            return local(&url).map_or(Goes::Elsewhere(host(&url)), Goes::Local);
        }
        let proxy = claude::HTTPS_PROXY.into_iter().find_map(|name| self.variable(name).filter(|url| claude::is_our_proxy(url)));
        proxy.and_then(|url| local(&url)).map_or(Goes::Direct, Goes::Local)
    }
}

/// Only the host of an address: a user name or key may stand before it.
fn host(url: &str) -> String {
    url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| "another address".to_owned())
}

fn read(file: &Path) -> Option<Map<String, Value>> {
    std::fs::metadata(file).ok().filter(|data| data.is_file() && data.len() <= MAX_SETTINGS)?;
    serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(file: Value, environment: &[(&str, &str)]) -> Settings {
        let Value::Object(file) = file else { panic!("an object") };
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { files: vec![file], environment }
    }

    #[test]
    fn client_models_come_from_settings_and_requests() {
        let gateway = json!({ "env": { "ANTHROPIC_MODEL": "glm-5[1m]", "ANTHROPIC_DEFAULT_HAIKU_MODEL": "glm-4.5-air" }, "model": "opus" });
        assert_eq!(models(&settings(gateway.clone(), &[]), &[]), ["glm-5", "glm-4.5-air"]);
        let last = ["glm-4.7".to_owned(), "glm-5".to_owned()];
        assert_eq!(models(&settings(gateway, &[]), &last), ["glm-5", "glm-4.7", "glm-4.5-air"]);
        let alias = [("ANTHROPIC_DEFAULT_SONNET_MODEL", "kimi-k2"), ("CLAUDE_CODE_SUBAGENT_MODEL", "sonnet")];
        assert_eq!(models(&settings(json!({ "model": "sonnet[1m]" }), &alias), &[]), ["kimi-k2"]);
        assert_eq!(models(&settings(json!({ "model": "opusplan" }), &[]), &[]), ["claude-opus-5-5"]);
        assert_eq!(models(&settings(json!({ "model": "default" }), &[]), &[]), [DEFAULT_MODEL]);
        assert_eq!(models(&settings(json!({}), &[]), &["claude-sonnet-5".to_owned()]), ["claude-sonnet-5"]);
    }

    #[test]
    fn client_address_and_credential_are_classified() {
        let of = |env: Value, shell: &[(&str, &str)]| {
            let settings = settings(json!({ "env": env }), shell);
            (settings.goes(), settings.login())
        };
        let here = Goes::Local(([127, 0, 0, 1], 4117).into());
        assert_eq!(of(json!({ "ANTHROPIC_BASE_URL": "http://localhost:4117" }), &[]), (here, ClientLogin::Anthropic));
        let gateway = json!({ "ANTHROPIC_BASE_URL": "https://key@gateway.example/v1", "ANTHROPIC_AUTH_TOKEN": "sk-test" });
        assert_eq!(of(gateway, &[]), (Goes::Elsewhere("gateway.example".to_owned()), ClientLogin::Other));
        assert_eq!(of(json!({ "ANTHROPIC_BASE_URL": "" }), &[("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")]).0, Goes::Direct);
    }
}
