//! A user of the lab: a home with a login, the client with nothing switched off, and the ways in which it reaches the provider.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::canary::has_local_token;
use hotspare_testkit::{Received, Script, Upstream};
use serde_json::{Value, json};

use super::super::authority::Authority;
use super::super::canary::{self, Secret};
use super::super::cases::Mode;
use super::super::first_run::NewUser;
use super::super::talk::Client;
use super::super::tui;
use super::super::world::{Login, Tools, World};
use super::hosts::{PROVIDER, TlsEnd};
use super::provider::{self, Numbered, Purpose};

/// What the other cases set, and no user does.
const NOT_SET: [&str; 4] = ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "HTTPS_PROXY"];

/// The client's own request to its provider's host, past every base URL, that carries `ANTHROPIC_CUSTOM_HEADERS` and with them the local token
/// (Claude Code 2.1.332).
const WITH_CUSTOM_HEADERS: &str = "/api/claude_cli/bootstrap";

/// How long a login is good for.
const LOGIN_TTL: Duration = Duration::from_hours(8);

/// How the user pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// A key of the console.
    Key,
    /// A Max login.
    Max,
}

/// How the client reaches the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Without hotspare.
    Direct,
    /// `hotspare run`, by base URL.
    Run,
    /// `hotspare run --mode full`.
    Full,
    /// `hotspare install`, then the client by its own name.
    Installed,
}

/// Lets the Bash tool run in both modes.
pub(super) const PERMISSIONS: [&str; 4] = ["--allowedTools", "Bash", "--permission-mode", "acceptEdits"];

/// A prompt, and what the answer must contain.
pub(super) type Turn = (String, String);

pub(super) fn turn(prompt: &str, answer: &str) -> Turn {
    (prompt.to_owned(), answer.to_owned())
}

/// So many turns, each answered by this company.
pub(super) fn turns_of(company: &str, count: usize) -> Vec<Turn> {
    (0..count).map(|number| turn(&format!("Turn {number}: go on."), &provider::numbered(company, number))).collect()
}

/// A spare that answers every turn.
pub(super) async fn good_spare() -> Result<Upstream> {
    let numbers = Numbered::default();
    Ok(Upstream::start_reading(move |request| provider::model(request, || numbers.next(SPARE))).await?)
}

/// Companies by the names that their answers carry.
pub(super) const WORK: &str = "work";
pub(super) const SPARE: &str = "spare";

/// One user, one provider, and all hosts of the internet that the client knows.
pub(super) struct Lab<'t> {
    pub tools: &'t Tools,
    pub world: World,
    pub provider: Upstream,
    /// Every host but the provider's.
    pub others: Upstream,
    pub environment: Vec<(&'static str, OsString)>,
    /// Retries that `claude -p` may report.
    pub forgiven: usize,
    _tls: TlsEnd,
}

impl<'t> Lab<'t> {
    /// A user whose primary is Anthropic. `play` answers model calls; `spares` are the other profiles, in order.
    pub(super) async fn open(
        tools: &'t Tools,
        account: Account,
        play: impl Fn(&Received) -> Script + Send + Sync + 'static,
        spares: &[(&str, Value)],
    ) -> Result<Self> {
        let answer = move |request: &Received| if provider::purpose(request).is_some() { play(request) } else { provider::side(request) };
        let provider = Upstream::start_reading(answer).await?;
        let others = Upstream::start(provider::side).await?;
        let login = if account == Account::Max { Login::Stored } else { Login::Key };
        let anthropic = format!("https://{PROVIDER}");
        let world = World::new(tools, &anthropic, &anthropic, login).await?;
        let authority = Authority::new()?;
        let tls = TlsEnd::start(&authority, provider.addr(), others.addr()).await?;
        fs::write(world.path("authority.pem"), &authority.pem)?;
        fs::write(&world.config, serde_json::to_string_pretty(&config(spares))?)?;
        if account == Account::Max {
            log_in(&world)?;
        }
        let mut environment = world.environment();
        environment.retain(|(name, _)| !NOT_SET.contains(name));
        environment.push(("NODE_EXTRA_CA_CERTS", world.path("authority.pem").into()));
        environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
        environment.push(("HOTSPARE_SERVER__LISTEN", hotspare_testkit::refused_addr()?.to_string().into()));
        Ok(Self { tools, world, provider, others, environment, forgiven: 0, _tls: tls })
    }

    /// The client as the user starts it.
    pub(super) fn command(&self, way: Way) -> Vec<OsString> {
        let run: &[&str] = match way {
            Way::Direct | Way::Installed => &[],
            Way::Run => &["run", "--"],
            Way::Full => &["run", "--mode", "full", "--"],
        };
        let mut command = Vec::new();
        if !run.is_empty() {
            command.push(self.tools.hotspare.clone().into());
            command.extend(run.iter().map(OsString::from));
        }
        command.push(self.tools.claude.clone().into());
        command
    }

