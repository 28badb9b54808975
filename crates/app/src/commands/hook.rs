//! `hotspare hook test`: calls the user's hooks on a sample, as a gateway would. Never asks a provider, and never moves a request.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use hotspare_config::{Config, Hook};
use hotspare_core::hook::error_word;
use hotspare_core::record::HookWord;
use hotspare_core::{FailureKind, HookEvent, Matcher, ProfileId};
use hotspare_gateway::hooks::input::HookInput;
use hotspare_gateway::hooks::word::{Said, Verdict, said};
use hotspare_gateway::hooks::{Called, Ending, Runner, label};
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::hook::HookTest;
use crate::commands;
use crate::error::{CliError, Exit};
use crate::output::{self, DEFAULT_WIDTH, Look, Style};
use crate::words;

/// The version of the JSON's shape.
const HOOK_VERSION: u32 = 1;

/// Columns of a field's name in what a hook is told.
const FIELD_COLUMNS: usize = 15;

/// Columns of a name beside what a hook said.
const NAME_COLUMNS: usize = 8;

/// Fewest columns that words are broken to.
const LEAST_ROOM: usize = 20;

/// Most characters of what a hook printed that are shown.
const SHOWN: usize = 2000;

/// What `hook test --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HookReport {
    /// The shape's version.
    version: u32,
    /// What each hook was told.
    input: HookInput,
    /// The hooks of the event, in order.
    hooks: Vec<HookRun>,
    /// What all of them together mean for the request: `allow`, `block` or `use`; none: no request waits for this event.
    decision: Option<HookWord>,
    /// The profile that is asked instead.
    profile: Option<String>,
}

/// One hook.
#[derive(Debug, Serialize, JsonSchema)]
struct HookRun {
    /// Its program, or where it is posted to.
    hook: String,
    /// Whether it was called: its matcher fits.
    called: bool,
    /// How it ended; none: it was not called, or could not be.
    ending: Option<String>,
    /// How long it took, in milliseconds.
    took_ms: Option<u64>,
    /// What it printed or answered; at most 2000 characters.
    output: Option<String>,
    /// What it printed to standard error; at most 2000 characters.
    errors: Option<String>,
    /// What it said.
    word: Option<HookWord>,
    /// The profile that it named.
    profile: Option<String>,
    /// Why, in its own words; where it said nothing that counts, what was wrong.
    reason: Option<String>,
}

