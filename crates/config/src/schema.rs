//! Describes the configuration format as a JSON Schema, for editors and for people. Never reads a file: the reader does, because it
//! knows where everything stands. A test over all example files holds the two together.
//!
//! The types here exist for their descriptions alone; what the format means is in the types of [`crate::Config`].
#![expect(dead_code, reason = "only the schema of these types is used")]

mod hooks;

use std::collections::HashMap;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::key::KeyPath;
use crate::lookup;

/// The published schema: draft 2020-12, every key with a description, unknown keys refused.
pub fn schema() -> Value {
    let mut schema = SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<File>();
    RecursiveTransform(absent_is_not_null).transform(&mut schema);
    RecursiveTransform(unwrapped).transform(&mut schema);
    schema.to_value()
}

/// Whether the format has a key of this path.
pub(crate) fn knows(path: &KeyPath) -> bool {
    lookup::find(&schema(), path).is_some()
}

/// An optional key may be left out, but `null` is no value for it.
fn absent_is_not_null(schema: &mut Schema) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
            choices.retain(|choice| choice != &json!({ "type": "null" }));
            if let [Value::Object(only)] = choices.as_slice() {
                let only = only.clone();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}

/// The line ends of a doc comment are no part of what it says.
fn unwrapped(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}

/// hotspare's configuration: JSON; comments and trailing commas are allowed.
#[derive(JsonSchema)]
#[schemars(title = "hotspare configuration", deny_unknown_fields)]
struct File {
    /// Where this schema is, for editors. Not read.
    #[schemars(rename = "$schema")]
    schema: Option<Value>,
    /// Who is asked first, who takes over, and when. May also stand in Claude Code's user settings, under the same key; what stands here
    /// has the last word.
    failover_policy: Option<FailoverPolicy>,
    /// The ways out, by name. `{}` is Anthropic's API with the client's own login; `null` drops one that a lower layer defines.
    #[schemars(extend("propertyNames" = { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$" }, "maxProperties" = 64))]
    profiles: Option<HashMap<String, Option<Profile>>>,
    /// What is called at which moment: programs and addresses. From a project's file only after `hotspare trust`.
    hooks: Option<hooks::Hooks>,
    /// The listener and its limits.
    server: Option<Server>,
    /// How a move to another profile is told.
    notify: Option<Notify>,
    /// What is remembered of exchanges.
    log: Option<Log>,
    /// Keys that no other layer may set. Only in the managed configuration of a machine.
    #[schemars(example = json!(["failover_policy.triggers", "profiles"]))]
    locked: Option<Vec<String>>,
}

/// When a request goes on to another profile, and to which.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({
    "enabled": true, "primary_profile": "work", "secondary_profile": "openrouter-backup",
    "triggers": [500, 502, 503, 504, 529, 429], "max_failover_attempts": 1
}))]
struct FailoverPolicy {
    /// Off: the primary alone is asked. Default: true.
    enabled: Option<bool>,
    /// The profile that is asked first.
    #[schemars(length(min = 1))]
    primary_profile: Option<String>,
    /// The profile that takes over, or several in order.
    secondary_profile: Option<OneOrMore>,
    /// Put behind the spares of the layers below.
    #[schemars(rename = "+secondary_profile")]
    more_secondary_profiles: Option<OneOrMore>,
    /// Which failures start a failover. Default: `5xx`, 408, 429, 401, 402, 403 and an unknown model. Statuses given here replace all of
    /// these. Failures without a status (no connection, a timeout, a dead stream) always do.
    #[schemars(example = json!(["5xx", 429, "authentication_failed"]))]
    triggers: Option<Vec<Trigger>>,
    /// Put behind the triggers of the layers below.
    #[schemars(rename = "+triggers")]
    more_triggers: Option<Vec<Trigger>>,
    /// Further profiles that one request may try. Default: 3.
    #[schemars(range(min = 0, max = 3))]
    max_failover_attempts: Option<u8>,
    /// Other profiles for some models. The first that matches is used, the pair above comes last.
    #[schemars(example = json!([{ "match": { "model": "claude-haiku-*" }, "profiles": ["backup", "work"] }]))]
    chains: Option<Vec<Chain>>,
    /// Put behind the chains of the layers below.
    #[schemars(rename = "+chains")]
    more_chains: Option<Vec<Chain>>,
    /// What the client hears when no profile is left. Default: wait.
    on_exhausted: Option<OnExhausted>,
    /// What happens when an account's 5-hour limit offers slower service (`/low-priority`). Default: name.
    slow_service: Option<SlowService>,
    /// How an answer ends that breaks after the client has begun to read it. Default: auto.
    mid_stream: Option<MidStream>,
    /// When a session goes back to a better profile that is well again.
    failback: Option<Failback>,
    /// Whether an answer that starts slowly may be raced by the next profile. Each race is billed twice. Raced are streams without
    /// server-side tools, after 10 seconds or the profile's 95th percentile if that is longer, at most 5 percent of the requests of ten
    /// minutes, and never at a profile whose usage window is 80 percent used, nor with a `PreFailover` hook. Default: false.
    hedge: Option<bool>,
    /// The separate time limits of one attempt.
    clocks: Option<Clocks>,
}