    pub(super) async fn hotspare(&self, arguments: &[&str]) -> Result<String> {
        let user = NewUser { world: &self.world, environment: self.environment.clone() };
        user.runs(&self.tools.hotspare, arguments).await
    }

    /// Turns of one session. `before` is called with each turn's number. Returns what was printed or shown last.
    pub(super) async fn talk(&self, mode: Mode, way: Way, turns: &[Turn], before: impl Fn(usize)) -> Result<String> {
        self.talk_with(mode, way, &[], turns, before).await
    }

    /// Like [`Self::talk`], with arguments for the client.
    pub(super) async fn talk_with(
        &self,
        mode: Mode,
        way: Way,
        arguments: &[&str],
        turns: &[Turn],
        before: impl Fn(usize),
    ) -> Result<String> {
        let mut command = self.command(way);
        command.extend(arguments.iter().map(OsString::from));
        match mode {
            Mode::Print => self.print(&command, turns, before).await,
            Mode::Interactive => tui::talk_as(&self.world, &self.environment, &command, turns, before).await,
        }
    }

    /// Installs hotspare, talks, and uninstalls it whatever came of that.
    pub(super) async fn while_installed<T>(&self, arguments: &[&str], talk: impl Future<Output = Result<T>>) -> Result<T> {
        self.hotspare(&[&["install"], arguments].concat()).await?;
        let outcome = talk.await;
        self.hotspare(&["uninstall"]).await?;
        outcome
    }

    async fn print(&self, command: &[OsString], turns: &[Turn], before: impl Fn(usize)) -> Result<String> {
        let mut client = Client::spawn(&self.world, &self.environment, command)?;
        client.forgiven = self.forgiven;
        let mut last = String::new();
        for (number, (prompt, answer)) in turns.iter().enumerate() {
            before(number);
            last = client.turn(prompt).await.with_context(|| format!("turn {number}"))?.join("\n");
            ensure!(last.contains(answer), "turn {number} was answered {last:?}, not {answer:?}");
        }
        client.leave().await?;
        Ok(last)
    }

    /// How many turns of the user the provider got.
    pub(super) fn main_calls(&self) -> usize {
        calls(&self.provider, Purpose::Main)
    }

    /// Keeps what hotspare shows for the search at the end; fails if a credential or a model call went astray.
    pub(super) fn look_around(&self) -> Result<()> {
        for request in self.provider.requests().iter().chain(&self.others.requests()) {
            let head = String::from_utf8_lossy(&request.raw_head);
            let is_ours = has_local_token(&request.raw_head) && request.path() != WITH_CUSTOM_HEADERS;
            ensure!(
                !is_ours && !head.contains(Secret::Spare.text()),
                "a foreign credential went to {}:\n{head}",
                request.header("host").unwrap_or_default()
            );
        }
        let stray = self.others.requests().into_iter().find(|request| provider::purpose(request).is_some());
        ensure!(stray.is_none(), "a model call went to another host: {stray:?}");
        canary::look_around(self.tools, &self.world)
    }
}

/// How many model calls of this purpose came.
pub(super) fn calls(upstream: &Upstream, purpose: Purpose) -> usize {
    upstream.requests().iter().filter(|request| provider::purpose(request) == Some(purpose)).count()
}

/// A spare with a key of its own.
pub(super) fn spare(upstream: &Upstream) -> Value {
    json!({ "base_url": upstream.url(), "auth": { "env": "SPARE_KEY" } })
}

fn config(spares: &[(&str, Value)]) -> Value {
    let mut profiles = json!({ "work": { "platform": "anthropic", "auth": "client" } });
    for (name, profile) in spares {
        profiles[*name] = profile.clone();
    }
    let names: Vec<&str> = spares.iter().map(|(name, _)| *name).collect();
    json!({ "failover_policy": { "primary_profile": "work", "secondary_profile": names }, "profiles": profiles })
}

fn log_in(world: &World) -> Result<()> {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LOGIN_TTL;
    let login = json!({ "claudeAiOauth": {
        "accessToken": Secret::Client.text(), "refreshToken": Secret::Refresh.text(),
        "expiresAt": u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max", "rateLimitTier": "default_claude_max_5x",
    }});
    let file = world.path("claude/.credentials.json");
    fs::write(&file, login.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    // As the client leaves it after a login; without it, the account's id comes at some time in the session.
    let file = world.path("claude/.claude.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    state["oauthAccount"] = json!({
        "accountUuid": provider::ACCOUNT_ID, "emailAddress": provider::EMAIL,
        "organizationUuid": provider::ORGANISATION_ID, "organizationName": "Example", "organizationRole": "admin",
    });
    fs::write(&file, state.to_string())?;
    Ok(())
}
