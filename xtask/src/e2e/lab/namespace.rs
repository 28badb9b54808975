//! Runs the lab's cases in a child process whose network is loopback alone and whose `/etc/hosts` maps the client's hosts there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::hosts;

/// Arguments: the hosts file, then the command.
const SCRIPT: &str = r#"ip link set lo up && mount --bind "$1" /etc/hosts && shift && exec "$@""#;

/// Marks the child process.
const INSIDE: &str = "HOTSPARE_E2E_LAB";

/// What became of the lab.
pub(in super::super) enum Entered {
    /// So many cases passed and failed; each has had its line.
    Ran { passed: usize, failed: usize },
    /// The machine permits no namespaces, with the reason.
    LeftOut(String),
}

/// True in the child process.
///
/// # Errors
///
/// If the network is more than loopback: the client's traffic would leave the machine.
pub(in super::super) fn is_inside() -> Result<bool> {
    if std::env::var_os(INSIDE).is_none() {
        return Ok(false);
    }
    let devices = fs::read_to_string("/proc/net/dev").context("/proc/net/dev")?;
    let names: Vec<&str> = devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    ensure!(names == ["lo"], "the lab must run where the network is loopback alone; here are {names:?}");
    Ok(true)
}

/// Runs `cargo xtask e2e` with these arguments again, inside.
pub(in super::super) fn enter(arguments: &[&str]) -> Result<Entered> {
    let folder = tempfile::tempdir()?;
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, hosts::file())?;
    let inside = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "--mount", "sh", "-c", SCRIPT, "sh"]).arg(&hosts).arg(program).args(arguments);
        command.env(INSIDE, "1").stdin(Stdio::null());
        command
    };
    match inside(Path::new("true"), &[]).output() {
        Err(error) => return Ok(Entered::LeftOut(format!("`unshare`: {error}"))),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("`unshare` failed").to_owned();
            return Ok(Entered::LeftOut(said));
        }
        Ok(_) => {}
    }
    let mut child = inside(&std::env::current_exe()?, &[&["e2e"], arguments].concat()).stdout(Stdio::piped()).spawn()?;
    let mut counts = None;
    for line in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
        let line = line?;
        match counted(&line) {
            Some(found) => counts = Some(found),
            None => println!("{line}"),
        }
    }
    let status = child.wait()?;
    let (passed, failed) = counts.with_context(|| format!("the lab ended with {status}"))?;
    ensure!(status.success() || failed > 0, "the lab ended with {status}");
    Ok(Entered::Ran { passed, failed })
}

/// Reads `N passed, N failed`.
fn counted(line: &str) -> Option<(usize, usize)> {
    let (passed, failed) = line.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.strip_suffix(" failed")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_of_a_run_is_read() {
        assert_eq!(counted("12 passed, 3 failed"), Some((12, 3)));
        assert_eq!(counted("ok      12 passed, 3 failed"), None);
    }
}
