//! The one door: every check a change must pass, in order, each named and timed, stopping at the first failure. Decides what is checked;
//! never how a check works (that is the tool's own configuration: `deny.toml`, `clippy.toml`, `rustfmt.toml`).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::workspace;

/// Where tools that we install live: beside the build, so that nobody's own cargo folder changes.
const TOOLS: &str = "target/tools";

/// Cargo subcommands that do not come with Rust, with the version that is installed when there is none.
const SUBCOMMANDS: [(&str, &str); 2] = [("nextest", "0.9.143"), ("deny", "0.20.2")];

/// Programs the checks need, each with arguments that prove it works, and Debian's package.
const PROGRAMS: [(&str, &[&str], &str); 5] = [
    ("node", &["--version"], "nodejs"),
    ("npm", &["--version"], "npm"),
    ("python3", &["--version"], "python3"),
    ("python3", &["-c", "import venv, ensurepip"], "python3-venv"),
    ("tmux", &["-V"], "tmux"),
];

/// The same of programs that make a network which loses packets: where they cannot be had, those cells are left out and it is said.
const WELCOME: [(&str, &[&str], &str); 2] = [("ip", &["-V"], "iproute2"), ("nft", &["--version"], "nftables")];

/// One check: a command that must end well.
struct Step {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// A line with this text is said again at the very end.
    repeat: Option<&'static str>,
}

const STEPS: [Step; 15] = [
    // Fetches for all platforms: `deny` and the edge test read the whole graph without a network.
    step("fetch", &["fetch", "--locked"]),
    step("fmt", &["fmt", "--all", "--check"]),
    step("clippy", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    Step { repeat: Some("Summary"), ..step("test", &["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]) },
    // Once more, for its number.
    Step { repeat: Some("outage: "), ..step("outage", &OUTAGE) },
    step("doc tests", &["test", "--locked", "--workspace", "--doc"]),
    Step { env: &[("RUSTDOCFLAGS", "-D warnings")], ..step("docs", &["doc", "--locked", "--workspace", "--no-deps"]) },
    step("deny", &["deny", "--offline", "check", "bans", "licenses", "sources"]),
    step("schema", &["xtask", "schema", "--check"]),
    step("release", &["build", "--locked", "--release", "--package", "hotspare"]),
    Step { repeat: Some("matrix: "), ..step("matrix", &["xtask", "matrix", "--check"]) },
    Step { repeat: Some("sim: "), ..step("sim", &["xtask", "sim"]) },
    Step { repeat: Some("sockets: "), ..step("sockets", &["xtask", "sockets"]) },
    Step { repeat: Some(" passed, "), ..step("e2e", &["xtask", "e2e"]) },
    Step { repeat: Some("soak: "), ..step("soak", &["xtask", "soak", "--minutes", "1"]) },
];

/// Prints how many situations of an outage are laid at the right door.
const OUTAGE: [&str; 9] =
    ["test", "--locked", "--package", "hotspare-core", "--test", "blame", "--", "--nocapture", "the_right_party_is_named"];

const fn step(name: &'static str, args: &'static [&'static str]) -> Step {
    Step { name, args, env: &[], repeat: None }
}

/// Runs every check.
pub(crate) fn run() -> anyhow::Result<()> {
    let begun = Instant::now();
    let path = path_with_tools()?;
    stage("tools", || install_missing(&path))?;
    let mut said_again = Vec::new();
    let mut times = Vec::new();
    for step in &STEPS {
        let (time, line) = stage(step.name, || check(step, &path))?;
        times.push(format!("{} {:.0} s", step.name, time.as_secs_f64()));
        said_again.extend(line);
    }
    println!("\nci: ok in {:.0} s ({})", begun.elapsed().as_secs_f64(), times.join(", "));
    for line in said_again {
        println!("ci: {line}");
    }
    Ok(())
}

/// Names, times and judges one stage.
fn stage<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    println!("\nci: {name} …");
    let begun = Instant::now();
    let result = work().with_context(|| format!("ci: FAILED at `{name}`"))?;
    let time = begun.elapsed();
    println!("ci: {name} ok, {:.1} s", time.as_secs_f64());
    Ok((time, result))
}

fn check(step: &Step, path: &OsString) -> anyhow::Result<Option<String>> {
    let mut command = workspace::cargo(step.args);
    command.env("PATH", path).envs(step.env.iter().copied());
    let (status, line) = match step.repeat {
        None => (command.status()?, None),
        Some(marker) => run_and_catch(&mut command, marker)?,
    };
    if !status.success() {
        bail!("`cargo {}` ended with {status}", step.args.join(" "));
    }
    Ok(line)
}

/// Runs the command, passes its output on as it comes, and keeps the last line that contains `marker`. Both outputs are read as one.
fn run_and_catch(command: &mut Command, marker: &str) -> anyhow::Result<(std::process::ExitStatus, Option<String>)> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null()).spawn()?;
    // The command holds the write ends; while it does, reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = None;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        let text = String::from_utf8_lossy(&line);
        if text.contains(marker) {
            last = Some(text.trim().to_owned());
        }
    }
    Ok((child.wait()?, last))
}

/// Our tools first, then everyone's.
fn path_with_tools() -> anyhow::Result<OsString> {
    let tools = workspace::root().join(TOOLS).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?)
}

fn install_missing(path: &OsString) -> anyhow::Result<()> {
    install_programs()?;
    for (name, version) in SUBCOMMANDS {
        if works(workspace::cargo(&[name, "--version"]).env("PATH", path)) {
            continue;
        }
        let package = format!("cargo-{name}");
        println!("ci: installing {package} {version} into {TOOLS}");
        let status = workspace::cargo(&["install", "--locked", &package, "--version", version, "--root", TOOLS]).status()?;
        if !status.success() {
            bail!("`{package}` does not install: get it another way, any recent version will do");
        }
    }
    Ok(())
}

fn install_programs() -> anyhow::Result<()> {
    let (missing, welcome) = (packages_missing(&PROGRAMS), packages_missing(&WELCOME));
    let is_root = rustix::process::geteuid().is_root();
    if !missing.is_empty() && !is_root {
        let packages = missing.join(" ");
        bail!("missing: {packages}. Install them first, on Debian with `sudo apt-get install {packages}`");
    }
    if is_root && !(missing.is_empty() && welcome.is_empty()) {
        // A list that cannot be refreshed may still be good enough.
        let _ = Command::new("apt-get").args(["update", "--quiet"]).status();
    }
    if !missing.is_empty() {
        install(&missing)?;
    }
    if !welcome.is_empty()
        && is_root
        && let Err(error) = install(&welcome)
    {
        println!("ci: goes on without {}: {error:#}", welcome.join(" and "));
    }
    Ok(())
}

fn packages_missing(programs: &[(&str, &[&str], &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(program, proof, _)| !works(Command::new(program).args(*proof))).map(|(_, _, package)| *package).collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    println!("ci: installing {}", packages.join(" "));
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    let status = Command::new("apt-get").args(arguments).args(packages).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    if !status.success() {
        bail!("`apt-get install {}` ended with {status}", packages.join(" "));
    }
    Ok(())
}

/// Whether the program is there and runs.
fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
