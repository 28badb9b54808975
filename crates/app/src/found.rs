//! Finds what a user has that can answer Claude Code: logins, keys, a gateway, clouds. Reads only, keeps no credential, and asks nobody.

pub(crate) mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotspare_config::Locations;
use hotspare_core::ClaudeModel;
use hotspare_core::models::without_long_context;
use hotspare_upstream::{ClaudeAuth, describe_claude_folder};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// Most folders of Claude Code that are looked into.
const MOST_FOLDERS: usize = 32;

/// Largest file of Claude Code's state that is read; it has some KB, and MBs after years of projects.
const STATE_CAP: u64 = 64 * 1024 * 1024;

/// Most characters of an account's name.
const ACCOUNT_CAP: usize = 64;

/// Keys by the variable that holds them, with the platform or preset that they are for.
const KEYS: [(&str, Provider); 8] = [
    ("ANTHROPIC_API_KEY", Provider::Anthropic),
    ("ANTHROPIC_BACKUP_KEY", Provider::Anthropic),
    ("OPENROUTER_API_KEY", Provider::OpenRouter),
    ("ZAI_API_KEY", Provider::Other("zai")),
    ("DEEPSEEK_API_KEY", Provider::Other("deepseek")),
    ("MOONSHOT_API_KEY", Provider::Other("kimi")),
    ("KIMI_API_KEY", Provider::Other("kimi")),
    ("MINIMAX_API_KEY", Provider::Other("minimax")),
];

/// Clouds that carry Claude, with the variables and the files below home that say that the user has one.
const CLOUDS: [(&str, &[&str], &[&str]); 3] = [
    ("bedrock", &["AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"], &[".aws/credentials", ".aws/config"]),
    ("vertex", &["GOOGLE_APPLICATION_CREDENTIALS"], &[".config/gcloud/application_default_credentials.json"]),
    ("foundry", &["ANTHROPIC_FOUNDRY_API_KEY", "AZURE_CLIENT_ID"], &[".azure/azureProfile.json"]),
];

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Anthropic's API, paid by the token.
    Anthropic,
    /// OpenRouter: the same models, paid by the token.
    OpenRouter,
    /// Another company with models of its own, by its preset.
    Other(&'static str),
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Found {
    /// Folders of Claude Code with something that authenticates; the client's own first.
    pub logins: Vec<Login>,
    /// Variables that hold a key.
    pub keys: Vec<Key>,
    /// Where Claude Code goes today, where that is not Anthropic.
    pub gateway: Option<String>,
    /// What names that address: a file, a file and its line, or the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_from: Option<String>,
    /// Other addresses that an editor or a shell's file gives Claude Code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
    /// Models that Claude Code asks for by names that are not Claude's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<OwnModel>,
    /// Files of other tools that `hotspare profile import` reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolFile>,
    /// Clouds that the user has credentials for.
    pub clouds: Vec<Cloud>,
    /// The command of the user's own status line.
    pub status_line: Option<String>,
}

/// A folder of Claude Code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Login {
    /// The folder.
    pub folder: PathBuf,
    /// Whether Claude Code uses it where nothing else is said.
    pub own: bool,
    /// `login`, `settings` (a token or key stands there), `helper` (a program prints it) or `keychain` (the operating system keeps it).
    pub auth: String,
    /// Whose it is.
    pub account: Option<String>,
    /// The subscription's plan, such as `max`.
    pub plan: Option<String>,
    /// When the login runs out, in seconds since 1970; Claude Code renews it when it runs.
    pub expires: Option<u64>,
}

/// A variable that holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Key {
    /// Its name.
    pub variable: String,
    /// `anthropic`, `openrouter`, or a preset.
    pub provider: String,
    /// Another address than the provider's usual one, where the environment names one.
    pub base_url: Option<String>,
}

/// An address that a file gives Claude Code beside the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Elsewhere {
    /// The address.
    pub url: String,
    /// The file and its line.
    pub from: String,
    /// True if each session has it that is started there; false if it is an alias's or a function's.
    pub always: bool,
}

