//! Puts our values into files that belong to others, and takes them out again without a trace. Decides what is ours by a receipt, never by
//! a guess; never needs a running service.
//!
//! A change of a file goes in this order, so that a crash at any point leaves nothing that the next call does not understand: the receipt
//! knows the new text beside the old one; the file is replaced whole; the receipt forgets the old text. What the file held before is kept
//! twice: as splices, which take an untouched file back byte for byte, and key by key, for a file that somebody has edited since.

pub(crate) mod claude;
pub(crate) mod listener;
pub(crate) mod outward;
pub(crate) mod patch;
pub(crate) mod receipt;
pub(crate) mod repository;
pub(crate) mod shell;
mod steps;
pub(crate) mod vscode;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotspare_config::edit::EditError;
use hotspare_config::{Locations, Replacement, is_leftover, link_target};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::claude::inside::Displaced;
use crate::claude::{BASE_URL, HTTPS_PROXY, our_proxy};
use crate::error::{CliError, Exit};
use outward::Outward;
use patch::{Change, Entry, Place};
use receipt::{Open, Wired};

/// Largest file that is edited. Settings and shell files have a few KB.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What can be wired in, and out, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// Claude Code's settings, and those of its extension in editors
    Claude,
    /// The background service
    Service,
    /// Claude Code's status line
    Statusline,
    /// The shell's start file
    Shell,
}

/// What a file would be, or has become.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Which.
    pub path: PathBuf,
    /// What is ours in it now, with what was there before.
    pub entries: Vec<Entry>,
    /// What was ours and has been taken out or replaced.
    pub undone: Vec<Entry>,
    /// What was ours, has been changed by somebody else since, and stays as it is.
    pub left: Vec<Entry>,
    /// Whether the file's text is another one than before.
    pub changed: bool,
}

/// Why a file cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    /// Its text cannot be understood.
    #[error(transparent)]
    Text(#[from] EditError),
    /// It cannot be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of somebody else has the name of one that is wholly ours.
    #[error("`{}` is there already, and not from hotspare", .0.display())]
    Foreign(PathBuf),
    /// The plan itself failed.
    #[error("{0}")]
    Refused(CliError),
}

impl From<WiringError> for CliError {
    fn from(error: WiringError) -> Self {
        match error {
            WiringError::Refused(error) => error,
            WiringError::Text(EditError::Broken(errors)) => crate::commands::invalid(&errors).hint("nothing was changed in this file"),
            other => CliError::new(Exit::Failed, other.to_string()).hint("nothing was changed in this file"),
        }
    }
}

/// Whether a change is made, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Made.
    Write,
    /// Told.
    DryRun,
}

/// Brings one file to what it shall hold: takes out everything of ours, and puts in what `plan` says for the text that is then there.
/// `plan` also learns what was taken out, so that it can keep some of it.
pub(crate) fn rewire(
    receipt: &mut Open,
    path: &Path,
    mode: Mode,
    plan: impl FnOnce(&str, &[Entry]) -> Result<Vec<Change>, CliError>,
) -> Result<Outcome, WiringError> {
    let told = |source: io::Error| WiringError::Io { path: path.to_owned(), source };
    let current = read(path).map_err(told)?;
    let (exists, text) = (current.is_some(), current.unwrap_or_default());
    let wired = receipt.wired(path);
    let pristine = patch::pristine(path, &text, &wired.states)?;
    let changes = plan(&pristine.text, &pristine.undone).map_err(WiringError::Refused)?;
    let existed = if wired.states.is_empty() { exists } else { pristine.existed };
    let is_there_already = !pristine.is_exact && satisfied(path, &text, &changes, &pristine)?;
    let applied = patch::apply(path, &pristine.text, &changes)?;
    // A file that its owner has removed meanwhile is not made again for what was in it.
    let gone = applied.entries.is_empty() && (!exists || !existed && patch::is_nothing(path, &applied.text, &pristine));
    let outcome = |changed| Outcome {
        path: path.to_owned(),
        entries: applied.entries.clone(),
        undone: pristine.undone.clone(),
        left: pristine.left.clone(),
        changed,
    };
    let is_same = if gone { !exists } else { exists && applied.text == text };
    if mode == Mode::DryRun {
        return Ok(outcome(!is_same && !is_there_already));
    }
    sweep(path);
    if is_there_already {
        return Ok(outcome(false));
    }
    let state = patch::State::new(&pristine.text, &applied, existed);
    if is_same {
        settle(receipt, path, wired, (!applied.entries.is_empty()).then_some(state)).map_err(told)?;
        return Ok(outcome(false));
    }
    let mut next = wired.clone();
    next.note_folders(path);
    next.states.insert(0, state.clone());
    next.states.truncate(receipt::MOST_STATES);
    receipt.put(path, next.clone()).map_err(told)?;
    steps::reached();
    if gone {
        remove(path).map_err(told)?;
    } else {
        let replacement = Replacement::prepare(path, &applied.text).map_err(told)?;
        steps::reached();
        replacement.commit(&text).map_err(told)?;
    }
    steps::reached();
    settle(receipt, path, next, (!applied.entries.is_empty()).then_some(state)).map_err(told)?;
    steps::reached();
    Ok(outcome(true))
}