/// When a session goes back to a better profile that is well again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "after_good": 2, "min_stay": "2m", "at": "cold_cache" }))]
struct Failback {
    /// Good answers in a row that close an open circuit breaker. A profile that only cools down is used again when that time is over.
    /// Default: 2.
    #[schemars(range(min = 1, max = 10))]
    after_good: Option<u8>,
    /// Shortest time that a session stays where it went. Default: 2m.
    min_stay: Option<Duration>,
    /// What a session waits for. Default: `cold_cache`.
    at: Option<FailbackAt>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum FailbackAt {
    /// A turn at which the way back costs no warm prompt cache.
    ColdCache,
    /// The next turn.
    Turn,
    /// `hotspare switch` or `reset`.
    Manual,
}

/// One profile's name, or an ordered list of names.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMore {
    One(#[schemars(length(min = 1))] String),
    More(Vec<String>),
}

/// A failure that starts a failover.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Trigger {
    /// An HTTP status.
    Status(#[schemars(range(min = 100, max = 599))] u16),
    /// All statuses of a class.
    Class(TriggerClass),
    /// An error by Claude Code's own word for it.
    Name(TriggerName),
}

#[derive(JsonSchema)]
enum TriggerClass {
    #[schemars(rename = "4xx")]
    Client,
    #[schemars(rename = "5xx")]
    Server,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum TriggerName {
    /// 429.
    RateLimit,
    /// 529.
    Overloaded,
    /// 401 and 403.
    AuthenticationFailed,
    /// 402, and a 400 that says the credit is used up.
    BillingError,
    /// A 404 for the model.
    ModelNotFound,
    /// Any 5xx but 529.
    ServerError,
}

/// Profiles for the requests that match.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Chain {
    /// Which requests; `{}` or nothing is every request.
    #[schemars(rename = "match")]
    matches: Option<Match>,
    /// Asked in this order.
    #[schemars(length(min = 1))]
    profiles: Vec<ChainEntry>,
    /// In place of the policy's.
    on_exhausted: Option<OnExhausted>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Match {
    /// The model a client asks for; `*` stands for any characters.
    #[schemars(regex(pattern = "^[!-~]{1,256}$"), example = &"claude-haiku-*")]
    model: Option<String>,
    /// The folder a client works in, where that is known; `*` stands for one folder's name, `**` for any number of folders.
    #[schemars(regex(pattern = "^(/|~/|~$)"), example = &"~/src/bank/**")]
    project: Option<String>,
}

/// A profile's name, or a name with the model to ask it for.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum ChainEntry {
    Name(#[schemars(length(min = 1))] String),
    WithModel(ProfileAndModel),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ProfileAndModel {
    /// The profile's name.
    #[schemars(length(min = 1))]
    profile: String,
    /// The model it is asked for, whatever the client wants.
    #[schemars(regex(pattern = "^[!-~]{1,256}$"))]
    model: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnExhausted {
    /// An answer that makes the client wait and ask again.
    Wait,
    /// An answer that stays open until a profile recovers, for at most 9 minutes; for work that nobody watches.
    Hold,
    /// An error at once that names each profile with its failure.
    Fail,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum SlowService {
    /// `status` and the notice name the offer, and the next profile answers.
    Name,
    /// In full mode an interactive client gets the refusal with the offer, so that the user can choose it over a paid spare.
    Prefer,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum MidStream {
    /// The ending that loses least for this client.
    Auto,
    /// The answer is always cut off.
    Cut,
}

/// Time limits of one attempt: `"250ms"`, `"5s"`, `"2m"`, `"1h"`; at most 24 h. None of them is a total.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Clocks {
    /// DNS and TCP. Default: 5s.
    connect: Option<Duration>,
    /// The TLS handshake. Default: 10s.
    tls: Option<Duration>,
    /// From the request to the answer's head. Default: 60s.
    head: Option<Duration>,
    /// From the head to the first content of a stream. Default: 120s.
    first_content: Option<Duration>,
    /// Between two bytes of an answer. Default: 120s.
    bytes_idle: Option<Duration>,
    /// Between two pieces of content. Default: 240s.
    content_idle: Option<Duration>,
}

/// A whole number over 0 and a unit.
#[derive(JsonSchema)]
#[schemars(inline)]
struct Duration(#[schemars(regex(pattern = "^[1-9][0-9]*(ms|s|m|h)$"))] String);

/// A way out: platform, address, credential, models.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend(
    "if" = { "properties": { "platform": { "enum": ["anthropic_compatible", "openrouter"] } }, "required": ["platform"] },
    "then" = { "properties": { "auth": { "anyOf": [{ "type": "object" }, { "const": "none" }] } } }
))]
#[schemars(example = json!({}))]
#[schemars(example = json!({ "auth": { "env": "ANTHROPIC_BACKUP_KEY" } }))]
#[schemars(example = json!({ "platform": "openrouter", "auth": { "env": "OPENROUTER_API_KEY" } }))]
#[schemars(example = json!({ "preset": "zai", "auth": { "command": ["pass", "show", "zai"] }, "models": { "claude-*": "glm-5" } }))]
struct Profile {
    /// The dialect. Default: `anthropic`; with a preset `anthropic_compatible`.
    platform: Option<Platform>,
    /// A known endpoint of the platform `anthropic_compatible`: its address, its header, and what it does not take.
    preset: Option<Preset>,
    /// Where the API begins, without `/v1`: https, or http to this machine. Default: that of the platform or preset; a platform
    /// `anthropic_compatible` without a preset needs one.
    #[schemars(regex(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\\\\]+(/[^?#%\\\\ ]*)?$"), example = &"https://api.z.ai/api/anthropic")]
    base_url: Option<String>,
    /// Plain http to another machine is meant. Default: false.
    allow_http: Option<bool>,
    /// Where the credential comes from. Default: `"client"`, and for a local server none; another provider needs one of its own.
    auth: Option<Auth>,
    /// What models are called there: the first pattern that matches decides, `null` refuses the model. A model without a match keeps its
    /// name, or has the one of the built-in table (openrouter), or is not asked for there (presets with models of their own).
    #[schemars(example = json!({ "claude-haiku-*": "glm-5-air", "claude-*": "glm-5", "*": null }))]
    #[schemars(extend("propertyNames" = { "pattern": "^[!-~]{1,256}$" }))]
    models: Option<HashMap<String, Option<ModelName>>>,
    /// In place of the policy's.
    clocks: Option<Clocks>,
    /// What it takes of requests. Another profile is asked where a request does not fit.
    supports: Option<Supports>,
    /// How much money it may take, as estimated from tokens and list prices. Then another profile is asked.
    budget: Option<Budget>,
    /// Whether a login of a folder (`auth.claude_config_dir`) that has run out is renewed, by running your own Claude Code in that folder.
    /// Default: true.
    renew: Option<bool>,
}

/// Limits in US dollars, from 0 to a million, with at most six digits behind the point.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "per_day_usd": 10, "per_session_usd": 3 }))]
struct Budget {
    /// In one day, by this machine's calendar. Processes that share a state folder count together.
    #[schemars(range(min = 0, max = 1_000_000))]
    per_day_usd: Option<f64>,
    /// In one session of the client, with all its agents.
    #[schemars(range(min = 0, max = 1_000_000))]
    per_session_usd: Option<f64>,
}

/// What a profile takes of requests. What is not said is taken to be there.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "context": 200_000, "thinking": false }))]
struct Supports {
    /// Tokens of its context window. A request that surely has more is not sent there. Not set: that of the Claude model it is asked
    /// for, where that is another one than the client's.
    #[schemars(range(min = 1000, max = 100_000_000))]
    context: Option<u64>,
    /// Whether it may be asked to think; if not, a request goes there without asking for it. Default: true.
    thinking: Option<bool>,
    /// Whether it sees pictures; if not, a conversation that shows any is not sent there. Default: true.
    images: Option<bool>,
    /// Whether it knows tools; if not, a request that names any is not sent there. Default: true.
    tools: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(inline)]
struct ModelName(#[schemars(regex(pattern = "^[!-~]{1,256}$"))] String);

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Platform {
    /// Anthropic's API, or a gateway that passes it on.
    Anthropic,
    /// Another provider that speaks the Anthropic Messages format.
    AnthropicCompatible,
    /// OpenRouter.
    Openrouter,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Preset {
    DeepSeek,
    Zai,
    Kimi,
    MiniMax,
    Ollama,
    LmStudio,
    Vllm,
    LlamaCpp,
    LiteLlm,
}

/// Where a credential comes from: exactly one place.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Auth {
    Client(ClientLogin),
    Env(AuthEnv),
    File(AuthFile),
    Command(AuthCommand),
    Keychain(AuthKeychain),
    ClaudeConfigDir(AuthClaudeConfigDir),
    Value(AuthValue),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum ClientLogin {
    /// The client's own credential is passed on.
    Client,
    /// No credential is sent: for a server on this machine that asks for none.
    None,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthEnv {
    /// The name of an environment variable.
    #[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"), example = &"OPENROUTER_API_KEY")]
    env: String,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthFile {
    /// A file that holds the credential and nothing else, readable by its owner alone.
    #[schemars(regex(pattern = "^(/|~/|~$)"), example = &"~/.config/hotspare/backup.key")]
    file: String,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthCommand {
    /// A program that prints the credential, and its arguments; no shell.
    #[schemars(length(min = 1), example = json!(["pass", "show", "backup"]))]
    command: Vec<String>,
    /// It is killed after this; at most a minute. Default: 10s.
    timeout: Option<Duration>,
    /// What it printed is used so long, or until the provider rejects it. Default: 5m.
    ttl: Option<Duration>,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthKeychain {
    /// The name under which the operating system keeps the credential for the service `hotspare`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_@][A-Za-z0-9._@-]{0,99}$"), example = &"backup")]
    keychain: String,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthClaudeConfigDir {
    /// A folder of Claude Code's whose login is used: read when it is needed, never copied or written; renewed by Claude Code itself (see
    /// `renew`). Read the provider's terms first.
    #[schemars(regex(pattern = "^(/|~/|~$)"), example = &"~/.claude-personal")]
    claude_config_dir: String,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AuthValue {
    /// The credential itself, in clear text. Better kept elsewhere.
    #[schemars(length(min = 1))]
    value: String,
    /// How it is sent. Default: as the platform and the credential suggest.
    header: Option<AuthHeader>,
}

#[derive(JsonSchema)]
enum AuthHeader {
    #[schemars(rename = "x-api-key")]
    ApiKey,
    #[schemars(rename = "bearer")]
    Bearer,
}

/// The listener and its limits.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Server {
    /// A loopback address with a port; port 0 picks a free one. Default: 127.0.0.1:4117.
    #[schemars(regex(pattern = "^(localhost|127(\\.[0-9]{1,3}){3}|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"))]
    listen: Option<String>,
    /// Largest request body, `"64KiB"` to `"64MiB"`. Default: 32MiB.
    #[schemars(regex(pattern = "^[1-9][0-9]*(KiB|MiB)$"))]
    max_body: Option<String>,
    /// Most client connections at one time. Default: 256.
    #[schemars(range(min = 1, max = 10_000))]
    max_connections: Option<u16>,
    /// How clients are led through hotspare; read at the start. Default: auto.
    mode: Option<Mode>,
    /// Where requests go of programs that Claude Code starts: commands of its tools, MCP servers, hooks; read at the start. Default: direct.
    children: Option<Children>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Children {
    /// Where they would go without hotspare, with the program's own credential.
    Direct,
    /// Through the chain, as those of Claude Code itself.
    Protected,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Mode {
    /// As is best known to work: by the base URL today.
    Auto,
    /// By their base URL alone: the port is no proxy.
    Base,
    /// As the HTTPS proxy of Claude Code, which keeps every feature that a base URL switches off.
    Full,
}

/// How a move to another profile is told, beside the status line, `status` and the log. Each one is told, or counted and told later.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "desktop": true, "terminal": true, "quiet": "10m" }))]
struct Notify {
    /// By the desktop, where there is one. Default: true.
    desktop: Option<bool>,
    /// By a line on standard error, where no program owns the screen. Default: true.
    terminal: Option<bool>,
    /// The same move, for the same reason, is told once in so long, then as a count. Default: 10m.
    quiet: Option<Duration>,
}

/// What is remembered of exchanges: who was asked, what failed, times, counts of tokens and bytes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Log {
    /// For how long, `"1h"` to `"365d"`. Default: 14d.
    #[schemars(regex(pattern = "^[1-9][0-9]*(h|d)$"))]
    retain: Option<String>,
    /// Whether prompts and answers are kept: they never are.
    bodies: Option<Bodies>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Bodies {
    Never,
}
