//! Reads the files of other tools and of Claude Code's other folders, as far as they hold endpoints and keys. Never writes, and makes no file
//! beside them: databases are opened as unchanging.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::yaml;

/// Largest file that is read.
const FILE_CAP: u64 = 8 * 1024 * 1024;

/// Most entries of one file.
pub(super) const MOST: usize = 64;

/// The header in which the tools send a key to an endpoint in Anthropic's format, where nothing else is said.
pub(super) const API_KEY: &str = "x-api-key";

const ANTHROPIC: &str = "https://api.anthropic.com";

/// Where a credential is.
pub(super) enum Key {
    /// A profile can say where it is.
    Reference(Value),
    /// It stands in the file itself, among other things.
    Literal(SecretString),
}

/// A way out that another tool knows.
pub(super) struct Found {
    pub name: String,
    pub from: String,
    /// Platform and address.
    pub profile: Map<String, Value>,
    pub key: Key,
    /// The header that the credential goes in, where the platform's own is not the one.
    pub header: Option<&'static str>,
    pub models: Map<String, Value>,
}

/// Everything that was found, and what cannot be used with the reason.
#[derive(Default)]
pub(super) struct Look {
    pub found: Vec<Found>,
    pub skipped: Vec<(String, String)>,
}

/// better-ccflare's accounts. Those with a key have it in `api_key`; older ones of these providers in `refresh_token`, where it is no login's
/// (`refreshToken` in the files named at [`Look::ccflare`]). Older ones have no `model_mappings` either.
fn ccflare_accounts(file: &Path) -> rusqlite::Result<Vec<[String; 5]>> {
    let accounts = |models: &str| {
        let sql = format!(
            "SELECT name, provider, CASE
                WHEN COALESCE(api_key, '') <> '' THEN api_key
                WHEN provider IN ('zai', 'minimax', 'deepseek', 'anthropic-compatible') THEN refresh_token
            END, custom_endpoint, {models} FROM accounts"
        );
        rows(file, &sql)
    };
    accounts("model_mappings").or_else(|_| accounts("''"))
}

/// A model map of better-ccflare's: whole names, and words such as `opus` for every model with the word in its name. Of several models the
/// first is the one that is asked.
fn ccflare_models(text: &str) -> Map<String, Value> {
    let known: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let entry = |(from, to): (&String, &Value)| {
        let to = to.as_str().or_else(|| to[0].as_str()).filter(|to| !to.is_empty())?;
        let from = if from.starts_with("claude") { from.clone() } else { format!("claude-{from}-*") };
        Some((from, to.into()))
    };
    known.iter().filter_map(entry).collect()
}

