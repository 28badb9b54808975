//! Reads `hooks`: which programs and addresses are called at which moment. Never calls one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hotspare_core::policy::LONGEST_RULING;
use hotspare_core::{Gates, HookEvent, Matcher};

use crate::argv::argv;
use crate::base_url::{BaseUrl, BaseUrlError};
use crate::codes;
use crate::mask::is_env_name;
use crate::reader::{Field, Findings, Table, listed, nearest};
use crate::units;

/// How long a hook may take, unless it says otherwise.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest that a hook may take: a request waits for some of them, and its client gives up after minutes.
pub const LONGEST_HOOK_TIMEOUT: Duration = LONGEST_RULING;

/// Most hooks of one event. Each is a process, and two run at a time.
const MOST_HOOKS: usize = 16;

const EXAMPLE: &str = r#"["~/bin/may-switch"]"#;

/// One hook, for one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it is called.
    pub event: HookEvent,
    /// For which failures.
    pub matcher: Matcher,
    /// What is called.
    pub call: HookCall,
    /// It is ended after this. At most [`LONGEST_HOOK_TIMEOUT`].
    pub timeout: Duration,
}

/// What a hook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCall {
    /// A program that is run.
    Command {
        /// The program, as a whole path or a bare name, and its arguments; no shell. Never empty.
        argv: Vec<String>,
        /// Variables of our own environment that it gets besides the usual few.
        env: Vec<String>,
    },
    /// An address that is posted to: https, or http to this machine.
    Http(BaseUrl),
}

/// Which `Pre…` events have hooks.
pub(crate) fn gates(hooks: &[Hook]) -> Gates {
    let has = |event| hooks.iter().any(|hook| hook.event == event);
    Gates { retry: has(HookEvent::PreRetry), failover: has(HookEvent::PreFailover) }
}

/// Reads the section, event by event in the order of the events.
pub(crate) fn read(field: &Field<'_>, listen: SocketAddr, home: &Path, findings: &mut Findings) -> Vec<Hook> {
    let Some(mut table) = field.table(findings) else { return Vec::new() };
    let mut hooks = Vec::new();
    for event in HookEvent::ALL {
        let Some(groups) = table.take(event.word()) else { continue };
        let before = hooks.len();
        for group in groups.list(findings).unwrap_or_default() {
            hooks.extend(read_group(&group, event, listen, home, findings));
        }
        if hooks.len() - before > MOST_HOOKS {
            let title = format!("`{}` has more than {MOST_HOOKS} hooks", groups.path);
            findings.error(codes::OUT_OF_RANGE, &groups.key_at, title, "too many").help("let one program do what several of them do");
        }
    }
    table.finish(findings);
    hooks
}

fn read_group(group: &Field<'_>, event: HookEvent, listen: SocketAddr, home: &Path, findings: &mut Findings) -> Vec<Hook> {
    let Some(mut table) = group.table(findings) else { return Vec::new() };
    let matcher = match table.take("matcher") {
        None => Some(Matcher::All),
        Some(field) => matcher(&field, event, findings),
    };
    let mut hooks = Vec::new();
    match table.take("hooks") {
        None => {
            let help = r#"write what is called: `"hooks": [{ "type": "command", "command": ["~/bin/may-switch"] }]`"#;
            table.missing("hooks", help, findings);
        }
        Some(field) => {
            for entry in field.list(findings).unwrap_or_default() {
                let called = called(&entry, listen, home, findings);
                if let (Some((call, timeout)), Some(matcher)) = (called, &matcher) {
                    hooks.push(Hook { event, matcher: matcher.clone(), call, timeout });
                }
            }
        }
    }
    table.finish_with(
        |key| (key == "type" || key == "command" || key == "url").then(|| format!("put `{key}` into an entry of `hooks`")),
        findings,
    );
    hooks
}

