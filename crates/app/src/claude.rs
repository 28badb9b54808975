//! Decides how a child is pointed at the proxy, so that nothing else can pull its traffic away. Never writes a file, and never puts a token
//! into argv.
//!
//! Measured on Claude Code 2.1.330 in `-p`, where a hostile project's `.claude/settings.json` and `settings.local.json` apply without a
//! question: their `env` outranks the shell, a file given with `--settings` outranks them, an empty string there switches a variable off,
//! and of several `--settings` only the last one counts. So everything that decides where a request goes, and as whom, stands in our file:
//! with the user's own value, or empty. The lists below say what each one did before it was pinned.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hotspare_config::BaseUrl;
use serde_json::{Map, Value};

use crate::wiring::outward::Outward;

pub(crate) mod inside;
pub(crate) mod outer;
mod presence;

pub(crate) const BASE_URL: &str = "ANTHROPIC_BASE_URL";
pub(crate) const CUSTOM_HEADERS: &str = "ANTHROPIC_CUSTOM_HEADERS";
pub(crate) const AUTH_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
pub(crate) const API_KEY: &str = "ANTHROPIC_API_KEY";
const OAUTH_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
const HELPER: &str = "apiKeyHelper";
const TOKEN_HEADER: &str = "x-hotspare-token";

/// As whom a request goes. A project's value took the user's place; next to a stored login or key it was sent beside it.
const CREDENTIALS: [&str; 3] = [API_KEY, AUTH_TOKEN, OAUTH_TOKEN];

/// The switches that send the client to another cloud. With its address from the project too, each took the traffic past a pinned base
/// URL, Vertex with the user's own key; the last one did so only where the base URL was not pinned.
const OTHER_CLOUDS: [&str; 7] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_GATEWAY",
];

/// Other ways to another place that the client knows. None of them moved a request when measured; they are undocumented and may.
const OTHER_WAYS: [&str; 9] = [
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_API_BASE_URL",
    "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST",
    "CLAUDE_CODE_HTTP_PROXY",
    "CLAUDE_CODE_HTTPS_PROXY",
    "CLAUDE_CODE_PROXY_URL",
    "CLAUDE_CODE_PROXY_HOST",
    "CLAUDE_CODE_HOST_HTTP_PROXY_PORT",
    "CLAUDE_CODE_HOST_SOCKS_PROXY_PORT",
];

/// Whom the client believes. With a project's proxy, and these from the project too, the renewal of a login (which goes to its own host,
/// past any base URL) could be read there.
const TRUST: [&str; 2] = [EXTRA_CERTIFICATES, "NODE_TLS_REJECT_UNAUTHORIZED"];

pub(crate) const EXTRA_CERTIFICATES: &str = "NODE_EXTRA_CA_CERTS";

/// Proxies, in the two spellings that programs read. The client takes even plain HTTP to a loopback address through them, credential and
/// all. Both spellings of one get one value: to some programs an empty one hides the other.
const PROXIES: [[&str; 2]; 3] = [["http_proxy", "HTTP_PROXY"], HTTPS_PROXY, ["all_proxy", "ALL_PROXY"]];

pub(crate) const HTTPS_PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];

/// The name in the proxy's credentials; the password is the token.
const PROXY_USER: &str = "hotspare";

/// How a local token begins.
const TOKEN_START: &str = "hs-";

/// What the client switches off by itself behind a base URL that is not Anthropic's, and what brings it back (client.md, section 7).
/// Without the first one the descriptions of every MCP tool are in every request.
pub(crate) const LEVERS: [(&str, &str); 3] =
    [("ENABLE_TOOL_SEARCH", "true"), ("CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING", "1"), ("CLAUDE_CODE_PROPAGATE_TRACEPARENT", "1")];

/// What the client does otherwise where it knows no gateway in its way. It waits 180 s for an answer's head there and 360 s behind a base
/// URL (measured, 2.1.330): a head that is held back for the next profile would come too late.
const PATIENCE: (&str, &str) = ("CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS", "360000");

/// What gives the client's models names of the user's own, in the order of what they stand for: a model of two tiers gets the stand-in of the
/// first one here (Claude Code's settings; the presets of `farion1231/cc-switch` set them together).
const MODELS: [&str; 6] = [
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
];

