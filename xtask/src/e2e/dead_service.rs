//! A service that is dead, with Claude Code's settings pointing at it: the next session is answered as if nothing had been; or, where another
//! program has the port by then, goes on without us, says so, and shows that program no credential of a provider. Prints how long the hook
//! took. Ends no process but that service.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Script, Upstream, answers};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::canary::Secret;
use super::cases::{Lead, Mode};
use super::faults::{self, FIRST, SECOND};
use super::first_run::NewUser;
use super::tui;
use super::world::{Login, Tools, World};

pub(super) const NAME: &str = "a dead service, and the next session";
pub(super) const MID_TURN: &str = "a service killed in the middle of a turn";
pub(super) const TAKEN: &str = "a dead service whose port another program has";

/// Longest that the session's hook may take, whether it brings the service back or says why it cannot.
const PROMISE: Duration = Duration::from_millis(300);

/// Longest that a session may take in full mode. The client asks its provider's host for its settings first, and runs its hooks only when it
/// has given that up: 11 to 13 s in the interactive client with a key, 19 to 22 s in `-p` (measured, 2.1.330).
const FULL: Duration = Duration::from_secs(35);

/// Longest that a turn may take whose service is killed in the middle: the client sends it again within a second or two.
const SURVIVED: Duration = Duration::from_secs(20);

/// Longest until a port is free again.
const FREE: Duration = Duration::from_secs(5);

/// What a session says whose service came back, and one whose service cannot.
const REVIVED: &str = "hotspare was not running and has been started";
const LEFT: &str = "hotspare cannot run (another program listens on";

/// An installed user. The primary is also where the client went before, as a company's gateway is.
struct Installed<'a> {
    tools: &'a Tools,
    user: NewUser<'a>,
    primary: Upstream,
    address: SocketAddr,
    lead: Lead,
}

/// The service is killed, and nobody else comes.
pub(super) async fn run(tools: &Tools, mode: Mode, lead: Lead) -> Result<()> {
    let (world, primary) = world(tools).await?;
    let installed = Installed::new(tools, &world, primary, lead).await?;
    let outcome = installed.revived(mode).await;
    installed.end().await?;
    outcome
}

/// The service is killed, and another program takes its port.
pub(super) async fn run_taken(tools: &Tools, mode: Mode, lead: Lead) -> Result<()> {
    let (world, primary) = world(tools).await?;
    if lead == Lead::Base {
        let before = json!({ "env": { "ANTHROPIC_BASE_URL": primary.url() } });
        std::fs::write(world.path("claude/settings.json"), before.to_string())?;
    }
    let installed = Installed::new(tools, &world, primary, lead).await?;
    let outcome = match lead {
        Lead::Base => installed.left(mode).await,
        Lead::Full => installed.left_in_full_mode().await,
    };
    let outcome = match outcome {
        Ok(()) if mode == Mode::Print && lead == Lead::Base => installed.left_for_the_usual_address().await,
        outcome => outcome,
    };
    installed.end().await?;
    outcome
}

/// The worker of a service that neither systemd nor launchd keeps is killed while an answer comes: the turn is answered nevertheless.
pub(super) async fn run_mid_turn(tools: &Tools, mode: Mode) -> Result<()> {
    let is_killed = Arc::new(AtomicBool::new(false));
    let (whole, begun) = (is_killed.clone(), answers::text(FIRST));
    let primary = Upstream::start(move |_| match whole.load(Ordering::SeqCst) {
        true => faults::healthy(SECOND),
        // An open text block: the client sends the request again when the stream breaks off.
        false => Script::new().sse().events(&begun[..3]).hang(),
    })
    .await?;
    let spare = hotspare_testkit::refused_addr().map(|spare| format!("http://{spare}"))?;
    let world = World::new(tools, &primary.url(), &spare, Login::Key).await?;
    let installed = Installed::new(tools, &world, primary, Lead::Base).await?;
    let outcome = installed.survives(mode, &is_killed).await;
    installed.end().await?;
    outcome
}

async fn world(tools: &Tools) -> Result<(World, Upstream)> {
    let primary = Upstream::start(|_| faults::healthy(SECOND)).await?;
    let world =
        World::new(tools, &primary.url(), &hotspare_testkit::refused_addr().map(|spare| format!("http://{spare}"))?, Login::Key).await?;
    Ok((world, primary))
}