fn matcher(field: &Field<'_>, event: HookEvent, findings: &mut Findings) -> Option<Matcher> {
    let text = field.string(findings)?;
    match Matcher::parse(text) {
        Ok(Matcher::Named(_)) if !event.has_failure() => {
            let title = format!("`{}` can never match: `{}` comes without a failure", field.path, event.word());
            findings.error(codes::IDLE_MATCHER, &field.at(), title, "names failures").help("remove the matcher");
            None
        }
        Ok(matcher) => Some(matcher),
        Err(part) => {
            let title = format!("`{}` names no failure that there is", field.path);
            let diagnostic = findings.error(codes::BAD_MATCHER, &field.at(), title, "not the name of a failure");
            match nearest(part, Matcher::names()) {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None => diagnostic
                    .help("write names with `|` between them, e.g. `\"rate_limit|overloaded\"`; without a matcher all failures count"),
            };
            diagnostic.note(format!("names are: {}", listed(&Matcher::names().collect::<Vec<_>>())));
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Command,
    Http,
}

fn called(entry: &Field<'_>, listen: SocketAddr, home: &Path, findings: &mut Findings) -> Option<(HookCall, Duration)> {
    let mut table = entry.table(findings)?;
    let timeout = match table.take("timeout") {
        None => Some(HOOK_TIMEOUT),
        Some(field) => timeout(&field, findings),
    };
    let Some(kind) = table.take("type") else {
        table.missing("type", r#"write `"type": "command"` or `"type": "http"`"#, findings);
        return None;
    };
    let call = match kind.word(&[("command", Kind::Command), ("http", Kind::Http)], &[], findings)? {
        Kind::Command => command(&mut table, home, findings),
        Kind::Http => http(&mut table, listen, findings),
    };
    table.finish_with(advice, findings);
    Some((call?, timeout?))
}

fn advice(key: &str) -> Option<String> {
    match key {
        "command" | "env" => Some(format!(r#"`{key}` goes with `"type": "command"`"#)),
        "url" => Some(r#"`url` goes with `"type": "http"`"#.to_owned()),
        _ => None,
    }
}

fn timeout(field: &Field<'_>, findings: &mut Findings) -> Option<Duration> {
    let timeout = units::duration(field, findings)?;
    if timeout <= LONGEST_HOOK_TIMEOUT {
        return Some(timeout);
    }
    let title = format!("`{}` is longer than a request can wait", field.path);
    let longest = LONGEST_HOOK_TIMEOUT.as_secs();
    findings.error(codes::BAD_DURATION, &field.at(), title, format!("at most `\"{longest}s\"`")).help("write a few seconds: `\"3s\"`");
    None
}

fn command(table: &mut Table<'_>, home: &Path, findings: &mut Findings) -> Option<HookCall> {
    let env = table.take("env").map(|field| env(&field, findings));
    let Some(field) = table.take("command") else {
        table.missing("command", format!("write the program and its arguments: `\"command\": {EXAMPLE}`"), findings);
        return None;
    };
    let argv = argv(&field, EXAMPLE, home, findings)?;
    let program = Path::new(&argv[0]);
    if !program.is_absolute() && program.components().count() > 1 {
        let title = format!("`{}` is not a whole path", field.path);
        findings
            .error(codes::BAD_PATH, &field.at(), title, "relative to what?")
            .help("start the program's path with `/` or `~/`, or write its bare name");
        return None;
    }
    Some(HookCall::Command { argv, env: env.unwrap_or_else(|| Some(Vec::new()))? })
}

fn env(field: &Field<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let names = field.list(findings)?.into_iter().map(|entry| {
        let name = entry.text(findings)?;
        if is_env_name(name) {
            return Some(name.to_owned());
        }
        let title = format!("`{}` cannot be the name of an environment variable", entry.path);
        findings
            .error(codes::BAD_ENV_NAME, &entry.at(), title, "not a variable's name")
            .help("write the variable's name alone: letters, digits and `_`; its value is hotspare's own");
        None
    });
    // Each fault is told, not only the first.
    names.collect::<Vec<_>>().into_iter().collect()
}

fn http(table: &mut Table<'_>, listen: SocketAddr, findings: &mut Findings) -> Option<HookCall> {
    let Some(field) = table.take("url") else {
        table.missing("url", r#"write where it is posted to: `"url": "http://127.0.0.1:9000/notify"`"#, findings);
        return None;
    };
    let url = match BaseUrl::parse(field.text(findings)?) {
        Ok(url) => url,
        Err(error) => {
            refuse(&field, error, findings);
            return None;
        }
    };
    if url.needs_allow_http() {
        let title = format!("`{}` is plain http to another machine", field.path);
        findings.error(codes::PLAIN_HTTP, &field.at(), title, "anybody on the way could answer").help("use `https://`");
    }
    if url.points_at(listen) {
        let title = format!("`{}` is hotspare's own listener", field.path);
        findings.error(codes::OWN_LISTENER, &field.at(), title, "it would tell itself").help("give the address of what is to be told");
    }
    Some(HookCall::Http(url))
}

fn refuse(field: &Field<'_>, error: BaseUrlError, findings: &mut Findings) {
    let code = if error == BaseUrlError::Denied { codes::DENIED_ADDRESS } else { codes::BAD_URL };
    let help = "write a plain address: `https://host/path`, or `http://127.0.0.1:9000/notify`";
    findings.error(code, &field.at(), format!("`{}` is not usable: {error}", field.path), "this address").help(help);
}