impl Look {
    /// The folders of Claude Code, those that shell aliases name, and the files of other tools, all below home.
    pub(super) fn everywhere(&mut self, home: &Path) {
        let own = home.join(".claude");
        let mut folders = crate::found::folders(home, &own);
        for file in [".bashrc", ".bash_aliases", ".zshrc", ".profile", ".config/fish/config.fish"] {
            folders.extend(text(&home.join(file)).map(|text| alias_folders(&text, home)).unwrap_or_default());
        }
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| **folder != own) {
            self.claude_folder(folder);
        }
        for file in [
            ".config/teamclaude.json",
            ".claude-code-router/config.json",
            ".claude-code-router/config.sqlite",
            ".cc-switch/config.json",
            ".cc-switch/cc-switch.db",
            ".config/better-ccflare/better-ccflare.db",
            "Library/Application Support/better-ccflare/better-ccflare.db",
            "litellm_config.yaml",
            ".litellm/config.yaml",
            ".config/litellm/config.yaml",
        ] {
            if home.join(file).is_file() {
                self.file(&home.join(file), home);
            }
        }
    }

    /// One folder or file that the user named.
    pub(super) fn at(&mut self, path: &Path, home: &Path) {
        if path.is_dir() {
            self.claude_folder(path);
        } else if path.is_file() {
            self.file(path, home);
        } else {
            self.skip(path, "there is no such file or folder");
        }
    }

    /// Leaves something out.
    pub(super) fn skip(&mut self, path: impl AsRef<Path>, why: impl Into<String>) {
        self.skipped.push((path.as_ref().display().to_string(), why.into()));
    }

    fn file(&mut self, file: &Path, home: &Path) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = file.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
        if matches!(extension.as_str(), "db" | "sqlite") {
            return self.database(file);
        }
        if matches!(extension.as_str(), "yaml" | "yml") {
            return match text(file).and_then(|text| yaml::read(&text)) {
                Some(value) => self.litellm(file, &value),
                None => self.skip(file, "it is not YAML, or too large"),
            };
        }
        if matches!(name.as_str(), ".bashrc" | ".bash_aliases" | ".zshrc" | ".profile" | "config.fish") {
            return alias_folders(&text(file).unwrap_or_default(), home).iter().for_each(|folder| self.claude_folder(folder));
        }
        match text(file).and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
            Some(value) => self.known(file, &value),
            None => self.skip(file, "it is not JSON, or too large"),
        }
    }

    fn known(&mut self, file: &Path, value: &Value) {
        if value["accounts"].is_array() {
            self.teamclaude(file, value);
        } else if value["Providers"].is_array() {
            self.router(file, value);
        } else if value["claude"]["providers"].is_object() {
            for provider in value["claude"]["providers"].as_object().into_iter().flatten().map(|(_, provider)| provider).take(MOST) {
                self.settings(file, provider["name"].as_str().unwrap_or("cc-switch"), &provider["settingsConfig"]);
            }
        } else if value["env"].is_object() || value["apiKeyHelper"].is_string() {
            let name = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            self.settings(file, name.trim_start_matches('.'), value);
        } else {
            self.skip(file, "no format that is known here");
        }
    }

    /// A folder that Claude Code uses with `CLAUDE_CONFIG_DIR`.
    fn claude_folder(&mut self, folder: &Path) {
        let short = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let short = short.trim_start_matches('.');
        let name = match short.strip_prefix("claude") {
            Some("") => "claude-folder",
            Some(rest) => rest.strip_prefix(['-', '_', '.']).filter(|rest| !rest.is_empty()).unwrap_or(short),
            None => short,
        };
        let settings = text(&folder.join("settings.json")).and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
        if settings["env"]["ANTHROPIC_BASE_URL"].as_str().is_some_and(|url| !is_anthropic(url)) {
            return self.settings(&folder.join("settings.json"), name, &settings);
        }
        if hotspare_upstream::describe_claude_folder(folder).is_none() {
            return self.skip(folder, "it holds no login, key or helper");
        }
        self.login(folder, name, &folder.display().to_string());
    }

    /// A login or key that Claude Code keeps in a folder.
    fn login(&mut self, from: &Path, name: &str, folder: &str) {
        let key = Key::Reference(json!({ "claude_config_dir": folder }));
        self.add(from, name, ANTHROPIC, key, None, Map::new());
    }

    /// Claude Code's settings, in a file or as cc-switch keeps them.
    fn settings(&mut self, file: &Path, name: &str, settings: &Value) {
        let env = |key: &str| settings["env"][key].as_str().filter(|text| !text.trim().is_empty());
        let url = env("ANTHROPIC_BASE_URL").unwrap_or(ANTHROPIC);
        let (token, key) = (env("ANTHROPIC_AUTH_TOKEN"), env("ANTHROPIC_API_KEY"));
        // As Claude Code sends them.
        let header = if token.is_none() && key.is_some() { Some(API_KEY) } else { None };
        let key = match token.or(key) {
            Some(key) => literal(key),
            None => match settings["apiKeyHelper"].as_str() {
                Some(helper) => Key::Reference(json!({ "command": ["sh", "-c", helper] })),
                None if is_anthropic(url) => return self.skip(file, format!("`{name}` is the client's own login: nothing to import")),
                None => return self.skip(file, format!("`{name}` has an address and no key")),
            },
        };
        let mut models = Map::new();
        for (pattern, variable) in [
            ("claude-opus-*", "ANTHROPIC_DEFAULT_OPUS_MODEL"),
            ("claude-sonnet-*", "ANTHROPIC_DEFAULT_SONNET_MODEL"),
            ("claude-haiku-*", "ANTHROPIC_DEFAULT_HAIKU_MODEL"),
            ("claude-*", "ANTHROPIC_MODEL"),
        ] {
            let model = env(variable).or_else(|| if pattern == "claude-haiku-*" { env("ANTHROPIC_SMALL_FAST_MODEL") } else { None });
            models.extend(model.filter(|_| !is_anthropic(url)).map(|model| (pattern.to_owned(), model.into())));
        }
        self.add(file, name, url, key, header, models);
    }

    fn teamclaude(&mut self, file: &Path, value: &Value) {
        let shared = value["upstream"].as_str().unwrap_or(ANTHROPIC);
        for account in value["accounts"].as_array().into_iter().flatten().take(MOST) {
            let name = account["name"].as_str().unwrap_or("account");
            if let Some(folder) = account["importFrom"].as_str().and_then(|file| file.strip_suffix("/.credentials.json")) {
                self.login(file, name, folder);
                continue;
            }
            let Some(key) = account["apiKey"].as_str() else {
                self.skip(file, format!("`{name}` is a login that teamclaude keeps and renews: two who renew one login end it"));
                continue;
            };
            let models = account["modelMap"].as_object().cloned().unwrap_or_default();
            self.add(file, name, account["upstream"].as_str().unwrap_or(shared), literal(key), Some(API_KEY), models);
        }
    }

    fn router(&mut self, file: &Path, value: &Value) {
        for provider in value["Providers"].as_array().into_iter().flatten().take(MOST) {
            let name = provider["name"].as_str().unwrap_or("provider");
            let text = |keys: &[&str]| keys.iter().find_map(|key| provider[*key].as_str()).filter(|text| !text.is_empty());
            let Some(url) = text(&["api_base_url", "baseUrl", "baseurl"]) else {
                self.skip(file, format!("`{name}` has no address"));
                continue;
            };
            let speaks = url.contains("/v1/messages") || provider["type"].as_str().is_some_and(|kind| kind.starts_with("anthropic"));
            let is_openrouter = url.starts_with("https://openrouter.ai/");
            if !speaks && !is_openrouter {
                self.skip(file, format!("`{name}` speaks another format than Anthropic's"));
                continue;
            }
            let url = url.split("/v1/").next().unwrap_or(url).trim_end_matches('/');
            let url = if is_openrouter { "https://openrouter.ai/api" } else { url };
            let Some(key) = text(&["api_key", "apiKey", "apikey"]) else {
                self.skip(file, format!("`{name}` has no key"));
                continue;
            };
            let mut models = Map::new();
            let default = value["Router"]["default"].as_str().and_then(|route| route.split_once(','));
            models.extend(default.filter(|(at, _)| *at == name && !is_openrouter).map(|(_, model)| ("claude-*".to_owned(), model.into())));
            let bearer = provider["transformer"].to_string().contains(r#""useBearer":true"#);
            self.add(file, name, url, literal(key), if bearer { None } else { Some(API_KEY) }, models);
        }
    }

    fn database(&mut self, file: &Path) {
        if let Ok(found) = rows(file, "SELECT name, settings_config FROM providers WHERE app_type = 'claude'") {
            for [name, settings] in found {
                self.settings(file, &name, &serde_json::from_str(&settings).unwrap_or_default());
            }
        } else if let Ok(found) = ccflare_accounts(file) {
            for account in &found {
                self.ccflare(file, account);
            }
        } else if let Ok(found) = rows(file, "SELECT value_json FROM app_config WHERE key = 'default'") {
            for [json] in found {
                self.router(file, &serde_json::from_str(&json).unwrap_or_default());
            }
        } else {
            self.skip(file, "no database that is known here");
        }
        let beside = format!("{}-wal", file.display());
        if fs::metadata(beside).is_ok_and(|metadata| metadata.len() > 0) {
            self.skip(file, "its program runs: what it has not written back yet is not seen");
        }
    }

    /// An account of better-ccflare's: name, provider, key, endpoint, models.
    ///
    /// It sends a key as `x-api-key` to whoever speaks Anthropic's format, and a login's token alone as Bearer; MiniMax and DeepSeek are
    /// always at their own address (`packages/providers/src/providers/` of tombii/better-ccflare: `base-anthropic-compatible.ts`,
    /// `zai/provider.ts`, `minimax/provider.ts`, `deepseek/provider.ts`).
    fn ccflare(&mut self, file: &Path, [name, provider, key, endpoint, models]: &[String; 5]) {
        let url = match (endpoint.as_str(), provider.as_str()) {
            ("", "claude-console-api") => ANTHROPIC,
            (_, "minimax" | "deepseek") | ("", _) => address(provider).unwrap_or_default(),
            (url, "claude-console-api" | "anthropic" | "zai" | "anthropic-compatible") => url,
            _ => "",
        };
        if key.is_empty() {
            self.skip(file, format!("`{name}` is a login that better-ccflare keeps and renews: two who renew one login end it"));
        } else if url.is_empty() {
            self.skip(file, format!("`{name}` speaks another format than Anthropic's"));
        } else {
            self.add(file, name, url, literal(key), Some(API_KEY), ccflare_models(models));
        }
    }

    pub(super) fn add(&mut self, file: &Path, name: &str, url: &str, key: Key, header: Option<&'static str>, models: Map<String, Value>) {
        let mut profile = Map::new();
        let mut header = header.filter(|_| !is_anthropic(url));
        if url.starts_with("https://openrouter.ai/") {
            profile.insert("platform".to_owned(), "openrouter".into());
            header = None;
        } else if !is_anthropic(url) {
            profile.insert("platform".to_owned(), "anthropic_compatible".into());
            profile.insert("base_url".to_owned(), url.trim_end_matches('/').into());
        }
        self.found.push(Found { name: name.to_owned(), from: file.display().to_string(), profile, key, header, models });
    }
}

