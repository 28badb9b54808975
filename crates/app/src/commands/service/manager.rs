//! Knows who runs services on this machine, and gives them orders: systemd, launchd. Never decides what is ordered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::units;
use crate::commands;
use crate::commands::serve::SERVICE_DRAIN;
use crate::error::{CliError, Exit};

/// Longest that systemd or launchd may take for one order: a stop waits for answers in flight.
const MANAGER_TIME: Duration = Duration::from_secs(SERVICE_DRAIN.as_secs() + 20);

/// Longest that a look at what systemd knows may take: a session waits for it.
const SHOW_TIME: Duration = Duration::from_millis(100);

/// Who runs services here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manager {
    /// systemd, for this user.
    Systemd,
    /// launchd, for this user.
    Launchd,
    /// Nobody: a process in the background.
    Background,
}

impl Manager {
    /// Of this machine and user.
    pub(crate) fn find() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Launchd;
        }
        // Where systemd keeps its socket for this user; a container has none.
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        if runtime.is_some_and(|folder| folder.join("systemd/private").exists()) { Self::Systemd } else { Self::Background }
    }

    /// In a sentence.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Background => "a background process",
        }
    }
}

/// Where launchd keeps the agents of this user.
pub(super) fn launchd_domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

/// Our agent there.
pub(super) fn launchd_target() -> String {
    format!("{}/{}", launchd_domain(), units::LABEL)
}

/// Gives the manager an order and waits for its end.
pub(super) fn ordered(program: &str, arguments: &[&str]) -> Result<Output, CliError> {
    ordered_within(program, arguments, MANAGER_TIME)?.ok_or_else(|| failed(program, arguments, "it did not end"))
}

/// The same for so long at most; nothing where the order is still being carried out then.
pub(super) fn ordered_within(program: &str, arguments: &[&str], patience: Duration) -> Result<Option<Output>, CliError> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let ended = commands::runtime()?.block_on(async { tokio::time::timeout(patience, command.output()).await });
    match ended {
        Err(_) => Ok(None),
        Ok(Ok(output)) if output.status.success() => Ok(Some(output)),
        Ok(Ok(output)) => Err(failed(program, arguments, &String::from_utf8_lossy(&output.stderr))),
        Ok(Err(error)) => Err(failed(program, arguments, &error.to_string())),
    }
}

fn failed(program: &str, arguments: &[&str], why: &str) -> CliError {
    // One line of it is shown where there is room for one alone; the manager says first what failed.
    let why = why.trim().lines().next().unwrap_or("it said nothing");
    CliError::new(Exit::Failed, format!("`{program} {}` failed: {why}", arguments.join(" ")))
}

/// Whether it is systemd that listens at this address for us. Then nobody else can, and who comes waits for the service.
pub(super) fn systemd_has_port(address: SocketAddr) -> bool {
    systemd_port().is_some_and(|port| port == address.to_string())
}

/// The address that systemd listens at for us. `None` if its socket is not active.
pub(super) fn systemd_port() -> Option<String> {
    let show = ["--user", "show", "--property=ActiveState", "--property=Listen", "hotspare.socket"];
    let output = ordered_within("systemctl", &show, SHOW_TIME).ok()??;
    let said = String::from_utf8_lossy(&output.stdout);
    let port = said.lines().find_map(|line| line.strip_prefix("Listen=")?.split(' ').next().map(str::to_owned));
    port.filter(|_| said.lines().any(|line| line == "ActiveState=active"))
}
