//! `hotspare install`: wires hotspare in. Never writes before the listener has proved to be ours, and never where the result would not
//! work: another gateway that nobody would ask any more, or settings of an administrator that have the last word.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use hotspare_config::{BaseUrl, Config, Locations, Settings};
use hotspare_gateway::Gateway;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::claude::{BASE_URL, CUSTOM_HEADERS, UserSetup};
use crate::cli::Install;
use crate::commands;
use crate::commands::service::{self, LISTENER_TIME, Started};
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::state;
use crate::wiring::listener::{Listener, probe};
use crate::wiring::patch::{Change, Entry, Place, Taken};
use crate::wiring::receipt::{self, Open};
use crate::wiring::shell::Shell;
use crate::wiring::{self, Mode, Outcome, Part, WiringError, claude, vscode};
use crate::words;

/// The version of the JSON.
const VERSION: u32 = 1;

/// Longest value that is shown, in characters.
const LONGEST: usize = 72;

/// Columns of a line that neither its key nor its value takes.
const BESIDE: usize = 6;

/// What is installed where nothing is said.
const USUAL: [Part; 3] = [Part::Service, Part::Claude, Part::Statusline];

/// The mode of a settings file that only its owner can read.
const OTHERS: u32 = 0o077;

/// `install --json` and `uninstall --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// Of this shape.
    pub version: u32,
    /// Each file that something of ours is, was or would be in.
    pub files: Vec<FileReport>,
    /// What else a person must know.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileReport {
    /// Where it is.
    pub path: String,
    /// Whether it is changed, or would be.
    pub changed: bool,
    /// What is ours in it.
    pub set: Vec<Line>,
    /// What was ours, and is gone.
    pub removed: Vec<String>,
    /// What was there before ours, and is there again.
    pub put_back: Vec<String>,
    /// What was ours and has been changed by somebody since: it stays.
    pub left: Vec<String>,
}

/// One value.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line {
    /// Where in the file.
    pub key: String,
    /// What it is; secrets are masked.
    pub value: String,
    /// Whether it stands in the place of another, which the receipt keeps.
    pub replaces: bool,
}

/// What the settings get. Which variables they are is the mode's word.
struct Wanted<'w> {
    locations: &'w Locations,
    config: &'w Config,
    address: SocketAddr,
    token: SecretString,
    program: String,
    parts: Vec<Part>,
}

/// What was wired, or would be.
struct Wiring {
    report: Report,
    address: SocketAddr,
    /// Nothing had to be changed.
    in_place: bool,
    /// Whether our own service listens.
    is_ours: bool,
}

/// Runs `hotspare install`.
pub(crate) fn install(arguments: &Install) -> Result<ExitCode, CliError> {
    let locations = commands::locations(None)?;
    let parts = if arguments.parts.is_empty() { USUAL.to_vec() } else { arguments.parts.clone() };
    let mode = if arguments.dry_run || arguments.check { Mode::DryRun } else { Mode::Write };
    let Wiring { report, address, in_place, is_ours } = wire(&locations, &parts, mode, arguments.shell)?;
    if arguments.json {
        output::data(&serde_json::to_string(&report).map_err(io::Error::from)?)?;
    } else {
        output::data(&report.drawn(arguments.dry_run, "everything is in place"))?;
    }
    if arguments.check {
        if in_place && !is_ours {
            output::talk(&format!("hotspare: nobody of yours listens on {address}; start it: `hotspare service start`"));
            return Ok(ExitCode::from(Exit::NotRunning as u8));
        }
        return Ok(if in_place { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) });
    }
    if !arguments.json {
        let next = if mode == Mode::DryRun { "  make it so: `hotspare install`" } else { "  undo: `hotspare uninstall`" };
        output::talk(next);
    }
    Ok(ExitCode::SUCCESS)
}

/// The usual parts, for whoever has just written a configuration.
pub(crate) fn usual(locations: &Locations, mode: Mode) -> Result<Report, CliError> {
    wire(locations, &USUAL, mode, None).map(|wiring| wiring.report)
}

