//! Knows where things are in this workspace and how to call its cargo. Never changes a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// The cargo that started us, in the workspace's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Builds the `hotspare` binary, optimised or not, and says where it is.
pub(crate) fn hotspare(release: bool) -> anyhow::Result<PathBuf> {
    let mut build = cargo(&["build", "--locked", "--package", "hotspare"]);
    if release {
        build.arg("--release");
    }
    let status = build.status().context("cargo does not start")?;
    ensure!(status.success(), "`hotspare` does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    Ok(target.join(if release { "release" } else { "debug" }).join(format!("hotspare{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs one of the proofs, which are a program of their own: they are built on the whole proxy.
pub(crate) fn proof(args: &[&str]) -> anyhow::Result<()> {
    let status =
        cargo(&["run", "--quiet", "--locked", "--package", "hotspare-proof", "--"]).args(args).status().context("cargo does not start")?;
    ensure!(status.success(), "`{}` failed", args.join(" "));
    Ok(())
}