/// The receipt's last word on a file: what is in it now, or nothing any more.
fn settle(receipt: &mut Open, path: &Path, mut wired: Wired, state: Option<patch::State>) -> io::Result<()> {
    let Some(state) = state else {
        remove_folders(&wired.made_folders);
        return receipt.forget(path);
    };
    wired.states = vec![state];
    receipt.put(path, wired)
}

/// Whether the file holds every wanted value as it is, and nothing of ours besides: it was rewritten by somebody, who kept them.
fn satisfied(path: &Path, text: &str, changes: &[Change], pristine: &patch::Pristine) -> Result<bool, WiringError> {
    let is_wanted = |entry: &Entry| changes.iter().any(|change| change.place == entry.place);
    let all = !changes.is_empty() && pristine.undone.iter().all(is_wanted) && pristine.undone.len() == changes.len();
    Ok(all && changes.iter().try_fold(true, |so_far, change| patch::holds(path, text, change).map(|holds| so_far && holds))?)
}

/// The file's text; none when there is no file. A link without a file at its end counts as none.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is no file")),
        Ok(meta) if meta.len() > LARGEST => return Err(io::Error::other("it is larger than 4 MiB")),
        Ok(_) => {}
    }
    fs::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))).map(Some)
}

/// Removes a file that we made; a link that led to it stays.
fn remove(path: &Path) -> io::Result<()> {
    match path.canonicalize().and_then(fs::remove_file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Removes folders that we made, deepest first, as far as nothing else is in them.
fn remove_folders(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Removes what a crash of an earlier call has left beside the file. Only one call at a time gets here (see [`receipt::open`]).
pub(crate) fn sweep(path: &Path) {
    for leftover in leftovers(path) {
        let _ = fs::remove_file(leftover);
    }
}

/// What a crash has left beside a file, and beside the one that it is a link to.
pub(crate) fn leftovers(path: &Path) -> Vec<PathBuf> {
    let target = link_target(path).unwrap_or_else(|_| path.to_owned());
    let mut folders: Vec<&Path> = [path.parent(), target.parent()].into_iter().flatten().collect();
    folders.dedup();
    let entries = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_leftover)).map(|entry| entry.path()).collect()
}

/// Takes these parts out of every file that the receipt knows, or all of them; with it what else a file then shows.
pub(crate) fn unwire(receipt: &mut Open, parts: &[Part], mode: Mode) -> Vec<Result<Outcome, (PathBuf, WiringError)>> {
    let goes = |part: Part| parts.contains(&part);
    let paths: Vec<PathBuf> = receipt.paths().filter(|path| receipt.wired(path).parts().any(goes)).collect();
    let keep = |undone: &[Entry]| undone.iter().filter(|entry| !goes(entry.part)).map(Entry::to_change).collect();
    paths.into_iter().map(|path| rewire(receipt, &path, mode, |_, undone| Ok(keep(undone))).map_err(|error| (path, error))).collect()
}

/// Brings every file back to what an earlier receipt says is ours in it. What cannot be written stays, and the receipt still knows it.
pub(crate) fn revert(receipt: &mut Open, before: &BTreeMap<PathBuf, receipt::Wired>) -> Vec<WiringError> {
    let paths: BTreeSet<PathBuf> = receipt.paths().chain(before.keys().cloned()).collect();
    let mut failed = Vec::new();
    for path in paths {
        let earlier = before.get(&path).cloned().unwrap_or_default();
        if receipt.wired(&path) == earlier {
            continue;
        }
        let entries = earlier.states.first().map(|state| state.entries.as_slice()).unwrap_or_default();
        let changes = entries.iter().map(Entry::to_change).collect();
        failed.extend(rewire(receipt, &path, Mode::Write, |_, _| Ok(changes)).err());
    }
    failed
}

/// How long Claude Code takes to read its settings anew after a change: 0.8 s were too short, 1.1 s enough (measured, 2.1.330).
const SETTLE_TIME: Duration = Duration::from_millis(1300);

/// Takes Claude Code's values out so that sessions which run follow. A variable that merely goes stays as it was in a running session; one
/// that becomes empty, or what it was before, takes effect (measured, 2.1.330). So the addresses become what the client had of its own, or
/// empty, and go a moment later.
pub(crate) fn retire(receipt: &mut Open, locations: &Locations) -> Vec<Result<Outcome, (PathBuf, WiringError)>> {
    let Some(first) = empty_address(receipt, locations) else { return unwire(receipt, &[Part::Claude], Mode::Write) };
    if first.as_ref().is_ok_and(|outcome| outcome.changed) {
        crate::commands::rest(SETTLE_TIME);
    }
    let mut results = unwire(receipt, &[Part::Claude], Mode::Write);
    // A file that stays would be read by a service alone, which nobody is pointed at.
    let _ = forget_outward(receipt, locations);
    let Ok(first) = first else { return results };
    // What the first step took out is told as one with the second.
    let undone = first.undone.into_iter().filter(|entry| entry.part == Part::Claude).collect();
    match results.iter_mut().flatten().find(|outcome| outcome.path == locations.claude_settings) {
        Some(outcome) => (outcome.undone, outcome.left) = (undone, first.left),
        None => results.push(Ok(Outcome { entries: Vec::new(), undone, ..first })),
    }
    results
}

/// The first half of [`retire`], which is all that a session needs: of ours, the addresses are left in Claude Code's settings as what the
/// client had of its own, or empty, and those only that were not there before. Nothing where no address of ours is in them.
pub(crate) fn empty_address(receipt: &mut Open, locations: &Locations) -> Option<Result<Outcome, WiringError>> {
    let path = &locations.claude_settings;
    let own = own_proxy(locations);
    let emptied = |undone: &[Entry]| -> Vec<Change> {
        let without_prior = undone.iter().filter(|entry| is_address(entry)).filter(|entry| entry.prior.is_none());
        let kept = undone.iter().filter(|entry| entry.part != Part::Claude);
        let instead = |entry: &Entry| Change { value: stand_in(entry, own.as_deref()), ..entry.to_change() };
        kept.map(Entry::to_change).chain(without_prior.map(instead)).collect()
    };
    let is_wired = path.exists() && receipt.wired(path).states.iter().any(|state| state.entries.iter().any(is_address));
    is_wired.then(|| rewire(receipt, path, Mode::Write, |_, undone| Ok(emptied(undone))))
}

/// The second half of [`retire`], later and by another process: takes out what [`empty_address`] has left, unless hotspare has been wired in
/// again since.
pub(crate) fn sweep_emptied(receipt: &mut Open, locations: &Locations) {
    let own = own_proxy(locations);
    let wired = receipt.wired(&locations.claude_settings);
    let of_claude = |entry: &&Entry| entry.part == Part::Claude;
    let mut entries = wired.states.iter().flat_map(|state| &state.entries).filter(of_claude);
    if entries.all(|entry| is_address(entry) && entry.value == stand_in(entry, own.as_deref())) {
        // What stays is found by `uninstall`.
        let _ = unwire(receipt, &[Part::Claude], Mode::Write);
        let _ = forget_outward(receipt, locations);
    }
}

/// The shell's own proxy, which ours has hidden.
fn own_proxy(locations: &Locations) -> Option<String> {
    Outward::kept(&locations.state_dir).and_then(|kept| kept.proxy)
}

/// What stands in the place of an address of ours until it goes, in JSON.
fn stand_in(address: &Entry, own_proxy: Option<&str>) -> String {
    let hidden = own_proxy.filter(|_| address.place != Place::key(&["env", BASE_URL]));
    Value::from(hidden.unwrap_or_default()).to_string()
}

fn is_address(entry: &Entry) -> bool {
    ADDRESSES.iter().any(|name| entry.place == Place::key(&["env", name]))
}

/// The variables that say where a client goes; in full mode the other ones do.
const ADDRESSES: [&str; 3] = [BASE_URL, HTTPS_PROXY[1], HTTPS_PROXY[0]];

/// What stood in the settings before us as the client's base URL.
pub(crate) fn prior_base_url(receipt: &Open, locations: &Locations) -> Option<String> {
    let wired = receipt.wired(&locations.claude_settings);
    let mut entries = wired.states.iter().flat_map(|state| &state.entries);
    let entry = entries.find(|entry| entry.place == Place::key(&["env", BASE_URL]))?;
    serde_json::from_str(entry.prior.as_ref()?).ok().filter(|url: &String| !url.is_empty())
}

/// The variables of Claude Code's settings that are ours, with what stood there before.
pub(crate) fn displaced(locations: &Locations) -> Vec<Displaced> {
    let Ok(receipt) = receipt::look(&locations.state_dir) else { return Vec::new() };
    let wired = receipt.wired(&locations.claude_settings);
    let of_entry = |entry: &Entry| {
        let Place::Key(keys) = &entry.place else { return None };
        let [env, name] = keys.as_slice() else { return None };
        let text = |json: &str| serde_json::from_str::<String>(json).ok();
        (env == "env").then(|| {
            let prior = entry.prior.as_deref().and_then(text);
            Some(Displaced { name: name.clone(), ours: text(&entry.value)?, prior })
        })?
    };
    wired.states.iter().flat_map(|state| &state.entries).filter_map(of_entry).collect()
}

/// How Claude Code's settings lead to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Led {
    /// By its base URL.
    Base(SocketAddr),
    /// By its HTTPS proxy.
    Full(SocketAddr),
}