/// What is reached without a proxy.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The provider's own base URL, which is what the client and the SDKs use without one. In full mode it stands where another one could be set:
/// Python's SDK takes an empty one for an address.
pub(crate) const OWN_URL: &str = "https://api.anthropic.com";

/// Our own port must be reached directly, whatever the proxy.
const LOOPBACK: &str = "127.0.0.1,localhost";

/// In whose name full mode answers: it must come to us, whatever else goes past a proxy.
const TERMINATED: &str = hotspare_gateway::intercept::HOST;

/// A word that the client knows only as the very first argument; behind an option it takes it for a prompt. It asks no model by itself.
/// The other words of this kind have to do with the background, and get nothing of ours.
const FIRST_WORD: &str = "remote-control";

/// Takes away what moves a session into the background, where it outlives the command that began it (documented under "agent view"; in
/// the process's environment alone, from settings it came too late for `--bg`: measured, 2.1.330).
const NO_BACKGROUND: (&str, &str) = ("CLAUDE_CODE_DISABLE_AGENT_VIEW", "1");

/// Programs that fetch a package and run it.
const FETCHERS: [&str; 3] = ["npx", "bunx", "pnpx"];

/// The client's package.
const PACKAGE: &str = "@anthropic-ai/claude-code";

/// Why the user's own settings cannot be merged with ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaudeError {
    /// A settings file cannot be read.
    #[error("`--settings {}` cannot be read: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Settings are no JSON object.
    #[error("`--settings {what}` is no JSON object: {reason}")]
    NotAnObject {
        /// The file, or `{…}`.
        what: String,
        /// Why.
        reason: String,
    },
    /// `--settings` is the last word.
    #[error("`--settings` needs a file or JSON after it")]
    NoValue,
}

/// What the user has set up, as far as it matters for where requests go.
#[derive(Debug, Default)]
pub(crate) struct UserSetup {
    argv: Vec<OsString>,
    /// Where the client's own arguments begin; none when the child is another program, or a command of the client that takes no settings.
    arguments_at: Option<usize>,
    /// What `--settings` held.
    given: Map<String, Value>,
    /// The user settings file.
    settings: Map<String, Value>,
    environment: HashMap<OsString, OsString>,
    /// What the client had where full mode has put ours.
    before: Option<Outward>,
    /// What `install` has displaced in the user settings.
    displaced: Vec<inside::Displaced>,
    /// What the commands inside the session get, and the folder for the script that gives it to them; `None` if they get what the client has.
    inside: Option<(inside::Children, PathBuf)>,
    /// Variables that a settings file of the project sets, which outranks the environment; `None` if that is not known.
    of_project: Option<HashSet<String>>,
}

/// How the client is led to us.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lead<'a> {
    /// By its base URL.
    Base,
    /// We are its HTTPS proxy, and it trusts the certificates in this file: ours, and those of the user's own.
    Full(&'a Path),
}

/// How the child is started.
#[derive(Debug)]
pub(crate) struct Injection {
    /// The child's arguments, without a `--settings`.
    pub argv: Vec<OsString>,
    /// What our settings file holds; none when the child does not take one.
    pub settings: Option<String>,
    /// Put into the child's environment.
    pub environment: HashMap<OsString, OsString>,
    /// Taken out of the child's environment.
    pub removed: Vec<&'static str>,
    /// Files that the child's commands read, and what they hold.
    pub files: Vec<(PathBuf, String)>,
    settings_at: usize,
}

impl UserSetup {
    /// Looks at the command, the environment and the files that Claude Code would read.
    pub(crate) fn read(command: &[OsString], environment: &HashMap<OsString, OsString>, user_settings: &Path) -> Result<Self, ClaudeError> {
        let arguments_at = client_arguments(command);
        let mut setup = Self { argv: command.to_vec(), arguments_at, environment: environment.clone(), ..Self::default() };
        let Some(at) = arguments_at else {
            return Ok(setup);
        };
        if let Some(settings) = take_settings(&mut setup.argv, at)? {
            setup.given = read_given(&settings)?;
        }
        // A broken user file is the client's to complain about.
        let text = std::fs::read_to_string(user_settings).unwrap_or_default();
        if let Ok(Value::Object(settings)) = serde_json::from_str(&text) {
            setup.settings = with_text_in_env(settings);
        }
        Ok(setup)
    }

