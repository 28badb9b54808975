//! `hotspare install`: wires hotspare in. Never writes before the listener has proved to be ours, and never where the result would not
//! work: another gateway that nobody would ask any more, or settings of an administrator that have the last word.

mod report;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hotspare_config::{BaseUrl, Config, Locations, Settings};
use hotspare_gateway::Gateway;
use hotspare_upstream::ClaudeClient;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::claude::{BASE_URL, CUSTOM_HEADERS, HTTPS_PROXY, Lead, UserSetup, our_proxy};
use crate::cli::{self, Install};
use crate::commands;
use crate::commands::service::{self, LISTENER_TIME, Started};
use crate::destination::{self, Named, Record};
use crate::error::{CliError, Exit};
use crate::output;
use crate::wiring::listener::{Listener, probe};
use crate::wiring::outward::Outward;
use crate::wiring::patch::{self, Change, Entry};
use crate::wiring::receipt::{self, Open};
use crate::wiring::shell::Shell;
use crate::wiring::{self, Led, Mode, Outcome, Part, WiringError, claude, vscode};
use crate::{authority, processes, state, verdict};

pub(crate) use report::{Report, tilde};

/// What is installed where nothing is said.
const USUAL: [Part; 3] = [Part::Service, Part::Claude, Part::Statusline];

/// The mode of a settings file that only its owner can read.
const OTHERS: u32 = 0o077;

/// What the settings get. Which variables they are is the mode's word.
struct Wanted<'w> {
    locations: &'w Locations,
    config: &'w Config,
    address: SocketAddr,
    token: SecretString,
    program: String,
    parts: Vec<Part>,
    /// In full mode: the file of what the client trusts then.
    certificates: Option<PathBuf>,
}

