//! Claude Code in a version that is named on the command line, from a folder of its own per version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::world;

/// Versions that stay installed, beside the pinned one; the one unused for longest goes. Each takes about 250 MB.
const MAX_CACHED: usize = 4;

/// Longest that npm may take for one version.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(5);

const PACKAGE: &str = "@anthropic-ai/claude-code";

/// Written last: an installation without it was interrupted.
const MARKER: &str = "installed";

/// A version is three numbers, so that its folder is one name below `.e2e/clients`.
fn is_version(text: &str) -> bool {
    text.split('.').count() == 3 && text.split('.').all(|part| part.parse::<u32>().is_ok_and(|number| number.to_string() == part))
}

/// The native client of a version; npm installs it where it is not cached below `place` yet.
pub(super) fn fetch(place: &Path, version: &str) -> Result<PathBuf> {
    ensure!(is_version(version), "`--client {version}`: a version is three numbers, such as `2.1.332`");
    let clients = place.join("clients");
    let folder = clients.join(version);
    if !folder.join(MARKER).is_file() {
        install(&folder, version).with_context(|| format!("`--client {version}`"))?;
    }
    let client = world::native_client(&folder.join("node_modules"))?;
    ensure!(said_version(&client)? == version, "the client in `{}` is not {version}", folder.display());
    // The marker's time is that of the last use.
    fs::write(folder.join(MARKER), "")?;
    drop_oldest(&clients)?;
    Ok(client)
}

/// Runs no script of the package.
fn install(folder: &Path, version: &str) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("package.json"), "{}")?;
    let package = format!("{PACKAGE}@{version}");
    let mut npm = tokio::process::Command::new("npm");
    npm.current_dir(folder)
        .args(["install", &package, "--save-exact", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
    let status = runtime
        .block_on(async { tokio::time::timeout(INSTALL_TIMEOUT, npm.status()).await })
        .with_context(|| format!("`npm install {package}` did not end within {INSTALL_TIMEOUT:?}"))?
        .context("npm does not start")?;
    ensure!(status.success(), "`npm install {package}` ended with {status}");
    fs::write(folder.join(MARKER), "")?;
    Ok(())
}

/// The version that the binary reports: `2.1.332 (Claude Code)`.
fn said_version(client: &Path) -> Result<String> {
    let output = Command::new(client).arg("--version").stdin(Stdio::null()).output().context("the client does not start")?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

fn drop_oldest(clients: &Path) -> Result<()> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(clients)? {
        let folder = entry?.path();
        let used = fs::metadata(folder.join(MARKER)).and_then(|marker| marker.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        folders.push((used, folder));
    }
    folders.sort();
    for (_, folder) in &folders[..folders.len().saturating_sub(MAX_CACHED)] {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_three_plain_numbers() {
        for good in ["2.1.332", "0.0.1"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "2.1", "2.1.332.1", "latest", "../../x", "2.1.x", "2.1.-1", "2.1.+1", "2.1.07", "2.1. 3"] {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn oldest_clients_are_dropped_beyond_the_bound() -> Result<()> {
        let place = tempfile::tempdir()?;
        for number in 0..=MAX_CACHED {
            let folder = place.path().join(number.to_string());
            fs::create_dir(&folder)?;
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64 + 1);
            fs::File::create(folder.join(MARKER))?.set_modified(used)?;
        }
        drop_oldest(place.path())?;
        assert!(!place.path().join("0").exists());
        assert_eq!(fs::read_dir(place.path())?.count(), MAX_CACHED);
        Ok(())
    }
}