    /// The user settings file and an environment, as a client that is started there without a `--settings` would read them.
    pub(crate) fn of_environment(environment: HashMap<OsString, OsString>, user_settings: &Path) -> Self {
        let text = std::fs::read_to_string(user_settings).unwrap_or_default();
        Self::lasting(serde_json::from_str(&text).unwrap_or_default(), environment)
    }

    /// What the client has set up for every session: the parts of its user settings, and the environment it is started in.
    pub(crate) fn lasting(settings: Map<String, Value>, environment: HashMap<OsString, OsString>) -> Self {
        Self { settings: with_text_in_env(settings), environment, ..Self::default() }
    }

    /// The same with what the settings of a project set, which outrank the environment. The client looks in the folder that it is started in;
    /// those above count too, for a version that looks further up.
    pub(crate) fn in_project(mut self, folder: &Path) -> Self {
        let files = folder.ancestors().flat_map(|folder| presence::OF_PROJECT.map(|file| folder.join(file)));
        let mut names = HashSet::new();
        for file in files {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                Err(_) => return self,
            };
            match serde_json::from_str(&text) {
                Ok(Value::Object(settings)) => names.extend(env_names(&settings)),
                _ => return self,
            }
        }
        self.of_project = Some(names);
        self
    }

    /// The same where `install` has put ours in the place of the client's own proxy and certificates: its own are these.
    pub(crate) fn with_kept(mut self, kept: Option<Outward>) -> Self {
        let has_ours = HTTPS_PROXY.iter().any(|name| self.value(name).is_some_and(is_our_proxy));
        self.before = kept.filter(|_| has_ours);
        self
    }

    /// The same with what a client shows of us that draws on the terminal: our status line, and our messages. `project` is where it starts.
    pub(crate) fn with_presence(mut self, program: &str, project: &Path) -> Self {
        presence::add(&mut self.given, &self.settings, project, program);
        self
    }

    /// What a lasting pointer at the proxy sets. Only what it needs: a variable that stands here hides the shell's for good. Never a
    /// credential, which would hide a login.
    pub(crate) fn lasting_env(&self, at: SocketAddr, token: &str, lead: Lead<'_>) -> Vec<(&'static str, String)> {
        let mut env = self.pointers(at, token, lead);
        // In base mode even without a proxy of today: through one of tomorrow's shell the client would send the token and its login there,
        // in the clear (measured).
        env.extend(self.both(NO_PROXY).into_iter().map(|(name, own)| (name, no_proxy(own.unwrap_or_default(), lead))));
        env
    }

    /// What leads the client to us, and takes other ways out of it.
    fn pointers(&self, at: SocketAddr, token: &str, lead: Lead<'_>) -> Vec<(&'static str, String)> {
        match lead {
            Lead::Base => {
                let mut env = vec![(BASE_URL, format!("http://{at}")), (CUSTOM_HEADERS, self.headers(Some(token)))];
                env.extend(LEVERS.map(|(name, default)| (name, self.value(name).unwrap_or(default).to_owned())));
                env
            }
            Lead::Full(certificates) => {
                let mut env = vec![(BASE_URL, OWN_URL.to_owned()), (CUSTOM_HEADERS, self.headers(None))];
                env.extend(HTTPS_PROXY.map(|name| (name, proxy_url(at, token))));
                env.push((EXTRA_CERTIFICATES, certificates.to_string_lossy().into_owned()));
                env.push((PATIENCE.0, self.value(PATIENCE.0).unwrap_or(PATIENCE.1).to_owned()));
                env
            }
        }
    }

    /// How the client's requests would leave this machine without us.
    pub(crate) fn outward(&self) -> Outward {
        let [proxy, all, no_proxy] = [HTTPS_PROXY, PROXIES[2], NO_PROXY].map(|spellings| self.both(spellings)[0].1.map(str::to_owned));
        Outward { proxy: proxy.or(all), no_proxy, certificates: self.own_certificates().map(Path::to_owned) }
    }

    /// Whether the command is Claude Code.
    pub(crate) fn is_client(&self) -> bool {
        self.arguments_at.is_some()
    }

    /// The base URL that the client would use without us. One that came with a local token is ourselves, around this run; [`OWN_URL`] is
    /// what full mode pins, and what the client uses without one.
    pub(crate) fn existing_base_url(&self) -> Option<&str> {
        let own_headers = self.value(CUSTOM_HEADERS).unwrap_or_default();
        self.value(BASE_URL).filter(|url| url.trim_end_matches('/') != OWN_URL && !own_headers.lines().any(is_token_line))
    }

    /// The same where it is another one than the provider's own, in whose name full mode answers.
    pub(crate) fn gateway(&self) -> Option<&str> {
        let own = BaseUrl::parse(&format!("https://{TERMINATED}")).ok();
        self.existing_base_url().filter(|url| BaseUrl::parse(url).ok() != own)
    }

    /// The switch that makes the client bypass any proxy for the Anthropic API, if the user set one.
    pub(crate) fn bypass(&self) -> Option<&'static str> {
        let on = |value: &str| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off");
        OTHER_CLOUDS.into_iter().find(|name| self.value(name).is_some_and(on))
    }

    /// The user's own value of a variable, as the client ranks them: `--settings`, user settings, shell. Empty counts as none.
    fn value(&self, name: &str) -> Option<&str> {
        if let Some(own) = self.before.as_ref().and_then(|before| before.value(name)) {
            return Some(own).filter(|value| !value.is_empty());
        }
        for settings in [&self.given, &self.settings] {
            // A variable that is set there, even to nothing, hides the ones below.
            if let Some(value) = settings.get("env").and_then(|env| env.get(name)) {
                return value.as_str().filter(|value| !value.is_empty());
            }
        }
        self.environment.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// True if a settings file or `--settings` gives the variable, and not the environment.
    pub(crate) fn names_in_settings(&self, name: &str) -> bool {
        [&self.given, &self.settings].into_iter().any(|settings| settings.get("env").and_then(|env| env.get(name)).is_some())
    }

    /// The models that the client asks for by names of its user's own, with the variable that gives each.
    pub(crate) fn own_models(&self) -> Vec<(&'static str, &str)> {
        MODELS.into_iter().filter_map(|name| Some((name, self.value(name)?))).collect()
    }

    /// The file of certificates that the client would trust without us.
    pub(crate) fn own_certificates(&self) -> Option<&Path> {
        self.value(EXTRA_CERTIFICATES).map(Path::new)
    }

    /// Points the child at the proxy.
    pub(crate) fn inject(&self, at: SocketAddr, token: &str, uses_client_login: bool, lead: Lead<'_>) -> Injection {
        let mut env = Map::new();
        for name in OTHER_CLOUDS.iter().chain(&OTHER_WAYS).chain(&TRUST) {
            env.insert((*name).to_owned(), self.value(name).unwrap_or_default().into());
        }
        // Other programs read these, and to some of them an empty one is a value: python-dotenv keeps an empty key over the program's own
        // file. So they are empty only where a settings file would set them.
        let own_credentials = CREDENTIALS.into_iter().map(|name| (name, self.value(name)));
        for (name, own) in own_credentials.chain(PROXIES.into_iter().flat_map(|spellings| self.both(spellings))) {
            if own.is_some() || self.is_set_by_settings(name) {
                env.insert(name.to_owned(), own.unwrap_or_default().into());
            }
        }
        for (name, own) in self.both(NO_PROXY) {
            env.insert(name.to_owned(), no_proxy(own.unwrap_or_default(), lead).into());
        }
        for (name, value) in self.pointers(at, token, lead) {
            env.insert(name.to_owned(), value.into());
        }
        let no_credential = CREDENTIALS.iter().all(|name| self.value(name).is_none());
        if !uses_client_login && no_credential {
            // Without any credential the client does not ask at all; with one it would hide the user's login, so only where nobody needs it.
            env.insert(AUTH_TOKEN.to_owned(), token.into());
        }
        match self.arguments_at {
            Some(settings_at) => {
                let base = self.base_set(format!("http://{at}"), token);
                self.inject_settings(env, settings_at, lead, &base)
            }
            None => inject_environment(self.argv.clone(), &env, token, uses_client_login, lead),
        }
    }

    /// The user's own value of a variable with two spellings: where only one is set, it stands for both.
    fn both(&self, [lower, upper]: [&'static str; 2]) -> [(&'static str, Option<&str>); 2] {
        let (of_lower, of_upper) = (self.value(lower), self.value(upper));
        [(lower, of_lower.or(of_upper)), (upper, of_upper.or(of_lower))]
    }

    /// Whether a settings file, which outranks the environment, gives a variable a value. One that cannot be read may.
    fn is_set_by_settings(&self, name: &str) -> bool {
        let sets = |settings: &Map<String, Value>| settings.get("env").is_some_and(|env| env.get(name).is_some());
        sets(&self.given) || sets(&self.settings) || self.of_project.as_ref().is_none_or(|names| names.contains(name))
    }

    fn inject_settings(&self, mut env: Map<String, Value>, settings_at: usize, lead: Lead<'_>, base: &[(&str, String)]) -> Injection {
        let mut settings = self.given.clone();
        let own_helper = self.given.get(HELPER).or_else(|| self.settings.get(HELPER));
        settings.insert(HELPER.to_owned(), own_helper.cloned().unwrap_or_else(|| "".into()));
        let mut process = vec![(NO_BACKGROUND.0, NO_BACKGROUND.1.to_owned())];
        if let Lead::Full(certificates) = lead {
            // The client's runtime reads it before any settings, and ignored it there in some versions (claude-code #10458).
            process.push((EXTRA_CERTIFICATES, certificates.to_string_lossy().into_owned()));
        }
        let files = self.inside_files(&mut env, &process, base);
        let environment = process.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let merged = settings.entry("env").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(merged) = merged {
            merged.extend(env);
        } else {
            *merged = Value::Object(env);
        }
        let settings = Some(Value::Object(settings).to_string());
        Injection { argv: self.argv.clone(), settings, environment, removed: Vec::new(), files, settings_at }
    }

    /// The user's own custom headers, with our token beside them where it is given.
    fn headers(&self, token: Option<&str>) -> String {
        let ours = token.map(|token| format!("{TOKEN_HEADER}: {token}"));
        let own = self.value(CUSTOM_HEADERS).unwrap_or_default();
        let mut lines: Vec<&str> = own.lines().filter(|line| !line.trim().is_empty() && !is_token_line(line)).collect();
        lines.extend(ours.as_deref());
        lines.join("\n")
    }
}