impl<'a> Installed<'a> {
    async fn new(tools: &'a Tools, world: &'a World, primary: Upstream, lead: Lead) -> Result<Self> {
        let address = hotspare_testkit::refused_addr()?;
        let mut environment = world.environment();
        environment.push(("HOTSPARE_CONFIG", world.config.clone().into()));
        environment.push(("HOTSPARE_SERVER__LISTEN", address.to_string().into()));
        let installed = Self { tools, user: NewUser { world, environment }, primary, address, lead };
        installed.install().await?;
        Ok(installed)
    }

    async fn install(&self) -> Result<()> {
        let arguments: &[&str] = match self.lead {
            Lead::Base => &["install"],
            Lead::Full => &["install", "--mode", "full"],
        };
        self.hotspare(arguments).await.map(drop)
    }

    async fn hotspare(&self, arguments: &[&str]) -> Result<String> {
        self.user.runs(&self.tools.hotspare, arguments).await
    }

    /// Nothing of it stays behind.
    async fn end(&self) -> Result<()> {
        self.hotspare(&["uninstall"]).await?;
        self.hotspare(&["uninstall", "--all", "--check"]).await?;
        Ok(())
    }

    /// What a session shows that asks one thing and is answered.
    async fn session(&self, mode: Mode) -> Result<String> {
        let asked = self.primary.messages().len();
        let said = match mode {
            Mode::Print => {
                let prompt = ["-p", "Say something.", "--output-format", "stream-json", "--verbose"];
                self.user.runs(&self.tools.claude, &prompt).await?
            }
            Mode::Interactive => tui::ask(&self.tools.claude, self.user.world, &self.user.environment, "Say something.", SECOND).await?,
        };
        ensure!(said.contains(SECOND), "the session was not answered: {said}");
        ensure!(!said.contains("api_retry"), "the client had to ask again: {said}");
        let asked = self.primary.messages().len() - asked;
        ensure!(asked == 1, "the primary was asked {asked} times");
        Ok(said)
    }

    async fn revived(&self, mode: Mode) -> Result<()> {
        self.kill().await?;
        let begun = Instant::now();
        let said = self.session(mode).await?;
        let session = begun.elapsed();
        ensure!(said.contains(REVIVED), "nobody was told: {said}");
        ensure!(session <= FULL, "the session took {session:?}");
        self.kill().await?;
        let (said, took) = self.hook().await?;
        println!("        the hook brought it back in {} ms, the whole session took {:.1} s", took.as_millis(), session.as_secs_f64());
        ensure!(said.contains(REVIVED) && took <= PROMISE, "the hook took {took:?}, {PROMISE:?} are promised: {said}");
        Ok(())
    }

