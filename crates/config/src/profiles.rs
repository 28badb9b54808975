//! Reads `profiles`: the ways out by name, each with its address, model map and clocks. Never decides who is asked when.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hotspare_core::models::without_long_context;
use hotspare_core::policy::ClockOverrides;
use hotspare_core::route::ProfileId;
use hotspare_core::{Budget, ModelPattern, Platform};

use crate::auth::{self, Auth, AuthSource};
use crate::base_url::{BaseUrl, BaseUrlError};
use crate::budget;
use crate::codes;
use crate::platforms::{self, OwnNames};
use crate::policy::clocks;
use crate::reader::{Field, Findings, Table, listed, nearest};
use crate::supports::{self, Supports};
use crate::tree::{Member, Value};

/// Most profiles in one configuration.
pub const MAX_PROFILES: usize = 64;

/// A configured way out.
#[derive(Debug, Clone)]
pub struct Profile {
    /// As written: letters, digits, `.`, `_` and `-`.
    pub name: Arc<str>,
    /// The dialect.
    pub platform: Platform,
    /// Where requests go.
    pub base_url: BaseUrl,
    /// Where the credential comes from.
    pub auth: Auth,
    /// Which models it takes, under which names.
    pub models: ModelMap,
    /// Put over the policy's clocks.
    pub clocks: ClockOverrides,
    /// What it takes of requests.
    pub supports: Supports,
    /// How much money it may take.
    pub budget: Budget,
}

impl Profile {
    /// Anthropic's API with the client's own login: what every user has before configuring anything.
    pub fn client_login(name: &str) -> Self {
        Self {
            name: name.into(),
            platform: Platform::Anthropic,
            base_url: BaseUrl::anthropic(),
            auth: Auth::client(),
            models: ModelMap::default(),
            clocks: ClockOverrides::default(),
            supports: Supports::default(),
            budget: Budget::default(),
        }
    }
}

/// What a profile calls the models that clients ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelMap {
    entries: Vec<(ModelPattern, Option<Arc<str>>)>,
    own: OwnNames,
}

/// What becomes of a model's name at a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    /// The name is passed on as it is.
    Same,
    /// This name is put in its place.
    To(Arc<str>),
    /// The profile's map refuses this model.
    Rejected,
    /// Nothing says what the profile calls this model, and nothing is guessed.
    Unknown,
}

impl ModelMap {
    /// Whether it maps nothing, so that the model need not be known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.own == OwnNames::Same
    }

    /// The names that the profile's own map puts in place of others.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|(_, name)| name.as_deref())
    }

    /// What the profile's own map says, in the order of the file: a pattern, and the name in its place; none: the model is refused.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries.iter().map(|(pattern, to)| (pattern.as_str(), to.as_deref()))
    }

    /// Looks the model up: the first entry that matches decides, in the order of the file, then what the platform itself calls it. The
    /// client's suffix for the long context window is no part of a name.
    pub fn map(&self, model: &str) -> Mapped {
        let name = without_long_context(model).unwrap_or(model);
        match self.entries.iter().find(|(pattern, _)| pattern.matches(model) || pattern.matches(name)) {
            Some((_, None)) => Mapped::Rejected,
            Some((_, Some(name))) => Mapped::To(name.clone()),
            None => match self.own.name(name) {
                None => Mapped::Unknown,
                Some(own) if own == model => Mapped::Same,
                Some(own) => Mapped::To(own.into()),
            },
        }
    }
}

/// The names that a policy may use.
pub(crate) struct Names<'a> {
    written: Vec<&'a str>,
    /// The same, as they may be shown.
    shown: Vec<String>,
    /// Those that a layer drops (`null`), whoever names them.
    dropped: Vec<&'a str>,
    /// The file that profiles belong into, for advice.
    pub(crate) own_file: &'a Path,
}

impl<'a> Names<'a> {
    /// The names under `profiles`, also of profiles with faults: those are reported once, not at every use.
    pub(crate) fn of(profiles: Option<&Field<'a>>, own_file: &'a Path) -> Self {
        let members: &[Member] = match profiles.map(|field| &field.node.value) {
            Some(Value::Object(members)) => members,
            _ => &[],
        };
        let (dropped, kept): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| is_dropped(member));
        let names = |members: &[&'a Member]| members.iter().map(|member| member.name.as_str()).collect();
        let shown = kept.iter().map(|member| member.name_at.quote()).collect();
        Self { written: names(&kept), shown, dropped: names(&dropped), own_file }
    }