/// Another program: it gets the variables that the SDKs read, and the token as its key where no profile needs a key of its own.
fn inject_environment(argv: Vec<OsString>, env: &Map<String, Value>, token: &str, uses_client_login: bool, lead: Lead<'_>) -> Injection {
    let (names, removed): (&[&str], &[&'static str]) = match lead {
        Lead::Base => (&[BASE_URL, CUSTOM_HEADERS], &[]),
        // An empty base URL is none to the client, but an address to the SDKs.
        Lead::Full(_) => (&[HTTPS_PROXY[0], HTTPS_PROXY[1], EXTRA_CERTIFICATES], &[BASE_URL]),
    };
    let mut environment = HashMap::new();
    for name in names.iter().chain(&NO_PROXY) {
        if let Some(value) = env.get(*name).and_then(Value::as_str) {
            environment.insert((*name).into(), value.into());
        }
    }
    if !uses_client_login {
        environment.insert(API_KEY.into(), token.into());
    }
    Injection { argv, settings: None, environment, removed: removed.to_vec(), files: Vec::new(), settings_at: 0 }
}

/// What goes past any proxy: the user's own list and this machine. In full mode without what would lead the terminated host past us; the
/// list holds for our own connections, so a host on it is reached as before.
fn no_proxy(own: &str, lead: Lead<'_>) -> String {
    let covers = |entry: &str| {
        let name =
            entry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(entry, |(name, _)| name);
        let name = name.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        name.is_empty() || TERMINATED == name || TERMINATED.ends_with(&format!(".{name}"))
    };
    if matches!(lead, Lead::Base) {
        return if own.is_empty() { LOOPBACK.to_owned() } else { with_loopback(own) };
    }
    let kept = own.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty() && !covers(entry));
    let kept: Vec<&str> = kept.collect();
    if kept.is_empty() { LOOPBACK.to_owned() } else { with_loopback(&kept.join(",")) }
}