/// Runs `hotspare hook`.
pub(crate) fn test(arguments: &HookTest) -> Result<ExitCode, CliError> {
    let locations = commands::locations(arguments.layers.config.clone())?;
    let config = commands::load(&locations, &commands::context(&arguments.layers)?)?;
    let event = arguments.event;
    let hooks: Vec<&Hook> = config.hooks.iter().filter(|hook| hook.event == event).collect();
    if hooks.is_empty() {
        let told = format!("no hook is configured for {}", event.word());
        return Err(
            CliError::new(Exit::Failed, told).hint("`docs/hooks.md` has examples; `hotspare config explain hooks` says what there is")
        );
    }
    let input = sample(event, failure(&arguments.error)?, &config);
    let (report, all_spoke) = commands::runtime()?.block_on(report(&hooks, input));
    if arguments.json {
        let text = serde_json::to_string(&report).map_err(|error| CliError::new(Exit::Failed, format!("it cannot be written: {error}")))?;
        output::data(&text)?;
    } else {
        output::data(&draw(&report, Look::of_stdout()))?;
    }
    Ok(if all_spoke { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The failure of this name, Claude Code's or ours.
fn failure(name: &str) -> Result<FailureKind, CliError> {
    let ours = FailureKind::ALL.into_iter().find(|kind| kind.word() == name);
    ours.or_else(|| FailureKind::ALL.into_iter().find(|kind| error_word(*kind) == name)).ok_or_else(|| {
        let names: Vec<&str> = Matcher::names().collect();
        CliError::new(Exit::Usage, format!("no failure is named `{name}`")).hint(format!("there are {}", names.join(", ")))
    })
}

/// A status that such a failure may come as.
fn status(kind: FailureKind) -> Option<u16> {
    match error_word(kind) {
        "rate_limit" => Some(429),
        "overloaded" => Some(529),
        "authentication_failed" => Some(401),
        "billing_error" => Some(402),
        "model_not_found" => Some(404),
        "invalid_request" => Some(400),
        "server_error" => Some(500),
        _ => None,
    }
}

/// What a gateway would tell, with the profiles of the default chain.
fn sample(event: HookEvent, kind: FailureKind, config: &Config) -> HookInput {
    let name = |id: ProfileId| config.profiles.get(usize::from(id.0)).map_or_else(String::new, |profile| profile.name.to_string());
    let mut chain: Vec<String> =
        config.rules.last().map(|rule| rule.chain.entries.iter().map(|entry| name(entry.profile)).collect()).unwrap_or_default();
    chain.dedup();
    let first = chain.first().cloned().unwrap_or_default();
    let spare = chain.get(1).cloned().unwrap_or_else(|| first.clone());
    let mut input = HookInput::new(event).with_model(Some("claude-opus-5-5"));
    input.session_id = Some("5f0c7d3e-9a51-4c0e-8d1b-2f7a33f0b6aa".to_owned());
    input.request_id = Some("hs_0000000000000000".to_owned());
    input.config = config.sources.first().map(|file| file.display().to_string());
    if event.has_failure() {
        input = input.failed(Some(kind), status(kind));
    }
    let (from, to, attempt) = match event {
        HookEvent::PreRetry => (&first, Some(&first), Some(2)),
        HookEvent::PreFailover | HookEvent::PostFailover => (&first, Some(&spare), Some(2)),
        HookEvent::Failback => (&spare, Some(&first), None),
        HookEvent::AttemptFailure | HookEvent::Exhausted => (&first, None, Some(1)),
        HookEvent::LimitWarning | HookEvent::BudgetReached | HookEvent::ProfileDown | HookEvent::ProfileUp => (&first, None, None),
    };
    input = input.between(from, to.map(String::as_str));
    input.attempt = attempt;
    input.candidates = match event {
        HookEvent::PreRetry => chain.clone(),
        HookEvent::PreFailover => chain.iter().skip(1).cloned().collect(),
        _ => Vec::new(),
    };
    input.detail = match event {
        HookEvent::LimitWarning => Some("5h window 91 % used, begins anew in 40 min".to_owned()),
        HookEvent::BudgetReached => Some("a sample".to_owned()),
        HookEvent::ProfileDown => Some("its circuit breaker is open for 15 s".to_owned()),
        _ => None,
    };
    input
}

/// Calls them one after the other, and whether each that was called had its say.
async fn report(hooks: &[&Hook], input: HookInput) -> (HookReport, bool) {
    let runner = Runner::new(Arc::new(commands::connector_here()));
    let (event, text) = (input.hook_event_name, input.bytes());
    let mut runs = Vec::new();
    let mut words: Vec<Said> = Vec::new();
    for hook in hooks {
        let mut run = HookRun::of(hook);
        if hook.matcher.fits(input.class) {
            let called = runner.call(hook, &text, None).await;
            let said = said(event, &called);
            let said = if event.rules() { said.within(&input.candidates) } else { said };
            words.push(said.clone());
            run.note(&called, said);
        }
        runs.push(run);
    }
    let all_spoke = !words.iter().any(|said| matches!(said, Said::Nothing(_)));
    let (decision, profile) = match Verdict::of(words.iter()) {
        _ if !event.rules() => (None, None),
        Verdict::Allow => (Some(HookWord::Allow), None),
        Verdict::Block => (Some(HookWord::Block), None),
        Verdict::Use(profile) => (Some(HookWord::Use), Some(profile)),
    };
    (HookReport { version: HOOK_VERSION, input, hooks: runs, decision, profile }, all_spoke)
}

impl HookRun {
    fn of(hook: &Hook) -> Self {
        Self {
            hook: label(hook),
            called: false,
            ending: None,
            took_ms: None,
            output: None,
            errors: None,
            word: None,
            profile: None,
            reason: None,
        }
    }

    fn note(&mut self, called: &Called, said: Said) {
        let text = |bytes: &[u8]| {
            let text: String = String::from_utf8_lossy(bytes).chars().take(SHOWN).collect();
            (!text.trim().is_empty()).then_some(text)
        };
        self.called = true;
        self.ending = ending_words(&called.ending);
        self.took_ms = Some(u64::try_from(called.took.as_millis()).unwrap_or(u64::MAX));
        self.output = text(&called.output);
        self.errors = text(&called.errors);
        let (word, profile, reason) = said.parts();
        (self.word, self.profile, self.reason) = (Some(word), profile, reason);
    }
}

fn ending_words(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Exited(code) => Some(format!("exit code {code}")),
        Ending::Signalled(signal) => Some(format!("signal {signal}")),
        Ending::Answered(status) => Some(format!("status {status}")),
        Ending::TimedOut => Some("timed out".to_owned()),
        Ending::Flooded => Some("too much output".to_owned()),
        // The reason says it.
        Ending::Failed(_) => None,
    }
}

fn draw(report: &HookReport, look: Look) -> String {
    let input = &report.input;
    let (arrow, dot) = (look.sign("→", "->"), look.sign(" · ", ", "));
    let between = match (&input.from, &input.to) {
        (Some(from), Some(to)) => Some(format!("{from} {arrow} {to}")),
        (from, _) => from.clone(),
    };
    let status = input.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let failure = input.error.as_ref().map(|error| format!("{error}{status}"));
    let facts: Vec<String> = [failure, between].into_iter().flatten().collect();
    let mut text = format!("{}  {}\n\n", look.paint.paint(Style::Bold, input.hook_event_name.word()), shown(&facts.join(dot), look));
    draw_input(&mut text, input, look);
    for run in &report.hooks {
        text.push('\n');
        draw_run(&mut text, run, look);
    }
    if let Some(meaning) = meaning(report) {
        let room = look.width.unwrap_or(DEFAULT_WIDTH).saturating_sub(2).max(LEAST_ROOM);
        for (place, line) in words::wrapped(&shown(&meaning, look), room).iter().enumerate() {
            let _ = write!(text, "\n{} {line}", if place == 0 { arrow.to_owned() } else { " ".repeat(arrow.chars().count()) });
        }
    }
    text.trim_end().to_owned()
}

/// Field by field, as JSON has it.
fn draw_input(text: &mut String, input: &HookInput, look: Look) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(input) else { return };
    let _ = writeln!(text, "  {}", look.paint.paint(Style::Dim, "told on standard input, as one line of JSON"));
    for (name, value) in &fields {
        row(text, look, name, FIELD_COLUMNS, &value.to_string());
    }
}

fn draw_run(text: &mut String, run: &HookRun, look: Look) {
    let hook = shown(&run.hook, look);
    let Some(word) = run.word else {
        let line = format!("{} {hook}  not called: its matcher names other failures", look.sign("○", "o"));
        let _ = writeln!(text, "{}", look.paint.paint(Style::Dim, &line));
        return;
    };
    let (style, sign, said) = match word {
        HookWord::Allow => (Style::Green, look.sign("✔", "+"), "go on".to_owned()),
        HookWord::Block => (Style::Yellow, look.sign("✖", "x"), "block".to_owned()),
        HookWord::Use => (Style::Yellow, look.sign("⇄", "~"), format!("use `{}`", run.profile.as_deref().unwrap_or_default())),
        HookWord::Nothing => (Style::Red, "!", "nothing that counts".to_owned()),
    };
    let took = words::time(run.took_ms.unwrap_or_default().saturating_mul(1000));
    let facts = [Some(said), run.ending.clone(), Some(took)];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    let _ = writeln!(text, "{} {hook}  {}", look.paint.paint(style, sign), facts.join(look.sign(" · ", ", ")));
    // What it gave as its reason need not be read twice.
    let errors = run.errors.as_ref().filter(|errors| run.reason.as_deref() != Some(errors.trim()));
    for (name, words) in [("why", run.reason.as_ref()), ("printed", run.output.as_ref()), ("stderr", errors)] {
        for line in words.into_iter().flat_map(|words| words.trim_end().lines()) {
            row(text, look, name, NAME_COLUMNS, line);
        }
    }
}

/// A name and what stands beside it.
fn row(text: &mut String, look: Look, name: &str, columns: usize, words: &str) {
    let room = look.width.unwrap_or(DEFAULT_WIDTH).saturating_sub(columns + 3).max(LEAST_ROOM);
    for (place, line) in words::wrapped(&shown(words, look), room).iter().enumerate() {
        let name = if place == 0 { name } else { "" };
        let _ = writeln!(text, "  {} {line}", look.paint.paint(Style::Dim, &words::padded(name, columns)));
    }
}

fn shown(text: &str, look: Look) -> String {
    words::fit(text, usize::MAX, look.unicode)
}

/// What it would mean for a request.
fn meaning(report: &HookReport) -> Option<String> {
    let to = report.input.to.as_deref().unwrap_or_default();
    let is_retry = report.input.hook_event_name == HookEvent::PreRetry;
    Some(match report.decision? {
        HookWord::Block if is_retry => format!("`{to}` would not be tried again"),
        HookWord::Block => format!("the request would not go to `{to}`; the next candidate would be asked for, if there is one"),
        HookWord::Use => format!("the request would go to `{}`", report.profile.as_deref().unwrap_or_default()),
        HookWord::Allow | HookWord::Nothing => format!("the request would go to `{to}`"),
    })
}