/// A model that the client asks for by a name of its user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct OwnModel {
    /// The name.
    pub name: String,
    /// The model of Claude's that stands in for it at a provider which does not have it.
    pub stand_in: String,
}

impl OwnModel {
    /// Of the variables that give the client's models names, each name once; Claude's own names and the client's aliases are none.
    pub(crate) fn of(named: &[(&'static str, &str)]) -> Vec<Self> {
        let mut models: Vec<Self> = Vec::new();
        for (variable, name) in named {
            let name = without_long_context(name).unwrap_or(name).trim();
            let is_known = name.is_empty() || ALIASES.contains(&name) || models.iter().any(|known| known.name == name);
            // A name that no key of a configuration can hold is none.
            if is_known || name.contains(['"', '\\', '*']) || name.chars().any(char::is_control) {
                continue;
            }
            match ClaudeModel::of(name) {
                Some(_) if name.starts_with("claude-") => {}
                Some(model) => models.push(Self { name: name.to_owned(), stand_in: claude_name(model) }),
                None => models.push(Self { name: name.to_owned(), stand_in: tier_of(variable).to_owned() }),
            }
        }
        models
    }
}

/// The client's own words for models, which it resolves itself.
const ALIASES: [&str; 6] = ["default", "best", "opus", "sonnet", "haiku", "opusplan"];

/// As Anthropic's API spells it.
fn claude_name(model: ClaudeModel) -> String {
    let ClaudeModel { family, major, minor } = model;
    if minor == 0 { format!("claude-{family}-{major}") } else { format!("claude-{family}-{major}-{minor}") }
}

/// The model of Claude's in whose place a variable names another.
fn tier_of(variable: &str) -> &'static str {
    match variable {
        "ANTHROPIC_DEFAULT_OPUS_MODEL" => "claude-opus-5-5",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL" | "ANTHROPIC_SMALL_FAST_MODEL" => "claude-haiku-5-5",
        _ => "claude-sonnet-5-5",
    }
}

/// A file of another tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ToolFile {
    /// The tool.
    pub tool: String,
    /// The file, below home with `~`.
    pub file: String,
}

/// Other tools, and their files below home.
const TOOLS: [(&str, &str); 10] = [
    ("cc-switch", ".cc-switch/cc-switch.db"),
    ("cc-switch", ".cc-switch/config.json"),
    ("claude-code-router", ".claude-code-router/config.json"),
    ("claude-code-router", ".claude-code-router/config.sqlite"),
    ("better-ccflare", ".config/better-ccflare/better-ccflare.db"),
    ("better-ccflare", "Library/Application Support/better-ccflare/better-ccflare.db"),
    ("teamclaude", ".config/teamclaude.json"),
    ("LiteLLM", "litellm_config.yaml"),
    ("LiteLLM", ".litellm/config.yaml"),
    ("LiteLLM", ".config/litellm/config.yaml"),
];

/// The files of other tools that are there.
fn tools(home: &Path) -> Vec<ToolFile> {
    let there = TOOLS.iter().filter(|(_, file)| home.join(file).is_file());
    there.map(|(tool, file)| ToolFile { tool: (*tool).to_owned(), file: format!("~/{file}") }).collect()
}

/// A cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Cloud {
    /// `bedrock`, `vertex` or `foundry`.
    pub platform: String,
    /// The variable or file that says so.
    pub by: String,
}

impl Found {
    /// Looks at the files and the environment. `gateway` is what the client uses today.
    pub(crate) fn look(locations: &Locations, variable: &dyn Fn(&str) -> Option<String>, gateway: Option<&str>) -> Self {
        let own = locations.claude_settings.parent().map(Path::to_owned).unwrap_or_default();
        Self {
            logins: folders(&locations.home, &own)
                .into_iter()
                .filter_map(|folder| login(&folder, &locations.home, folder == own))
                .collect(),
            keys: keys(variable),
            gateway: gateway.map(str::to_owned),
            gateway_from: None,
            elsewhere: Vec::new(),
            models: Vec::new(),
            tools: tools(&locations.home),
            clouds: CLOUDS.iter().filter_map(|cloud| found_cloud(cloud, &locations.home, variable)).collect(),
            status_line: status_line(&locations.claude_settings),
        }
    }