impl Injection {
    /// A child that gets nothing of ours.
    pub(crate) fn none(argv: Vec<OsString>) -> Self {
        Self { argv, settings: None, environment: HashMap::new(), removed: Vec::new(), files: Vec::new(), settings_at: 0 }
    }

    /// The child's arguments with our settings file. It stands before all of the client's own: behind a subcommand it would be that one's.
    pub(crate) fn argv_with(&self, settings: &Path) -> Vec<OsString> {
        let mut argv = self.argv.clone();
        let at = argv.len().min(self.settings_at);
        argv.splice(at..at, [OsString::from("--settings"), settings.as_os_str().to_owned()]);
        argv
    }
}

/// Our port, as the proxy that it is in full mode.
fn proxy_url(at: SocketAddr, token: &str) -> String {
    format!("http://{PROXY_USER}:{token}@{at}")
}

/// The address of a proxy that is a hotspare.
pub(crate) fn our_proxy(url: &str) -> Option<SocketAddr> {
    let (token, address) = url.strip_prefix("http://")?.strip_prefix(PROXY_USER)?.strip_prefix(':')?.split_once('@')?;
    let address: SocketAddr = address.trim_end_matches('/').parse().ok()?;
    (token.starts_with(TOKEN_START) && address.ip().is_loopback()).then_some(address)
}

