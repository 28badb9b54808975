//! `hotspare explain CODE`: what a code of ours means and what to do about it. Never looks at anything but the lists in the code.

mod screen;

use std::process::ExitCode;

use hotspare_config::codes;
use hotspare_core::{FailureKind, HookEvent};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::ExplainArgs;
use crate::error::{CliError, Exit};
use crate::output::{self, Look, Style};
use crate::words;

/// The version of the JSON's shape.
const INDEX_VERSION: u32 = 1;

/// What `explain --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Index {
    /// The shape's version.
    version: u32,
    /// The one that was asked for, or all.
    codes: Vec<Entry>,
}

/// One code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Entry {
    /// As it is printed: `HS0103`, `overloaded`, `3`.
    pub(crate) code: String,
    /// Where it is met.
    kind: Kind,
    /// What it means.
    pub(crate) meaning: String,
    /// What to do.
    cure: String,
}

/// Where a code is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// In an error or warning on the configuration.
    Configuration,
    /// In `status`, `why`, `logs`, metrics and notices: what a profile failed with.
    Failure,
    /// As a word of a screen: a profile's state, or what happened.
    Screen,
    /// As the HTTP status of an answer.
    Status,
    /// As an event of hooks.
    Event,
    /// As a check of `doctor`.
    Check,
    /// As the exit code of a command.
    Exit,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Configuration, Self::Failure, Self::Screen, Self::Status, Self::Event, Self::Check, Self::Exit];

    /// The heading, and a sentence below it.
    fn heading(self) -> (&'static str, &'static str) {
        match self {
            Self::Configuration => {
                ("Configuration", "Errors and warnings of `hotspare config validate` and of whatever reads the configuration.")
            }
            Self::Failure => (
                "Failures of profiles",
                "Words in `status`, `why`, `logs`, metrics, hooks and notices. What follows from each is in the failure table of `ARCHITECTURE.md`.",
            ),
            Self::Screen => ("Words of the screens", "In `status`, `profile list`, the status line, `why`, `logs` and notices."),
            Self::Status => ("HTTP statuses", "Of answers, as `why` and `logs` show them."),
            Self::Event => ("Events", "What calls a hook; `docs/hooks.md` says what each is given."),
            Self::Check => ("Checks of `doctor`", "`docs/doctor.md` has them."),
            Self::Exit => ("Exit codes", "Of every command; `run` returns its command's own code."),
        }
    }
}