    async fn survives(&self, mode: Mode, is_killed: &AtomicBool) -> Result<()> {
        let killed = async {
            let until = Instant::now() + SURVIVED;
            while self.primary.messages().is_empty() {
                ensure!(Instant::now() < until, "the client sent no request");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let status: Value = serde_json::from_str(&self.hotspare(&["service", "status", "--json"]).await?)?;
            ensure!(status["supervisor"].is_i64(), "the service has no supervisor: {status}");
            let pid = status["pid"].as_i64().context("the service has no process")?.to_string();
            is_killed.store(true, Ordering::SeqCst);
            ensure!(Command::new("kill").args(["-9", &pid]).status()?.success(), "process {pid} could not be killed");
            Ok(Instant::now())
        };
        let session = async {
            match mode {
                Mode::Print => self.user.runs(&self.tools.claude, &["-p", "Say something."]).await,
                Mode::Interactive => tui::ask(&self.tools.claude, self.user.world, &self.user.environment, "Say something.", SECOND).await,
            }
        };
        let (killed, said) = tokio::join!(killed, session);
        let (killed, said) = (killed?, said?);
        let took = killed.elapsed();
        println!("        the turn was answered {:.1} s after the service was killed", took.as_secs_f64());
        ensure!(said.contains(SECOND) && took <= SURVIVED, "after {took:?}: {said}");
        ensure!(!said.contains("ECONNREFUSED") && !said.contains("API Error"), "the client shows an error: {said}");
        Ok(())
    }

    async fn left(&self, mode: Mode) -> Result<()> {
        self.kill().await?;
        let stranger = Stranger::at(self.address).await?;
        let said = self.session(mode).await?;
        ensure!(said.contains(LEFT), "nobody was told: {said}");
        stranger.has_learned_nothing()?;
        drop(stranger);
        self.install().await?;
        self.kill().await?;
        let stranger = Stranger::at(self.address).await?;
        let (said, took) = self.hook().await?;
        println!("        the hook left in {} ms", took.as_millis());
        ensure!(said.contains(LEFT) && took <= PROMISE, "the hook took {took:?}, {PROMISE:?} are promised: {said}");
        stranger.has_learned_nothing()
    }

    /// In full mode the client goes to its own provider then, by its own proxy; here that lets nothing out, so the session has no answer. It
    /// says why, and what the other program has learned of us opens nothing any more.
    async fn left_in_full_mode(&self) -> Result<()> {
        self.kill().await?;
        let stranger = Stranger::at(self.address).await?;
        let token = || std::fs::read_to_string(self.user.world.path("state/hotspare/token")).context("the local token");
        let shown = token()?;
        let begun = Instant::now();
        let mut environment = self.user.environment.clone();
        environment.push(("CLAUDE_CODE_MAX_RETRIES", "0".into()));
        let alone = NewUser { world: self.user.world, environment };
        let prompt = ["-p", "Say something.", "--output-format", "stream-json", "--verbose"];
        let lost = alone.runs(&self.tools.claude, &prompt).await.err().context("somebody answered")?.to_string();
        let took = begun.elapsed();
        println!("        the session was over after {:.1} s", took.as_secs_f64());
        ensure!(lost.contains(LEFT) && took <= FULL, "nobody was told within {FULL:?}, after {took:?}: {lost}");
        stranger.has_learned_nothing()?;
        drop(stranger);
        self.install().await?;
        ensure!(token()? != shown, "the token that the other program was shown still opens our port");
        Ok(())
    }

    /// As before, where the client went to its own provider before: that is out of reach here, but it is asked, and the other program is not.
    async fn left_for_the_usual_address(&self) -> Result<()> {
        self.hotspare(&["uninstall"]).await?;
        std::fs::write(self.user.world.path("claude/settings.json"), "{}")?;
        self.install().await?;
        self.kill().await?;
        let stranger = Stranger::at(self.address).await?;
        let mut environment = self.user.environment.clone();
        environment.push(("CLAUDE_CODE_MAX_RETRIES", "0".into()));
        let alone = NewUser { world: self.user.world, environment };
        let lost = alone.runs(&self.tools.claude, &["-p", "Say something."]).await;
        ensure!(lost.is_err(), "somebody answered: {lost:?}");
        let tunnels = self.user.world.outside.requests();
        ensure!(
            tunnels.iter().any(|request| request.target == "api.anthropic.com:443"),
            "the client's own provider was not asked: {lost:?}"
        );
        stranger.has_learned_nothing()
    }

    async fn hook(&self) -> Result<(String, Duration)> {
        let begun = Instant::now();
        let said = self.hotspare(&["hook", "session-start"]).await?;
        Ok((said, begun.elapsed()))
    }

    async fn kill(&self) -> Result<()> {
        let status: Value = serde_json::from_str(&self.hotspare(&["service", "status", "--json"]).await?)?;
        let pid = status["pid"].as_i64().context("the service has no process")?;
        // Without its supervisor nothing starts it again.
        for pid in status["supervisor"].as_i64().into_iter().chain([pid]).map(|pid| pid.to_string()) {
            ensure!(Command::new("kill").args(["-9", &pid]).status()?.success(), "process {pid} could not be killed");
        }
        Ok(())
    }
}

/// A program that knows nothing of us, and answers whatever comes. It goes with this.
struct Stranger {
    heard: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Stranger {
    async fn at(address: SocketAddr) -> Result<Self> {
        let until = Instant::now() + FREE;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) if Instant::now() > until => return Err(error).context("the port is not free"),
                // Whoever was killed lets go of it in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let heard = Arc::new(Mutex::new(String::new()));
        let hearing = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let hearing = hearing.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 64 * 1024];
                    let read = stream.read(&mut head).await.unwrap_or_default();
                    hearing.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&head[..read]));
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                });
            }
        });
        Ok(Self { heard, task })
    }

    /// It was looked at, and neither asked nor shown a credential.
    fn has_learned_nothing(&self) -> Result<()> {
        let heard = self.heard.lock().expect("nobody panics with it");
        ensure!(heard.contains("x-hotspare-challenge"), "nobody looked who it is: {heard}");
        ensure!(!heard.contains("/v1/messages") && !heard.contains(Secret::Client.text()), "another program was asked: {heard}");
        ensure!(!heard.contains("x-hotspare-token"), "another program has the local token: {heard}");
        Ok(())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}