fn wire(locations: &Locations, parts: &[Part], mode: Mode, shell: Option<Shell>) -> Result<Wiring, CliError> {
    let config = commands::load(locations, &commands::context(&crate::cli::Layers::default())?)?;
    let address = service::address(&config)?;
    Gateway::check(&config, address).map_err(|error| CliError::new(Exit::ConfigInvalid, error.to_string()))?;
    let has = |part: Part| parts.contains(&part);
    if has(Part::Claude) {
        refuse_managed(&locations.claude_managed, address)?;
    }
    // A dry run makes nothing, a token neither.
    let token = if mode == Mode::Write { state::lasting_token(&locations.state_dir)? } else { state::known_token(&locations.state_dir) };
    let wanted = Wanted { locations, config: &config, address, token, program: wiring::program()?, parts: parts.to_vec() };
    // What would be refused is refused before the first byte is written.
    let mut receipt = receipt::look(&locations.state_dir)?;
    wanted.files(&mut receipt, Mode::DryRun, shell)?;
    let mut notes = Vec::new();
    if mode == Mode::Write {
        receipt = receipt::open(&locations.state_dir)?;
    }
    let mut outcomes = Vec::new();
    if has(Part::Service) {
        outcomes = service::write_units(&mut receipt, locations, address, mode)?;
        if mode == Mode::Write {
            notes.extend(service_note(service::enable(locations, address)?, address));
        }
    }
    let listener = probe(&locations.state_dir, address, LISTENER_TIME);
    if mode == Mode::Write && (has(Part::Claude) || has(Part::Shell)) {
        require_listener(listener.as_ref().copied().map_err(|error| CliError::new(Exit::Failed, error.to_string()))?, address)?;
    }
    let (files, more) = wanted.files(&mut receipt, mode, shell)?;
    outcomes.extend(files);
    notes.extend(more);
    let in_place = outcomes.iter().all(|outcome| !outcome.changed);
    let is_ours = listener.is_ok_and(|listener| listener == Listener::Ours);
    Ok(Wiring { report: Report::of(locations, &outcomes, notes), address, in_place, is_ours })
}

fn service_note(started: Started, address: SocketAddr) -> Option<String> {
    match started {
        Started::Already => None,
        Started::Now(service::Manager::Background) => Some(format!(
            "the service runs on http://{address}, in the background; after a restart of the machine Claude Code's hook starts it again"
        )),
        Started::Now(_) => Some(format!("the service runs on http://{address}, and again after each login")),
        Started::Soon => Some(format!("the service was started, and does not answer on {address} yet")),
    }
}

/// Nobody is pointed at a port that is not ours.
fn require_listener(listener: Listener, address: SocketAddr) -> Result<(), CliError> {
    match listener {
        Listener::Ours => Ok(()),
        Listener::Stranger => Err(service::taken(address).hint("nothing was written into Claude Code's settings")),
        Listener::Nobody => Err(CliError::new(Exit::NotRunning, format!("no hotspare listens on {address}, so nothing is pointed there"))
            .hint("with the service: `hotspare install`")
            .hint("or start it first: `hotspare service start`")),
    }
}

/// An administrator's settings have the last word: what we write would have no effect.
fn refuse_managed(managed: &Path, address: SocketAddr) -> Result<(), CliError> {
    let Ok(text) = fs::read_to_string(managed) else { return Ok(()) };
    let url = Settings::parse(managed, &text).ok().and_then(|settings| settings.json(&["env", BASE_URL]));
    match url.as_ref().and_then(Value::as_str) {
        None => Ok(()),
        Some(url) if url == format!("http://{address}") => Ok(()),
        Some(url) => Err(CliError::new(
            Exit::Failed,
            format!(
                "`{}` sets `{BASE_URL}` to `{url}`: your administrator's settings outrank yours, so nothing here would have an effect",
                managed.display()
            ),
        )
        .hint(format!(
            "ask your administrator to point it at `http://{address}`, with that address as the `base_url` of your first profile"
        ))),
    }
}