/// Runs `hotspare explain`.
pub(crate) fn explain(arguments: &ExplainArgs) -> Result<ExitCode, CliError> {
    let all = index();
    let chosen: Vec<Entry> = match &arguments.code {
        None => all,
        Some(code) => vec![find(&all, code).ok_or_else(|| unknown(&all, code))?.clone()],
    };
    if arguments.json {
        let index = Index { version: INDEX_VERSION, codes: chosen };
        let text = serde_json::to_string(&index).map_err(|error| CliError::new(Exit::Failed, format!("cannot be written: {error}")))?;
        output::data(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let look = Look::of_stdout();
    let text =
        if arguments.code.is_some() { chosen.first().map(|entry| drawn(entry, look)).unwrap_or_default() } else { listed(&chosen, look) };
    output::data(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that can be explained.
pub(crate) fn index() -> Vec<Entry> {
    let configuration = codes::ALL.iter().map(|code| entry(code.id, Kind::Configuration, code.meaning, code.cure));
    let failures = FailureKind::ALL.into_iter().map(|kind| entry(kind.word(), Kind::Failure, kind.meaning(), cure(kind)));
    let exits = Exit::ALL.into_iter().map(|exit| {
        let (meaning, cure) = exit.explained();
        entry(&(exit as u8).to_string(), Kind::Exit, meaning, cure)
    });
    let plain =
        [entry("0", Kind::Exit, "well", "nothing")].into_iter().chain(exits).chain([entry("130", Kind::Exit, "interrupted", "nothing")]);
    let rows = |rows: &'static [screen::Row], kind| rows.iter().map(move |(code, meaning, cure)| entry(code, kind, meaning, cure));
    let words = rows(&screen::STATES, Kind::Screen).chain(rows(&screen::STATUSES, Kind::Status));
    let events = HookEvent::ALL
        .into_iter()
        .map(|event| entry(event.word(), Kind::Event, screen::event_meaning(event), "`hotspare hook test` calls its hooks"));
    let checks = screen::checks().map(|(name, text)| entry(name, Kind::Check, &text, "`hotspare doctor` names the command"));
    configuration.chain(failures).chain(words).chain(events).chain(checks).chain(plain).collect()
}

fn entry(code: &str, kind: Kind, meaning: &str, cure: &str) -> Entry {
    Entry { code: code.to_owned(), kind, meaning: meaning.to_owned(), cure: cure.to_owned() }
}

/// `HS0103`, `hs103`, `error[HS0103]`, `overloaded`, `bad gateway`, `3`, `exit 3`.
fn find<'a>(all: &'a [Entry], code: &str) -> Option<&'a Entry> {
    let asked = code.trim().to_ascii_lowercase();
    let asked = asked.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
    let asked =
        ["exit ", "http ", "status "].iter().find_map(|prefix| asked.strip_prefix(prefix)).unwrap_or(asked).trim().replace([' ', '-'], "_");
    let digits = asked.strip_prefix("hs").filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let padded = digits.map(|digits| format!("hs{digits:0>4}"));
    let wanted = padded.unwrap_or(asked);
    let key = |code: &str| code.to_ascii_lowercase().replace([' ', '-'], "_");
    all.iter().find(|entry| key(&entry.code) == wanted)
}

fn unknown(all: &[Entry], code: &str) -> CliError {
    let shown = words::fit(code, 40, true);
    let wanted = code.to_ascii_lowercase();
    let close = all
        .iter()
        .map(|entry| (strsim::damerau_levenshtein(&wanted, &entry.code.to_ascii_lowercase()), entry))
        .min_by_key(|(distance, _)| *distance);
    let error = CliError::new(Exit::Usage, format!("no code is named `{shown}`"));
    match close.filter(|(distance, _)| *distance <= 2) {
        Some((_, entry)) => error.hint(format!("did you mean `{}`? all of them: `hotspare explain`", entry.code)),
        None => error.hint("all of them: `hotspare explain`"),
    }
}

fn drawn(entry: &Entry, look: Look) -> String {
    let width = look.width.unwrap_or(usize::MAX);
    let label = |label: &str, text: &str| {
        let lines = words::wrapped(&words::fit(text, usize::MAX, look.unicode), width.saturating_sub(10).max(20));
        let heads = std::iter::once(look.paint.paint(Style::Dim, &words::padded(label, 6))).chain(std::iter::repeat(" ".repeat(6)));
        heads.zip(lines).map(|(head, line)| format!("  {head}  {line}")).collect::<Vec<_>>()
    };
    let mut lines = vec![format!("{}  {}", look.paint.paint(Style::Bold, &entry.code), entry.kind.heading().0.to_lowercase())];
    lines.extend(label("means", &entry.meaning));
    lines.extend(label("do", &entry.cure));
    lines.join("\n")
}

fn listed(entries: &[Entry], look: Look) -> String {
    let columns = entries.iter().map(|entry| entry.code.chars().count()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        lines.extend([String::new(), look.paint.paint(Style::Bold, kind.heading().0)]);
        for entry in entries.iter().filter(|entry| entry.kind == kind) {
            let meaning =
                words::fit(&entry.meaning, look.width.map_or(usize::MAX, |width| width.saturating_sub(columns + 4)), look.unicode);
            lines.push(format!("  {}  {meaning}", look.paint.paint(Style::Cyan, &words::padded(&entry.code, columns))));
        }
    }
    lines.split_off(1).join("\n")
}

/// What the user can do about a failure that comes again and again; a single one is carried on without them.
pub(crate) fn cure(kind: FailureKind) -> &'static str {
    use FailureKind as F;
    match kind {
        F::StaleConnection => "nothing: it is sent again on a fresh connection",
        F::ConnectRefused => "look whether something listens at the profile's `base_url`",
        F::Unreachable | F::Dns | F::ConnectTimeout => "look at this machine's network and at the host in `base_url`",
        F::TlsHandshake => "look for a proxy or a firewall on the way to the host",
        F::TlsCertificate => {
            "behind a company's proxy name its certificate in `NODE_EXTRA_CA_CERTS`; else mind that somebody may listen in"
        }
        F::ClosedBeforeHead | F::BadHead | F::BadGateway => "wait; where only you see it, look at the gateway or proxy on the way",
        F::HeadTimeout | F::Stalled => "wait, or give the profile more time: `clocks`",
        F::ServerError | F::Overloaded | F::StreamDied | F::Malformed => "wait: it is the provider's",
        F::Throttled | F::BareRateLimit => "wait, or ask less at one time",
        F::QuotaExhausted => "wait for the reset that `hotspare status` shows, or name a further profile",
        F::SpendCap | F::Billing => "raise the limit or add credit at the provider, then `hotspare reset NAME`",
        F::Unauthorized => "log in again (`/login` in Claude Code), or renew the key; then `hotspare reset NAME`",
        F::Forbidden => "look at what the account or key may do, then `hotspare reset NAME`",
        F::ModelNotFound => "map the model for this profile: `models`",
        F::ProviderBound => "nothing: the request is adapted, or carried on",
        F::Refused => "read the provider's own words: `hotspare why`",
        F::Misconfigured => "correct the setting that the provider's answer names (deployment, proxy, privacy), then `hotspare reset NAME`",
        F::ContentPolicy => "nothing here: the provider refuses the content, and another is not tried for that",
        F::ResourceNotFound => "nothing here: files, batches and containers exist only at the account that made them",
        F::BadRequest | F::TooLarge => "nothing here: the request itself is at fault, and its client sees why",
        F::Redirect => "correct `base_url`: hotspare follows no redirect, because credentials would go along",
        F::WrongContent => "correct `base_url`: what answers there is no provider, or a page stands before it",
        F::OutOfDescriptors => "raise the limit of open files (`ulimit -n`; `LimitNOFILE` of the service), or close what holds so many",
        F::NoCredential => "set the variable, file or command that `auth` names; `hotspare status` says what is missing",
        F::CannotReplay => "nothing: its body was too large to keep, and one profile has had it",
    }
}

#[cfg(test)]
mod tests;
