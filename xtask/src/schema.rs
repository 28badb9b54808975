//! Keeps `docs/config.schema.json` equal to what the binary prints. Never edits the schema: it comes from the types.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::workspace;

const FILE: &str = "docs/config.schema.json";

/// Writes the file.
pub(crate) fn write() -> anyhow::Result<()> {
    fs::write(workspace::root().join(FILE), printed()?).with_context(|| format!("cannot write `{FILE}`"))
}

/// Fails when the file is not what the binary prints.
pub(crate) fn check() -> anyhow::Result<()> {
    let kept = fs::read(workspace::root().join(FILE)).with_context(|| format!("cannot read `{FILE}`"))?;
    if kept != printed()? {
        bail!("`{FILE}` is out of date: run `cargo xtask schema`");
    }
    Ok(())
}

fn printed() -> anyhow::Result<Vec<u8>> {
    let output = Command::new(workspace::hotspare(false)?).args(["config", "schema"]).output().context("`hotspare` does not start")?;
    ensure!(output.status.success(), "`hotspare config schema` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}