/// The local token in that address.
pub(crate) fn proxy_token(url: &str) -> Option<&str> {
    our_proxy(url)?;
    url.split_once('@')?.0.rsplit(':').next()
}

/// Whether a proxy is a hotspare.
pub(crate) fn is_our_proxy(url: &str) -> bool {
    our_proxy(url).is_some()
}

/// A list of hosts that are reached directly, with our own in it.
fn with_loopback(own: &str) -> String {
    if own.ends_with(LOOPBACK) { own.to_owned() } else { format!("{own},{LOOPBACK}") }
}

pub(crate) fn is_token_line(line: &str) -> bool {
    line.split(':').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(TOKEN_HEADER))
}

/// Where the arguments of Claude Code begin, if they take settings.
fn client_arguments(command: &[OsString]) -> Option<usize> {
    client_at(command).filter(|at| command.get(*at).is_none_or(|first| first != FIRST_WORD))
}

/// Where Claude Code's own arguments begin. It is known by its file's name, and as a package that is fetched and run; behind a script or
/// another name it is a program like any other, which is pointed at us by its environment alone.
pub(crate) fn client_at(command: &[OsString]) -> Option<usize> {
    let name = Path::new(command.first()?).file_name()?.to_str()?;
    if matches!(name, "claude" | "claude.exe") {
        return Some(1);
    }
    if !FETCHERS.contains(&name) {
        return None;
    }
    let is_option = |argument: &OsString| argument.to_str().is_some_and(|text| text.starts_with('-'));
    let package = 1 + command[1..].iter().position(|argument| !is_option(argument))?;
    let version = command[package].to_str()?.strip_prefix(PACKAGE)?;
    (version.is_empty() || version.starts_with('@')).then_some(package + 1)
}

/// Takes every `--settings` out of the client's arguments; the last one counts, as in the client.
fn take_settings(argv: &mut Vec<OsString>, at: usize) -> Result<Option<OsString>, ClaudeError> {
    let mut settings = None;
    let mut rest = argv.split_off(at).into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            argv.push(argument);
            argv.extend(rest.by_ref());
        } else if argument == "--settings" {
            settings = Some(rest.next().ok_or(ClaudeError::NoValue)?);
        } else if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix("--settings=")) {
            settings = Some(value.into());
        } else {
            argv.push(argument);
        }
    }
    // The client takes an empty one for none.
    Ok(settings.filter(|settings| !settings.is_empty()))
}

/// `--settings` is a file, or JSON as it stands.
fn read_given(settings: &OsStr) -> Result<Map<String, Value>, ClaudeError> {
    let inline = settings.to_str().filter(|text| text.trim_start().starts_with('{'));
    let (what, text) = if let Some(text) = inline {
        ("{…}".to_owned(), text.to_owned())
    } else {
        let file = PathBuf::from(settings);
        let text = std::fs::read_to_string(&file).map_err(|source| ClaudeError::Unreadable { file: file.clone(), source })?;
        (file.display().to_string(), text)
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(settings)) => Ok(with_text_in_env(settings)),
        Ok(_) => Err(ClaudeError::NotAnObject { what, reason: "it is another kind of value".to_owned() }),
        Err(error) => Err(ClaudeError::NotAnObject { what, reason: error.to_string() }),
    }
}

fn env_names(settings: &Map<String, Value>) -> Vec<String> {
    settings.get("env").and_then(Value::as_object).map(|env| env.keys().cloned().collect()).unwrap_or_default()
}

/// The client makes text of every value in `env`, of `5` and of `null` alike.
fn with_text_in_env(mut settings: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(env)) = settings.get_mut("env") {
        for value in env.values_mut().filter(|value| !value.is_string()) {
            *value = value.to_string().into();
        }
    }
    settings
}

#[cfg(test)]
mod tests;