    /// Whether none is defined.
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Whether a layer drops some.
    pub(crate) fn any_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The profile that a field names; none also where a layer drops it.
    pub(crate) fn find(&self, field: &Field<'_>, findings: &mut Findings) -> Option<ProfileId> {
        let name = field.text(findings)?;
        if let Some(id) = self.id(name) {
            return Some(id);
        }
        if self.is_empty() || self.dropped.contains(&name) {
            // Said once for the whole file, by whoever reads the policy.
            return None;
        }
        let title = format!("unknown profile `{}` in `{}`", field.at().quote(), field.path);
        let diagnostic = findings.error(codes::UNKNOWN_PROFILE, &field.at(), title, "no profile has this name");
        let shown = || self.shown.iter().map(String::as_str);
        match nearest(name, shown()) {
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic.help(format!("add it under `profiles`: `{}`", example(&field.at().quote(), false))),
        };
        diagnostic.note(format!("profiles are: {}", listed(&shown().collect::<Vec<_>>())));
        None
    }

    fn id(&self, name: &str) -> Option<ProfileId> {
        let index = self.written.iter().position(|known| *known == name)?;
        u16::try_from(index).ok().map(ProfileId)
    }
}

/// `"name": null`: this profile is not asked, whoever names it.
fn is_dropped(member: &Member) -> bool {
    matches!(member.node.value, Value::Null)
}