pub(super) fn is_anthropic(url: &str) -> bool {
    url.trim_end_matches('/') == ANTHROPIC
}

/// Where a provider answers in Anthropic's format, by the name that other tools give it.
pub(super) fn address(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "anthropic" => ANTHROPIC,
        "openrouter" => "https://openrouter.ai/api",
        "deepseek" => "https://api.deepseek.com/anthropic",
        "minimax" => "https://api.minimax.io/anthropic",
        "moonshot" => "https://api.moonshot.ai/anthropic",
        "zai" => "https://api.z.ai/api/anthropic",
        _ => return None,
    })
}

/// `$NAME`, `${NAME}` and `os.environ/NAME` are variables; all else is the key itself.
pub(super) fn literal(key: &str) -> Key {
    let name = key.strip_prefix("os.environ/").or_else(|| key.strip_prefix('$').map(|name| name.trim_matches(['{', '}'])));
    match name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')) {
        Some(name) => Key::Reference(json!({ "env": name })),
        None => Key::Literal(SecretString::from(key)),
    }
}

/// The folders that a shell's file names as `CLAUDE_CONFIG_DIR`.
fn alias_folders(text: &str, home: &Path) -> Vec<std::path::PathBuf> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values = lines.flat_map(|line| line.split("CLAUDE_CONFIG_DIR").skip(1));
    let folder = |value: &str| {
        let value = value.trim_start_matches(['=', ' ', '"', '\'']);
        let value: &str = value.split([' ', '"', '\'', ';', '&']).next().unwrap_or_default();
        let rest = ["~/", "$HOME/", "${HOME}/"].iter().find_map(|start| value.strip_prefix(start));
        let folder = rest.map_or_else(|| value.into(), |rest| home.join(rest));
        (folder.is_absolute() && folder.is_dir()).then_some(folder)
    };
    values.filter_map(folder).collect()
}

/// What a plain file holds; none also where it is larger than the cap.
fn text(file: &Path) -> Option<String> {
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut text = String::new();
    fs::File::open(file).ok()?.take(FILE_CAP + 1).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= FILE_CAP).then_some(text)
}

/// The first texts of each row. Opened as unchanging: SQLite makes no file beside it.
fn rows<const N: usize>(file: &Path, sql: &str) -> rusqlite::Result<Vec<[String; N]>> {
    let mut uri = "file:".to_owned();
    for byte in file.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("{uri}?immutable=1"), flags)?;
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([], |row| {
        let mut columns = [const { String::new() }; N];
        for (at, column) in columns.iter_mut().enumerate() {
            *column = row.get::<_, Option<String>>(at)?.unwrap_or_default();
        }
        Ok(columns)
    })?;
    found.take(MOST).collect()
}