impl Wanted<'_> {
    /// Brings every file of Claude Code, its editors and the shell to what is wanted.
    fn files(&self, receipt: &mut Open, mode: Mode, shell: Option<Shell>) -> Result<(Vec<Outcome>, Vec<String>), CliError> {
        let (mut outcomes, mut notes) = (Vec::new(), Vec::new());
        let has = |part: Part| self.parts.contains(&part);
        if has(Part::Claude) || has(Part::Statusline) {
            let path = &self.locations.claude_settings;
            let text = wiring::read(path).map_err(|source| WiringError::Io { path: path.clone(), source })?.unwrap_or_default();
            receipt.assume(path, claude::recognised(path, &text));
            outcomes.push(wiring::rewire(receipt, path, mode, |base, undone| self.of_claude(base, undone, &mut notes))?);
            notes.extend(self.doubts(path));
        }
        if has(Part::Claude) {
            for path in vscode::settings_files(&self.locations.home) {
                let changes = vscode::changes(self.env(&claude::setup(&settings(&path, "")?)).into_iter().take(2));
                outcomes.push(wiring::rewire(receipt, &path, mode, |_, _| Ok(changes))?);
            }
        }
        if has(Part::Shell) {
            let shell = shell.or_else(Shell::of_user).ok_or_else(|| {
                CliError::new(Exit::Failed, "`$SHELL` names no shell that is known here")
                    .hint("name it: `hotspare install shell --shell zsh`")
            })?;
            let path = shell.start_file(&self.locations.home);
            outcomes.push(wiring::rewire(receipt, &path, mode, |_, _| Ok(vec![shell.change(&self.program)]))?);
        }
        Ok((outcomes, notes))
    }

    /// The variables of base mode.
    fn env(&self, setup: &UserSetup) -> Vec<(&'static str, String)> {
        setup.lasting_env(&format!("http://{}", self.address), self.token.expose_secret())
    }

    fn of_claude(&self, base: &str, undone: &[Entry], notes: &mut Vec<String>) -> Result<Vec<Change>, CliError> {
        let settings = settings(&self.locations.claude_settings, base)?;
        let has = |part: Part| self.parts.contains(&part);
        let kept = |part: Part| undone.iter().filter(move |entry| entry.part == part).map(Entry::to_change);
        let mut changes = Vec::new();
        if has(Part::Claude) {
            let setup = claude::setup(&settings);
            self.refuse_gateway(&setup)?;
            if let Some(switch) = setup.bypass() {
                notes.push(format!("`{switch}` is set, so Claude Code goes to that cloud and past hotspare; unset it to be protected"));
            }
            changes.extend(claude::env_changes(self.env(&setup)));
            changes.push(claude::hook_change(&self.program));
        } else {
            changes.extend(kept(Part::Claude));
        }
        if has(Part::Statusline) {
            match claude::statusline_change(&settings, &self.program) {
                Some(change) => changes.push(change),
                None => notes.push("your status line is no command, so it stays as it is, without hotspare's segment".to_owned()),
            }
        } else {
            changes.extend(kept(Part::Statusline));
        }
        Ok(changes)
    }

    /// A gateway that the client goes to today must be one of the profiles, or its traffic and its key would go elsewhere.
    fn refuse_gateway(&self, setup: &UserSetup) -> Result<(), CliError> {
        let Some(existing) = setup.existing_base_url() else { return Ok(()) };
        if existing == format!("http://{}", self.address) {
            return Ok(());
        }
        let url = BaseUrl::parse(existing).map_err(|error| {
            CliError::new(Exit::ConfigInvalid, format!("`{BASE_URL}` is `{existing}` today, and no profile can go there: {error}"))
        })?;
        if self.config.profiles.iter().any(|profile| profile.base_url == url) {
            return Ok(());
        }
        Err(CliError::new(Exit::Failed, format!("Claude Code goes to `{existing}` today, and no profile of yours does"))
            .hint("`hotspare init` keeps it as the first profile")
            .hint(format!(r#"or add it: `hotspare config set profiles.gateway '{{"base_url":"{existing}"}}'`, and name it in the policy"#)))
    }

    /// What may keep the settings from having an effect, or shows others too much.
    fn doubts(&self, path: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let Ok(text) = fs::read_to_string(path) else { return notes };
        let Ok(settings) = settings(path, &text) else { return notes };
        if !settings.is_plain_json() {
            notes.push(format!(
                "{} has comments or trailing commas: Claude Code then reads nothing of it (measured, 2.1.330), so you are not protected until \
                 they are gone",
                path.display()
            ));
        }
        if settings.json(&["disableAllHooks"]) == Some(Value::Bool(true)) {
            notes.push("`disableAllHooks` is set, so nothing starts the service when a session begins".to_owned());
        }
        if is_open_to_others(path) && self.parts.contains(&Part::Claude) {
            let path = path.display();
            notes.push(format!("{path} holds the local token and can be read by other users of this machine: `chmod 600 {path}`"));
        }
        notes
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & OTHERS);
    mode(path) != 0 && path.parent().is_none_or(|folder| mode(folder) != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

fn settings(path: &Path, text: &str) -> Result<Settings, CliError> {
    Settings::parse(path, text).map_err(|errors| commands::invalid(&errors).hint("nothing was changed in this file"))
}

impl Report {
    /// What came of some files.
    pub(crate) fn of(locations: &Locations, outcomes: &[Outcome], notes: Vec<String>) -> Self {
        let files = outcomes.iter().map(|outcome| FileReport::of(locations, outcome)).collect();
        Self { version: VERSION, files, notes }
    }

    /// For people. `nothing` is said where nothing changes.
    pub(crate) fn drawn(&self, is_plan: bool, nothing: &str) -> String {
        let look = Look::of_stdout();
        let mut lines = Vec::new();
        for file in self.files.iter().filter(|file| file.changed || !file.left.is_empty()) {
            lines.push(look.paint.paint(Style::Bold, &file.path));
            for line in &file.set {
                let sign = if line.replaces { look.paint.paint(Style::Yellow, "~") } else { look.paint.paint(Style::Green, "+") };
                let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(line.key.len() + BESIDE));
                let value = words::fit(&line.value, room, look.unicode);
                lines.push(format!("  {sign} {}  {}", line.key, look.paint.paint(Style::Dim, &value)));
            }
            let is_new = |key: &&String| !file.set.iter().any(|line| line.key == **key);
            lines.extend(file.removed.iter().filter(is_new).map(|key| format!("  {} {key}", look.paint.paint(Style::Red, "-"))));
            lines.extend(
                file.put_back.iter().filter(is_new).map(|key| format!("  {} {key}  as it was before", look.paint.paint(Style::Green, "="))),
            );
            lines.extend(
                file.left
                    .iter()
                    .map(|key| format!("  {} {key}  changed since by somebody else: left as it is", look.paint.paint(Style::Yellow, "!"))),
            );
        }
        if lines.is_empty() {
            lines.push(nothing.to_owned());
        } else if is_plan {
            lines.push("nothing was changed: this is a dry run".to_owned());
        }
        lines.extend(self.notes.iter().map(|note| format!("{} {note}", look.paint.paint(Style::Cyan, "note:"))));
        lines.join("\n")
    }
}

impl FileReport {
    fn of(locations: &Locations, outcome: &Outcome) -> Self {
        let words = |entries: &[Entry], taken: Taken| {
            entries.iter().filter(|entry| entry.taken() == taken).map(|entry| entry.place.words()).collect()
        };
        Self {
            path: tilde(locations, &outcome.path),
            changed: outcome.changed,
            set: outcome.entries.iter().map(Line::of).collect(),
            removed: words(&outcome.undone, Taken::Out),
            put_back: words(&outcome.undone, Taken::Back),
            left: outcome.left.iter().map(|entry| entry.place.words()).collect(),
        }
    }
}

impl Line {
    fn of(entry: &Entry) -> Self {
        Self { key: entry.place.words(), value: shown(entry), replaces: entry.prior.is_some() }
    }
}

/// The value without its secrets, on one line that fits.
fn shown(entry: &Entry) -> String {
    let is_headers = entry.place.words().contains(CUSTOM_HEADERS);
    let text = match &entry.place {
        Place::Block | Place::Whole => format!("{} lines", entry.value.lines().count()),
        Place::Key(_) | Place::Entry { .. } if is_headers => {
            let value: Value = serde_json::from_str(&entry.value).unwrap_or_default();
            let text = value.as_str().or_else(|| value["value"].as_str()).unwrap_or_default().to_owned();
            text.lines().map(|line| format!("{}: …", line.split(':').next().unwrap_or_default())).collect::<Vec<_>>().join(", ")
        }
        Place::Key(_) | Place::Entry { .. } => entry.value.clone(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

/// The home folder is `~`.
pub(crate) fn tilde(locations: &Locations, path: &Path) -> String {
    match path.strip_prefix(&locations.home) {
        Ok(below) => format!("~/{}", below.display()),
        Err(_) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_s_address_has_the_last_word() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, address) = (folder.path().join("managed-settings.json"), "127.0.0.1:4117".parse().expect("an address"));
        assert!(refuse_managed(&file, address).is_ok(), "there is none");
        for (text, refused) in [
            (r#"{ "env": { "ANTHROPIC_BASE_URL": "https://gateway.example" } }"#, true),
            (r#"{ "env": { "ANTHROPIC_BASE_URL": "http://127.0.0.1:4117" } }"#, false),
            (r#"{ "permissions": {} }"#, false),
        ] {
            fs::write(&file, text).expect("written");
            let outcome = refuse_managed(&file, address);
            assert_eq!(outcome.is_err(), refused, "{text}");
            if let Err(error) = outcome {
                let told = error.to_string();
                assert!(told.contains("https://gateway.example") && told.contains("hint: ask your administrator"), "{told}");
            }
        }
    }
}
