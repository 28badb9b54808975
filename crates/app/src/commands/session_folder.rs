//! `hotspare hook folder`, and a part of the hooks at a session's start and before each prompt: names the folder that a session works in
//! to the gateway that its requests go to. Never fails, and holds the client up for a moment at most.

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use hotspare_config::Locations;
use hotspare_gateway::session_folder::{SessionAnswer, SessionRequest};
use serde::Deserialize;

use crate::commands;
use crate::error::CliError;
use crate::gateways::{self, NoAnswer};
use crate::state::{self, Instance};
use crate::way::Way;
use crate::words;

/// Most bytes of what the client tells a hook.
const HOOK_CAP: u64 = 4 * 1024 * 1024;

/// Longest wait for what the client tells a hook. It has written it before the hook runs.
const INPUT_TIMEOUT: Duration = Duration::from_millis(300);

/// Longest that naming a folder may take. A gateway that runs answers within milliseconds; one that was started a moment ago, or whose
/// folder lies on a slow disk, needs longer. The client gives a hook 5 s.
const NAMING_TIMEOUT: Duration = Duration::from_millis(2000);

/// Pause between two tries while a gateway starts.
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// What Claude Code tells every hook, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HookInput {
    /// Its own id of the session.
    pub(crate) session_id: String,
    /// Where the session works now; in `CwdChanged` the new folder.
    pub(crate) cwd: String,
}

/// Runs `hotspare hook folder`.
pub(crate) fn folder() -> Result<ExitCode, CliError> {
    enter(&commands::locations(None)?, None);
    Ok(ExitCode::SUCCESS)
}

/// Names the session's folder to the gateway that its requests go to, at `wired` where no entry tells which one that is. Returns what is
/// wrong with the folder's project files, in one line.
pub(crate) fn enter(locations: &Locations, wired: Option<SocketAddr>) -> Option<String> {
    let input = input()?;
    let instance = match Way::of_this_process(locations) {
        Way::Through(instance) => instance,
        Way::Nowhere => starting(locations, wired?),
        Way::Elsewhere => return None,
    };
    let request = SessionRequest { session: input.session_id.clone(), folder: input.cwd.clone() };
    let answer = commands::runtime().ok()?.block_on(named(&instance, &request))?;
    let problems = answer.folder?.problems;
    let first = words::fit(problems.first()?, usize::MAX, true);
    let more = if problems.len() > 1 { format!(" (and {} more: hotspare status)", problems.len() - 1) } else { String::new() };
    Some(format!("hotspare leaves a project file out: {first}{more}"))
}

/// What the client has told this hook; `None` if that is no input of a hook. Read once, for whoever asks.
pub(crate) fn input() -> Option<&'static HookInput> {
    static INPUT: OnceLock<Option<HookInput>> = OnceLock::new();
    INPUT.get_or_init(read).as_ref()
}

fn read() -> Option<HookInput> {
    if std::io::stdin().is_terminal() {
        return None;
    }
    let (done, text) = mpsc::channel();
    // Whoever runs this by hand may leave the input open for ever.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = std::io::stdin().lock().take(HOOK_CAP).read_to_end(&mut text);
        let _ = done.send(read.map(|_| text));
    });
    serde_json::from_slice(&text.recv_timeout(INPUT_TIMEOUT).ok()?.ok()?).ok()
}

/// The service that has just been started, and is not in the list yet.
fn starting(locations: &Locations, address: SocketAddr) -> Instance {
    use secrecy::ExposeSecret;
    let token = state::known_token(&locations.state_dir).expose_secret().to_owned();
    Instance { version: 1, pid: 0, kind: "service".to_owned(), address, token, started: None }
}

async fn named(instance: &Instance, request: &SessionRequest) -> Option<SessionAnswer> {
    let end = Instant::now() + NAMING_TIMEOUT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let asked = gateways::post_within::<SessionAnswer>(left, std::slice::from_ref(instance), "/hotspare/session", request);
        match asked.await.pop()? {
            Ok(answer) => return Some(answer),
            // It has a socket or an entry before it answers.
            Err(NoAnswer::Gone) if left > TRY_INTERVAL => tokio::time::sleep(TRY_INTERVAL).await,
            Err(_) => return None,
        }
    }
}
