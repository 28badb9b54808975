//! Keeps the published schemas in `docs` equal to what the binary prints. Never edits a schema: they come from the types.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace;

/// Each file, and what prints it.
const SCHEMAS: &[(&str, &[&str])] = &[
    ("docs/config.schema.json", &["config", "schema"]),
    ("docs/exchange.schema.json", &["schema", "exchange"]),
    ("docs/usage.schema.json", &["schema", "usage"]),
    ("docs/status.schema.json", &["schema", "status"]),
    ("docs/reset.schema.json", &["schema", "reset"]),
    ("docs/switch.schema.json", &["schema", "switch"]),
    ("docs/drill.schema.json", &["schema", "drill"]),
    ("docs/outage.schema.json", &["schema", "outage"]),
    ("docs/doctor.schema.json", &["schema", "doctor"]),
    ("docs/test.schema.json", &["schema", "test"]),
    ("docs/profiles.schema.json", &["schema", "profiles"]),
    ("docs/pause.schema.json", &["schema", "pause"]),
    ("docs/resume.schema.json", &["schema", "resume"]),
    ("docs/hook.schema.json", &["schema", "hook"]),
    ("docs/notices.schema.json", &["schema", "notices"]),
    ("docs/init.schema.json", &["schema", "init"]),
    ("docs/explain.schema.json", &["schema", "explain"]),
    ("docs/version.schema.json", &["schema", "version"]),
    ("docs/install.schema.json", &["schema", "install"]),
    ("docs/service.schema.json", &["schema", "service"]),
    ("docs/env.schema.json", &["schema", "env"]),
];

/// Writes the files.
pub(crate) fn write() -> anyhow::Result<()> {
    for (file, command) in SCHEMAS {
        fs::write(workspace::root().join(file), printed(command)?).with_context(|| format!("cannot write `{file}`"))?;
    }
    Ok(())
}

/// Fails when a file is not what the binary prints.
pub(crate) fn check() -> anyhow::Result<()> {
    for (file, command) in SCHEMAS {
        let kept = fs::read(workspace::root().join(file)).with_context(|| format!("cannot read `{file}`: run `cargo xtask schema`"))?;
        if kept != printed(command)? {
            bail!("`{file}` is out of date: run `cargo xtask schema`");
        }
    }
    Ok(())
}

fn printed(command: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(workspace::hotspare(false)?).args(command).output().context("`hotspare` does not start")?;
    ensure!(output.status.success(), "`hotspare {}` failed: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}