/// A line of JSON that would define a profile of this name.
pub(crate) fn example(name: &str, primary: bool) -> String {
    if name.contains("openrouter") {
        format!(r#""{name}": {{ "platform": "openrouter", "auth": {{ "env": "OPENROUTER_API_KEY" }} }}"#)
    } else if primary {
        format!("\"{name}\": {{}}")
    } else {
        format!("\"{name}\": {{ \"auth\": {{ \"env\": \"ANTHROPIC_BACKUP_KEY\" }} }}")
    }
}

/// Reads every profile; the place in the list is the [`ProfileId`].
pub(crate) fn read(field: &Field<'_>, listen: SocketAddr, home: &Path, findings: &mut Findings) -> Vec<Profile> {
    let Some(table) = field.table(findings) else { return Vec::new() };
    if table.all().count() > MAX_PROFILES {
        findings
            .error(codes::OUT_OF_RANGE, &field.key_at, format!("more than {MAX_PROFILES} profiles"), "too many profiles here")
            .help("remove those that no chain uses");
    }
    table
        .all()
        .filter(|(member, _)| !is_dropped(member))
        .filter_map(|(member, field)| one(&member.name, &field, listen, home, findings))
        .collect()
}

fn one(name: &str, field: &Field<'_>, listen: SocketAddr, home: &Path, findings: &mut Findings) -> Option<Profile> {
    let mut table = field.table(findings)?;
    check_name(name, field, findings);
    let platform = platforms::read(&mut table, findings)?;
    let base_url = base_url(&mut table, platform, listen, findings);
    let platform = base_url.as_ref().map_or(platform, |url| platforms::at_address(platform, url));
    let auth = auth::read(&mut table, platform, base_url.as_ref(), home, findings);
    if let (Some(url), Some(auth)) = (&base_url, &auth) {
        warn_of_login_via_gateway(url, auth, field, findings);
    }
    let models = models(&mut table, platform, findings);
    let clocks = table.take("clocks").map(|field| clocks(&field, findings)).unwrap_or_default();
    let supports = table.take("supports").map(|field| supports::read(&field, findings)).unwrap_or_default();
    let budget_field = table.take("budget");
    let budget = budget_field.as_ref().map(|field| budget::read(field, findings)).unwrap_or_default();
    if let (Some(field), Some(auth)) = (&budget_field, &auth) {
        budget::warn(field, budget, platform, auth, &models, findings);
    }
    table.not_yet("region", "it belongs to platforms that this version does not speak; remove the key", findings);
    table.not_yet("project", "it belongs to platforms that this version does not speak; remove the key", findings);
    table.finish_with(misplaced, findings);
    Some(Profile { name: name.into(), platform, base_url: base_url?, auth: auth?, models, clocks, supports, budget })
}

/// Advice for what people write after the habits of other tools.
fn misplaced(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase().replace(['_', '-'], "");
    match key.as_str() {
        "apikey" | "key" | "token" | "authtoken" | "accesstoken" | "secret" | "env" | "value" | "command" => {
            Some(r#"say where the credential comes from: `"auth": { "env": "NAME_OF_A_VARIABLE" }`"#.to_owned())
        }
        "url" | "endpoint" | "host" | "apibase" => Some("did you mean `base_url`?".to_owned()),
        "model" => Some(r#"did you mean `models`, e.g. `"models": { "*": "name-at-the-provider" }`?"#.to_owned()),
        "type" | "provider" | "kind" => Some("did you mean `platform`?".to_owned()),
        _ => None,
    }
}

/// Names travel in a response header and on command lines.
fn check_name(name: &str, field: &Field<'_>, findings: &mut Findings) {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !(plain && starts_well && name.len() <= 60) {
        let title = format!("`{}` cannot be a profile's name", field.key_at.quote());
        findings
            .error(codes::BAD_NAME, &field.key_at, title, "not a name")
            .help("use up to 60 letters, digits, `.`, `_` and `-`, first a letter or a digit");
    }
}

fn base_url(table: &mut Table<'_>, platform: Platform, listen: SocketAddr, findings: &mut Findings) -> Option<BaseUrl> {
    let field = table.take("base_url");
    let allow_http = match table.take("allow_http") {
        Some(field) => field.bool(findings)?,
        None => false,
    };
    let Some(field) = field else {
        if let Some(address) = platforms::address(platform) {
            return Some(BaseUrl::parse(address).expect("a test reads every address of ours"));
        }
        table.missing("base_url", r#"add the address without `/v1`, e.g. `"base_url": "https://api.z.ai/api/anthropic"`"#, findings);
        return None;
    };
    let url = match BaseUrl::parse(field.text(findings)?) {
        Ok(url) => url,
        Err(error) => {
            refuse(&field, error, findings);
            return None;
        }
    };
    if url.needs_allow_http() && !allow_http {
        findings
            .error(
                codes::PLAIN_HTTP,
                &field.at(),
                format!("`{}` is plain http to another machine", field.path),
                "credentials would travel unprotected",
            )
            .help("use `https://`")
            .help(r#"or, on a network you trust, add `"allow_http": true` to the profile"#);
    }
    if url.points_at(listen) {
        findings
            .error(
                codes::OWN_LISTENER,
                &field.at(),
                format!("`{}` is hotspare's own listener", field.path),
                "requests would come back in a circle",
            )
            .help("give the provider's own address, or change `server.listen`");
    }
    if url.prefix == "/v1" || url.prefix.ends_with("/v1") {
        findings
            .warning(
                codes::URL_ENDS_IN_V1,
                &field.at(),
                format!("`{}` ends in `/v1`", field.path),
                "requests would go to `/v1/v1/messages`",
            )
            .help("leave `/v1` away: hotspare adds `/v1/messages` itself");
    }
    Some(url)
}

fn refuse(field: &Field<'_>, error: BaseUrlError, findings: &mut Findings) {
    let code = if error == BaseUrlError::Denied { codes::DENIED_ADDRESS } else { codes::BAD_URL };
    let help = match error {
        BaseUrlError::Scheme => "write the whole address, e.g. `https://api.anthropic.com`",
        BaseUrlError::UserInfo => "give the credential in `auth`",
        BaseUrlError::QueryOrFragment => "leave away everything from `?` or `#` on",
        BaseUrlError::Host => "write a name such as `api.example.com`, `127.0.0.1` or `[::1]`; names beyond ASCII as `xn--…`",
        BaseUrlError::Port => "write `https://host:8443`, or no port",
        BaseUrlError::Path => "write a plain path, e.g. `https://api.z.ai/api/anthropic`",
        BaseUrlError::Denied => "give the provider's address",
    };
    findings.error(code, &field.at(), format!("`{}` is not usable: {error}", field.path), "this address").help(help);
}

/// A company's gateway is a good reason, a mistake in the URL is not; the user must know either way.
fn warn_of_login_via_gateway(url: &BaseUrl, auth: &Auth, field: &Field<'_>, findings: &mut Findings) {
    let whose = match auth.source {
        // `"auth": "client"` is the user's statement that the gateway may have it.
        AuthSource::Client if auth.is_written => return,
        AuthSource::Client => "the client's own login",
        AuthSource::ClaudeConfigDir(_) => "a stored login",
        _ => return,
    };
    if !url.is_anthropic() {
        let title = format!("`{}` sends {whose} to {}", field.path, url.authority());
        findings
            .warning(codes::CLIENT_LOGIN_VIA_GATEWAY, &field.key_at, title, format!("uses {whose}"))
            .help("for a gateway of your company, say so: `\"auth\": \"client\"`; otherwise give the profile its own `auth`");
    }
}

fn models(profile: &mut Table<'_>, platform: Platform, findings: &mut Findings) -> ModelMap {
    let own = OwnNames::of(platform);
    let Some(field) = profile.take("models") else {
        if own == OwnNames::Unknown {
            let title = format!("`{}` does not say what the provider calls the models", profile.path);
            findings
                .error(codes::NO_MODELS, &profile.at, title, "needs `models`")
                .help(r#"map them, e.g. `"models": { "claude-*": "name-at-the-provider" }`"#)
                .note("it has models of its own: which of them stands for which of Claude's is never guessed");
        }
        return ModelMap { own, ..ModelMap::default() };
    };
    ModelMap { entries: entries(&field, findings), own }
}

fn entries(field: &Field<'_>, findings: &mut Findings) -> Vec<(ModelPattern, Option<Arc<str>>)> {
    let Some(table) = field.table(findings) else { return Vec::new() };
    let mut entries: Vec<(ModelPattern, Option<Arc<str>>)> = Vec::new();
    for (member, field) in table.all() {
        if !is_model_text(&member.name) {
            let title = format!("`{}` is not a model pattern", field.path);
            findings.error(codes::BAD_NAME, &field.key_at, title, "not a pattern").help(MODEL_HELP);
        }
        if entries.iter().any(|(earlier, _)| earlier.matches(&member.name)) {
            let title = format!("`{}` is never used", field.path);
            findings
                .warning(codes::UNREACHABLE, &field.key_at, title, "a pattern before it always matches first")
                .help("put the narrower pattern first");
        }
        let target = if field.is_null() { None } else { model(&field, findings) };
        entries.push((ModelPattern::new(&member.name), target));
    }
    entries
}

const MODEL_HELP: &str = "write a model's name, or a pattern such as `claude-haiku-*`, without spaces";

/// A model's name or pattern.
pub(crate) fn model(field: &Field<'_>, findings: &mut Findings) -> Option<Arc<str>> {
    let text = field.text(findings)?;
    if is_model_text(text) {
        return Some(text.into());
    }
    let title = format!("`{}` is not a model: `{}`", field.path, field.at().quote());
    findings.error(codes::BAD_NAME, &field.at(), title, "not a model's name").help(MODEL_HELP);
    None
}

fn is_model_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_entry_maps_a_model() {
        let entry = |pattern: &str, to: Option<&str>| (ModelPattern::new(pattern), to.map(Arc::from));
        let entries = vec![entry("claude-haiku-*", Some("small")), entry("claude-*", Some("big")), entry("*", None)];
        let map = ModelMap { entries, own: OwnNames::Same };
        assert_eq!(map.map("claude-haiku-4-5"), Mapped::To("small".into()));
        assert_eq!(map.map("claude-opus-5-5"), Mapped::To("big".into()));
        assert_eq!(map.map("gpt"), Mapped::Rejected);
        assert_eq!(ModelMap::default().map("gpt"), Mapped::Same);
    }

    /// claude-code #3434 #44398 #76793 #74691 #66822: a weaker model that nobody had asked for.
    #[test]
    fn r52_a_platform_s_own_names_come_last_and_nothing_is_guessed() {
        let openrouter = ModelMap { entries: vec![(ModelPattern::new("claude-haiku-*"), None)], own: OwnNames::OpenRouter };
        assert_eq!(openrouter.map("claude-opus-5-5[1m]"), Mapped::To("anthropic/claude-opus-5.5".into()));
        assert_eq!(openrouter.map("claude-haiku-4-5"), Mapped::Rejected);
        assert_eq!(openrouter.map("z-ai/glm-5"), Mapped::Same);
        assert_eq!(openrouter.map("claude-opus-99"), Mapped::Unknown);
        let own = ModelMap { entries: vec![(ModelPattern::new("claude-opus-*"), Some("big".into()))], own: OwnNames::Unknown };
        assert_eq!((own.map("claude-opus-5-5[1m]"), own.map("claude-haiku-5-5")), (Mapped::To("big".into()), Mapped::Unknown));
        assert_eq!(ModelMap::default().map("claude-opus-5-5[1m]"), Mapped::To("claude-opus-5-5".into()));
        assert!(ModelMap::default().is_empty() && !openrouter.is_empty());
    }
}