impl Led {
    /// Our port.
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Self::Base(address) | Self::Full(address) => address,
        }
    }
}

/// How Claude Code's settings lead to us, by the receipt; none where they do not.
pub(crate) fn led(receipt: &Open, locations: &Locations) -> Option<Led> {
    let wired = receipt.wired(&locations.claude_settings);
    let entries = &wired.states.first()?.entries;
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.place == Place::key(&["env", name]))?;
        serde_json::from_str::<String>(&entry.value).ok()
    };
    let by_proxy = HTTPS_PROXY.iter().find_map(|name| our_proxy(&value(name)?)).map(Led::Full);
    by_proxy.or_else(|| Some(Led::Base(value(BASE_URL)?.strip_prefix("http://")?.parse().ok()?)))
}

/// Values of ours in Claude Code's settings that the receipt does not know: it was lost.
pub(crate) fn assume(receipt: &mut Open, locations: &Locations) {
    let path = &locations.claude_settings;
    if let Ok(Some(text)) = read(path) {
        receipt.assume(path, claude::recognised(path, &text, &locations.state_dir));
    }
}

/// Forgets what the client had of its own before full mode, where it has that again.
pub(crate) fn forget_outward(receipt: &Open, locations: &Locations) -> io::Result<()> {
    if matches!(led(receipt, locations), Some(Led::Full(_))) { Ok(()) } else { Outward::forget(&locations.state_dir) }
}

/// The address that Claude Code's settings point at, if they are ours.
pub(crate) fn wired_address(receipt: &Open, locations: &Locations) -> Option<SocketAddr> {
    led(receipt, locations).map(Led::address)
}

/// This program, as others shall call it: by the name in `PATH` where that leads here, since an upgrade may move the file behind it.
pub(crate) fn program() -> Result<String, CliError> {
    let own = std::env::current_exe()?.canonicalize()?;
    let name = own.file_name().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut named = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    let program = named.find(|file| file.canonicalize().is_ok_and(|real| real == own)).unwrap_or_else(|| own.clone());
    program.into_os_string().into_string().map_err(|_| CliError::new(Exit::Failed, "the path of hotspare's program is not UTF-8"))
}