/// What `install` was asked for.
struct Asked<'a> {
    parts: &'a [Part],
    mode: Mode,
    shell: Option<Shell>,
    /// How the client shall be led; none: as it is, or as the configuration says.
    lead: Option<cli::Mode>,
    /// The configuration's text as it would be; `None`: as it is.
    text: Option<&'a str>,
    /// Whether settings that a git repository holds are written, too.
    force: bool,
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
    let asked = Asked { parts: &parts, mode, shell: arguments.shell, lead: arguments.mode, text: None, force: arguments.force };
    let Wiring { report, address, in_place, is_ours } = wire(&locations, &asked)?;
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
        if mode == Mode::Write
            && let Some(view) = commands::runtime()?.block_on(verdict::of_service(&locations))
        {
            view.closing_lines().iter().for_each(|line| output::talk(line));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The usual parts, for whoever has just written a configuration.
pub(crate) fn usual(locations: &Locations, mode: Mode) -> Result<Report, CliError> {
    wire(locations, &Asked { parts: &USUAL, mode, shell: None, lead: None, text: None, force: false }).map(|wiring| wiring.report)
}

/// What the usual parts would change once the configuration's file holds this text.
pub(crate) fn preview(locations: &Locations, text: &str) -> Result<Report, CliError> {
    let asked = Asked { parts: &USUAL, mode: Mode::DryRun, shell: None, lead: None, text: Some(text), force: false };
    wire(locations, &asked).map(|wiring| wiring.report)
}

/// What is installed, brought to the configuration as it is now; the service always.
pub(crate) fn again(locations: &Locations) -> Result<ExitCode, CliError> {
    let receipt = receipt::look(&locations.state_dir)?;
    let known: Vec<Part> = receipt.paths().flat_map(|path| receipt.wired(&path).parts().collect::<Vec<_>>()).collect();
    let parts: Vec<Part> = USUAL.into_iter().filter(|part| *part == Part::Service || known.contains(part)).collect();
    let wiring = wire(locations, &Asked { parts: &parts, mode: Mode::Write, shell: None, lead: None, text: None, force: true })?;
    output::data(&wiring.report.drawn(false, "everything is in place"))?;
    output::talk(&format!("  hotspare runs on http://{}", wiring.address));
    Ok(ExitCode::SUCCESS)
}

/// All of it, or nothing: what was written before a part failed is taken back.
fn wire(locations: &Locations, asked: &Asked<'_>) -> Result<Wiring, CliError> {
    if asked.mode == Mode::DryRun {
        return put_in(locations, asked);
    }
    let before = Before::of(locations)?;
    put_in(locations, asked).map_err(|error| before.restored(locations, error))
}

/// What was there before an `install`.
struct Before {
    files: BTreeMap<PathBuf, receipt::Wired>,
    /// Where services of this user listened.
    addresses: Vec<SocketAddr>,
}

impl Before {
    fn of(locations: &Locations) -> Result<Self, CliError> {
        let files = receipt::look(&locations.state_dir)?.all();
        Ok(Self { files, addresses: service::addresses(locations) })
    }

    /// Brings it back after this error.
    fn restored(&self, locations: &Locations, error: CliError) -> CliError {
        let Ok(mut receipt) = receipt::look(&locations.state_dir) else { return error };
        let had_units = receipt.all() != self.files;
        if had_units {
            match receipt::open(&locations.state_dir) {
                Ok(opened) => receipt = opened,
                Err(_) => return error,
            }
            for failed in wiring::revert(&mut receipt, &self.files) {
                output::talk(&CliError::from(failed).to_string());
            }
            service::forget();
        }
        service::end_all_but(locations, &self.addresses);
        error
    }
}

fn put_in(locations: &Locations, asked: &Asked<'_>) -> Result<Wiring, CliError> {
    let &Asked { parts, mode, shell, lead, text, force } = asked;
    let context = commands::context(&cli::Layers::default())?;
    let config = match text {
        Some(text) => commands::load_quietly(locations, &context.with_text(&locations.config_file, text))?,
        None => commands::load(locations, &context)?,
    };
    let address = service::address(&config)?;
    Gateway::check(&config, address).map_err(|error| CliError::new(Exit::ConfigInvalid, error.to_string()))?;
    let has = |part: Part| parts.contains(&part);
    let mut receipt = receipt::look(&locations.state_dir)?;
    wiring::assume(&mut receipt, locations);
    let is_full = is_full(lead, &config, wiring::led(&receipt, locations))?;
    if has(Part::Claude) {
        refuse_managed(&locations.claude_managed, address, is_full)?;
    }
    let mut notes = Vec::new();
    if has(Part::Claude) || has(Part::Statusline) {
        notes.extend(in_repository(&receipt, &locations.claude_settings, force)?);
    }
    let own = own_outward(&receipt, locations)?;
    let certificates = is_full.then(|| authority::trusted_file(&locations.state_dir, own.certificates.as_deref()));
    // A dry run makes nothing, a token neither, and nor does what is refused.
    let token = state::known_token(&locations.state_dir);
    let mut wanted =
        Wanted { locations, config: &config, address, token, program: wiring::program()?, parts: parts.to_vec(), certificates };
    // What would be refused is refused before the first byte is written.
    let (planned, _) = wanted.files(&mut receipt, Mode::DryRun, shell)?;
    let changes_settings = planned.iter().any(|outcome| outcome.changed && outcome.path == locations.claude_settings);
    let sessions = if changes_settings && has(Part::Claude) { processes::sessions(&locations.claude_settings) } else { Vec::new() };
    if let Some(words) = processes::about_sessions(&sessions) {
        // Said before the change: with some logins an open session then sends nothing.
        output::talk(&format!("hotspare: {words}"));
    }
    let mut is_stale = false;
    let going = if has(Part::Claude) { Some(wanted.destinations(&receipt)?) } else { None };
    notes.extend(going.iter().flat_map(|going| going.notes(locations)));
    let ran = service::is_running(locations, address);
    if mode == Mode::Write {
        wanted.token = state::lasting_token(&locations.state_dir)?;
        receipt = receipt::open(&locations.state_dir)?;
        if let Some(going) = &going {
            is_stale = going.record().write(&locations.state_dir)?;
        }
        if is_full && has(Part::Claude) {
            is_stale |= own.keep(&locations.state_dir)?;
            notes.extend(trust(locations, &own)?);
        }
    }
    let mut outcomes = Vec::new();
    if has(Part::Service) {
        keep_client(locations, mode);
        outcomes = service::write_units(&mut receipt, locations, address, mode)?;
        if mode == Mode::Write {
            notes.extend(service_note(service::enable(locations, address)?, address));
        }
    }
    if is_stale && ran {
        notes.extend(service::renew(locations, address)?);
    }
    let listener = probe(&locations.state_dir, address, LISTENER_TIME);
    if mode == Mode::Write && (has(Part::Claude) || has(Part::Shell)) {
        require_listener(listener.as_ref().copied().map_err(|error| CliError::new(Exit::Failed, error.to_string()))?, address)?;
    }
    let is_ours = listener.is_ok_and(|listener| listener == Listener::Ours);
    let is_provable = is_full && has(Part::Claude) && is_ours;
    let mut unproven = if is_provable { wanted.prove().err() } else { None };
    if mode == Mode::Write
        && let Some(error) = unproven.take()
    {
        wiring::forget_outward(&receipt, locations)?;
        return Err(error);
    }
    let (files, more) = wanted.files(&mut receipt, mode, shell)?;
    outcomes.extend(files);
    notes.extend(more);
    if mode == Mode::Write {
        wiring::forget_outward(&receipt, locations)?;
        if has(Part::Service) || has(Part::Claude) {
            notes.extend(service::retire_others(locations, address));
        }
    }
    let mut in_place = outcomes.iter().all(|outcome| !outcome.changed);
    if let Some(error) = unproven.filter(|_| in_place) {
        notes.push(error.message().to_owned());
        in_place = false;
    }
    Ok(Wiring { report: Report::of(locations, &outcomes, notes), address, in_place, is_ours })
}

/// Where the client goes without hotspare.
struct Destinations {
    /// By its settings, an editor or the environment.
    own: Option<BaseUrl>,
    /// By editors and shell files.
    named: Vec<Named>,
}

impl Destinations {
    fn record(&self) -> Record {
        Record::of(self.own.as_ref(), &self.named)
    }

    /// What becomes of the shell's aliases and functions, whose URL the settings outrank.
    fn notes(&self, locations: &Locations) -> Vec<String> {
        let own = self.own.clone().unwrap_or_else(BaseUrl::anthropic);
        let differs = |named: &&Named| !named.is_exported && (named.url.host != own.host || named.url.port != own.port);
        let note = |named: &Named| {
            let credential =
                if named.has_credential() { "its credential is sent to no other host" } else { "no credential stands beside it" };
            format!(
                "{} starts Claude Code with `{BASE_URL}={}`; the settings outrank that, so it goes through hotspare; {credential}. \
                 As before: `claude --settings '{{\"env\":{{\"{BASE_URL}\":\"{}\",\"{CUSTOM_HEADERS}\":\"\"}}}}'`",
                named.place(locations),
                named.url,
                named.url
            )
        };
        self.named.iter().filter(differs).map(note).collect()
    }
}

/// Settings that a git repository holds would bring this machine's address to every other one: without hotspare there, Claude Code waits 187 s
/// for it (measured, 2.1.332). Claude Code reads no machine-local settings of the user beside this file.
fn in_repository(receipt: &Open, settings: &Path, force: bool) -> Result<Option<String>, CliError> {
    let Some(root) = wiring::repository::holding(settings) else { return Ok(None) };
    let root = root.display();
    if force || !receipt.wired(settings).states.is_empty() {
        return Ok(Some(format!(
            "the git repository {root} holds these settings: commit none of hotspare's lines, or Claude Code hangs on machines without it"
        )));
    }
    let words =
        format!("`{}` belongs to the git repository {root}: a commit would point other machines at this one's port", settings.display());
    Err(CliError::new(Exit::Failed, words)
        .hint("for this machine alone: `hotspare install service shell` (its lines do nothing where hotspare is missing)")
        .hint("or one session at a time: `hotspare run -- claude`")
        .hint("write it there nevertheless: `hotspare install --force`"))
}

/// Records where Claude Code is. Without it a service looks in the usual places alone.
fn keep_client(locations: &Locations, mode: Mode) {
    let client = ClaudeClient::default();
    if let Some(program) = client.place().filter(|_| mode == Mode::Write) {
        let _ = state::keep_client(&locations.state_dir, program);
    }
}

/// Whether the client shall be led by its proxy: by the user's word, else the configuration's, else as it is led already.
fn is_full(asked: Option<cli::Mode>, config: &Config, led: Option<Led>) -> Result<bool, CliError> {
    use hotspare_config::Mode::{Auto, Base, Full};
    match (asked, config.server.mode) {
        (Some(cli::Mode::Full), Base) => {
            Err(CliError::new(Exit::ConfigInvalid, "`server.mode` is `base`: hotspare's port is no proxy then")
                .hint("allow it: `hotspare config set server.mode auto`, then `hotspare service restart`"))
        }
        (Some(cli::Mode::Full), Auto | Full) | (None, Full) => Ok(true),
        (Some(cli::Mode::Base | cli::Mode::Auto), _) | (None, Base) => Ok(false),
        (None, Auto) => Ok(matches!(led, Some(Led::Full(_)))),
    }
}

/// How Claude Code's requests would leave this machine without us.
fn own_outward(receipt: &Open, locations: &Locations) -> Result<Outward, CliError> {
    let path = &locations.claude_settings;
    let text = wiring::read(path).map_err(|source| WiringError::Io { path: path.clone(), source })?.unwrap_or_default();
    let pristine = patch::pristine(path, &text, &receipt.wired(path).states).map_err(WiringError::Text)?;
    Ok(claude::setup(&settings(path, &pristine.text)?, &locations.state_dir).outward())
}

/// Makes what the client trusts in full mode, before it needs that.
fn trust(locations: &Locations, own: &Outward) -> Result<Option<String>, CliError> {
    let (_, unreadable) = authority::trusted(&locations.state_dir, own.certificates.as_deref())?;
    let file = own.certificates.as_deref().unwrap_or(Path::new("")).display().to_string();
    Ok(unreadable.map(|error| format!("`NODE_EXTRA_CA_CERTS={file}` is left out of what Claude Code trusts: {error}")))
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
fn refuse_managed(managed: &Path, address: SocketAddr, is_full: bool) -> Result<(), CliError> {
    let Ok(text) = fs::read_to_string(managed) else { return Ok(()) };
    let Ok(settings) = Settings::parse(managed, &text) else { return Ok(()) };
    let text_at = |name: &str| settings.json(&["env", name]).and_then(|value| value.as_str().map(str::to_owned));
    let foreign = |name: &&str| text_at(name).is_some_and(|url| !url.is_empty() && our_proxy(&url) != Some(address));
    if let Some(name) = HTTPS_PROXY.into_iter().chain([BASE_URL]).find(foreign).filter(|_| is_full) {
        let words = format!(
            "`{}` sets `{name}`: your administrator's settings outrank yours, so full mode would have no effect",
            managed.display()
        );
        return Err(CliError::new(Exit::Failed, words).hint("by base URL: `hotspare install --mode base`"));
    }
    match text_at(BASE_URL).as_deref() {
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
            receipt.assume(path, claude::recognised(path, &text, &self.locations.state_dir));
            outcomes.push(wiring::rewire(receipt, path, mode, |base, undone| self.of_claude(base, undone, &mut notes))?);
            notes.extend(self.doubts(path));
        }
        if has(Part::Claude) {
            for path in vscode::settings_files(&self.locations.home) {
                let env = self.env(&claude::setup(&settings(&path, "")?, &self.locations.state_dir));
                // By base URL the rest has no effect on where it goes.
                let most = if self.certificates.is_some() { env.len() } else { 2 };
                let changes = vscode::changes(env.into_iter().take(most));
                outcomes.push(wiring::rewire(receipt, &path, mode, |_, _| Ok(changes))?);
                notes.extend(self.readable_by_others(&path));
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

    fn lead(&self) -> Lead<'_> {
        self.certificates.as_deref().map_or(Lead::Base, Lead::Full)
    }

    /// The variables of the mode.
    fn env(&self, setup: &UserSetup) -> Vec<(&'static str, String)> {
        setup.lasting_env(self.address, self.token.expose_secret(), self.lead())
    }

    /// Whether a client gets through that trusts what ours will trust.
    fn prove(&self) -> Result<(), CliError> {
        let file = self.certificates.as_deref().unwrap_or(Path::new(""));
        let proven = authority::proven(self.address, self.token.expose_secret(), file);
        commands::runtime()?.block_on(proven).map_err(|why| {
            CliError::new(Exit::Failed, format!("full mode does not work on {}: {why}", self.address))
                .hint("a service of another version or mode: `hotspare service restart`")
                .hint("by base URL instead: `hotspare install --mode base`")
        })
    }

    fn of_claude(&self, base: &str, undone: &[Entry], notes: &mut Vec<String>) -> Result<Vec<Change>, CliError> {
        let settings = settings(&self.locations.claude_settings, base)?;
        let has = |part: Part| self.parts.contains(&part);
        let kept = |part: Part| undone.iter().filter(move |entry| entry.part == part).map(Entry::to_change);
        let mut changes = Vec::new();
        if has(Part::Claude) {
            let setup = claude::setup(&settings, &self.locations.state_dir);
            match self.lead() {
                Lead::Base => self.refuse_gateway(&setup)?,
                Lead::Full(_) => Self::refuse_any_gateway(&setup)?,
            }
            if let Some(switch) = setup.bypass() {
                notes.push(format!("`{switch}` is set, so Claude Code goes to that cloud and past hotspare; unset it to be protected"));
            }
            changes.extend(claude::env_changes(self.env(&setup)));
            changes.extend(claude::hook_changes(&self.program, self.lead()));
        } else {
            changes.extend(kept(Part::Claude));
        }
        if has(Part::Statusline) {
            match claude::statusline_changes(&settings, &self.program) {
                Some(ours) => changes.extend(ours),
                None => notes.push("your status line is no command, so it stays as it is, without hotspare's segment".to_owned()),
            }
        } else {
            changes.extend(kept(Part::Statusline));
        }
        Ok(changes)
    }

    /// Full mode stands for the provider itself, and for no gateway.
    fn refuse_any_gateway(setup: &UserSetup) -> Result<(), CliError> {
        let Some(existing) = setup.gateway() else { return Ok(()) };
        let words = format!("Claude Code goes to `{existing}` today, and full mode stands for api.anthropic.com alone");
        Err(CliError::new(Exit::Failed, words)
            .hint("by base URL, with that gateway as a profile: `hotspare install --mode base`")
            .hint(format!("or take `{BASE_URL}` out of where it is set")))
    }

    /// Where the client goes without hotspare. Fails if the first profile is elsewhere.
    fn destinations(&self, receipt: &Open) -> Result<Destinations, CliError> {
        let path = &self.locations.claude_settings;
        let text = wiring::read(path).map_err(|source| WiringError::Io { path: path.clone(), source })?.unwrap_or_default();
        let pristine = patch::pristine(path, &text, &receipt.wired(path).states).map_err(WiringError::Text)?;
        let setup = claude::setup(&settings(path, &pristine.text)?, &self.locations.state_dir);
        let ours = |url: &BaseUrl| url.points_at(self.address);
        let mut own = setup.existing_base_url().and_then(|url| BaseUrl::parse(url).ok()).filter(|url| !ours(url));
        let mut named = destination::in_editors(self.locations, receipt);
        named.extend(destination::in_shell_files(&self.locations.home, &|name| std::env::var(name).ok()));
        named.retain(|named| !ours(&named.url));
        // The settings outrank whatever an editor or a shell gives the process.
        if !setup.names_in_settings(BASE_URL) {
            for named in named.iter().filter(|named| named.is_exported) {
                if own.as_ref() == Some(&named.url) {
                    continue;
                }
                self.refuse_second(named, own.as_ref())?;
                own = Some(named.url.clone());
            }
        }
        Ok(Destinations { own, named })
    }

    /// Fails unless a URL that an editor or a start file of a shell gives the client is where the first profile is, and where its other
    /// sessions go.
    fn refuse_second(&self, named: &Named, own: Option<&BaseUrl>) -> Result<(), CliError> {
        let place = named.place(self.locations);
        if named.url.is_anthropic() && own.is_none() {
            return Ok(());
        }
        let is_elsewhere = |own: &BaseUrl| own.host != named.url.host || own.port != named.url.port;
        if let Some(own) = own.filter(|own| is_elsewhere(own)) {
            let message = format!(
                "Claude Code goes to `{own}` today, and to `{}` where {place} counts: hotspare can stand for one of them",
                named.url
            );
            return Err(CliError::new(Exit::Failed, message).hint(format!("take `{BASE_URL}` out of one, and the credential beside it")));
        }
        self.is_configured_for(&named.url, &place)
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
        self.is_configured_for(&url, &destination::place_of(setup, self.locations))
    }

    /// Fails unless the first profile is at this URL.
    fn is_configured_for(&self, url: &BaseUrl, place: &str) -> Result<(), CliError> {
        // Without a configuration the one profile is at a gateway only because the settings name it, which they then no longer do.
        if self.config.implicit && !url.is_anthropic() {
            return Err(CliError::new(Exit::Failed, format!("Claude Code goes to `{url}` today ({place}), and no profile of yours does"))
                .hint("`hotspare init` makes it the first profile")
                .hint(format!(
                    r#"or add it: `hotspare config set profiles.gateway '{{"base_url":"{url}","auth":"client"}}'`, and name it in the policy"#
                )));
        }
        destination::refuse_elsewhere(self.config, url, place)
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
        notes.extend(self.readable_by_others(path));
        notes
    }

    /// The local token is in it.
    fn readable_by_others(&self, path: &Path) -> Option<String> {
        let is_open = is_open_to_others(path) && self.parts.contains(&Part::Claude);
        let path = path.display();
        is_open.then(|| format!("{path} holds the local token and can be read by other users of this machine: `chmod 600 {path}`"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_s_address_has_the_last_word() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, address) = (folder.path().join("managed-settings.json"), "127.0.0.1:4117".parse().expect("an address"));
        assert!(refuse_managed(&file, address, false).is_ok(), "there is none");
        for (text, refused) in [
            (r#"{ "env": { "ANTHROPIC_BASE_URL": "https://gateway.example" } }"#, true),
            (r#"{ "env": { "ANTHROPIC_BASE_URL": "http://127.0.0.1:4117" } }"#, false),
            (r#"{ "permissions": {} }"#, false),
        ] {
            fs::write(&file, text).expect("written");
            let outcome = refuse_managed(&file, address, false);
            assert_eq!(outcome.is_err(), refused, "{text}");
            if let Err(error) = outcome {
                let told = error.to_string();
                assert!(told.contains("https://gateway.example") && told.contains("hint: ask your administrator"), "{told}");
            }
        }
    }
}