    /// The client's own login, where it has one.
    pub(crate) fn own_login(&self) -> Option<&Login> {
        self.logins.iter().find(|login| login.own)
    }
}

/// A folder below home that begins like Claude Code's and is another tool's.
const NOT_CLAUDE_CODE: &str = ".claude-code-router";

/// The client's own folder, and every other below home whose name begins like it.
pub(crate) fn folders(home: &Path, own: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let is_like = |name: &str| name == ".claude" || name.strip_prefix(".claude").is_some_and(|rest| rest.starts_with(['-', '_', '.']));
    let others: BTreeSet<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_like(name) && name != NOT_CLAUDE_CODE))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && path != own)
        .collect();
    std::iter::once(own.to_owned()).chain(others).take(MOST_FOLDERS).collect()
}

fn login(folder: &Path, home: &Path, own: bool) -> Option<Login> {
    let account = account(folder).or_else(|| if folder == home.join(".claude") { account(home) } else { None });
    let described = describe_claude_folder(folder);
    let (auth, plan, expires) = match described {
        Some(found) => {
            let auth = match found.auth {
                ClaudeAuth::Login => "login",
                ClaudeAuth::Settings => "settings",
                ClaudeAuth::Helper => "helper",
            };
            (auth, found.plan, found.expires)
        }
        // On macOS the login itself is in the keychain; who is logged in stands in the state file.
        None if cfg!(target_os = "macos") && account.is_some() => ("keychain", None, None),
        None => return None,
    };
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Some(Login { folder: folder.to_owned(), own, auth: auth.to_owned(), account, plan, expires: expires.map(seconds) })
}

/// Who is logged in, as Claude Code's state has it.
fn account(folder: &Path) -> Option<String> {
    let state = json_of(&folder.join(".claude.json"))?;
    let account = state["oauthAccount"]["emailAddress"].as_str()?;
    Some(account.chars().filter(|char| !char.is_control()).take(ACCOUNT_CAP).collect())
}

/// A file of Claude Code's that is no larger than such files are.
fn json_of(file: &Path) -> Option<Value> {
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= STATE_CAP);
    serde_json::from_slice(&small.then(|| std::fs::read(file).ok()).flatten()?).ok()
}

fn keys(variable: &dyn Fn(&str) -> Option<String>) -> Vec<Key> {
    let set = |name: &str| variable(name).is_some_and(|value| !value.trim().is_empty());
    let found = KEYS.iter().filter(|(name, _)| set(name));
    found
        .map(|(name, provider)| Key {
            variable: (*name).to_owned(),
            provider: provider.word().to_owned(),
            base_url: match provider {
                Provider::OpenRouter => variable("OPENROUTER_BASE_URL").filter(|url| !url.is_empty()),
                Provider::Anthropic | Provider::Other(_) => None,
            },
        })
        .collect()
}

impl Provider {
    /// As it stands in a configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenRouter => "openrouter",
            Self::Other(preset) => preset,
        }
    }
}

fn found_cloud(
    (platform, variables, files): &(&str, &[&str], &[&str]),
    home: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<Cloud> {
    let by_variable = variables.iter().find(|name| variable(name).is_some_and(|value| !value.is_empty())).map(|name| (*name).to_owned());
    let by_file = || files.iter().find(|file| home.join(file).is_file()).map(|file| format!("~/{file}"));
    by_variable.or_else(by_file).map(|by| Cloud { platform: (*platform).to_owned(), by })
}

fn status_line(settings: &Path) -> Option<String> {
    json_of(settings)?["statusLine"]["command"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
