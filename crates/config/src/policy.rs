//! Reads `failover_policy`: the pair, the triggers, the limits. Never holds a default of its own: those are the core's.

use hotspare_core::policy::{ClockOverrides, Clocks, MAX_HOPS, TriggerName};
use hotspare_core::{ChainEntry, ChainRule, Failback, FailbackAt, MidStream, OnExhausted, Policy, SlowService, Triggers};

use crate::chains::{self, Chains, chain};
use crate::codes;
use crate::compile::Setting;
use crate::profiles::{Names, example};
use crate::reader::{Field, Findings, Table, listed, nearest};
use crate::source::At;
use crate::tree::Value;
use crate::units::duration;

/// Reads the policy and its chains, the last of which matches everything. No chain at all: none was asked for.
pub(crate) fn read(field: &Field<'_>, names: &Names<'_>, setting: &Setting<'_>, findings: &mut Findings) -> Option<(Policy, Chains)> {
    let mut table = field.table(findings)?;
    let mut policy = Policy::default();
    if let Some(enabled) = table.take("enabled").and_then(|field| field.bool(findings)) {
        policy.enabled = enabled;
    }
    let primary = table.take("primary_profile");
    let secondary = table.take("secondary_profile");
    if let Some(triggers) = table.take("triggers").and_then(|field| triggers(&field, findings)) {
        policy.triggers = triggers;
    }
    let most = u64::try_from(MAX_HOPS).expect("a small number");
    if let Some(hops) = table.take("max_failover_attempts").and_then(|field| field.number(0, most, findings)) {
        policy.max_hops = usize::try_from(hops).expect("at most MAX_HOPS");
    }
    let chain_list = table.take("chains");
    if let Some(answer) = table.take("on_exhausted").and_then(|field| on_exhausted(&field, findings)) {
        policy.on_exhausted = answer;
    }
    if let Some(field) = table.take("slow_service")
        && let Some(answer) = field.word(&[("name", SlowService::Name), ("prefer", SlowService::Prefer)], &[], findings)
    {
        policy.slow_service = answer;
    }
    if let Some(field) = table.take("mid_stream")
        && let Some(ending) = field.word(&[("auto", MidStream::Auto), ("cut", MidStream::Cut)], &[], findings)
    {
        policy.mid_stream = ending;
    }
    if let Some(field) = table.take("clocks") {
        let named = clocks(&field, findings);
        policy.head_is_named = named.head.is_some();
        policy.clocks = Clocks::default().overridden(&named);
    }
    if let Some(field) = table.take("failback") {
        policy.failback = failback(&field, findings);
    }
    if let Some(hedge) = table.take("hedge").and_then(|field| field.bool(findings)) {
        policy.hedge = hedge;
    }
    let mut chains = chain_list.as_ref().map(|field| chains::read(field, names, setting, findings)).unwrap_or_default();
    let asks = primary.is_some() || chain_list.is_some();
    if names.is_empty() && !(names.any_dropped() && asks) {
        report_no_profiles(primary.as_ref(), secondary.as_ref(), chain_list.as_ref(), names, findings);
    } else if let Some(rule) = pair(&table, primary.as_ref(), secondary.as_ref(), &chains.here, names, findings) {
        chains.push_last(&rule);
    }
    table.finish(findings);
    Some((policy, chains))
}

/// What the client hears at the end; for the policy and for a chain.
pub(crate) fn on_exhausted(field: &Field<'_>, findings: &mut Findings) -> Option<OnExhausted> {
    field.word(&[("wait", OnExhausted::Wait), ("hold", OnExhausted::Hold), ("fail", OnExhausted::Fail)], &[], findings)
}

/// Good answers that may be asked for before a breaker closes.
const AFTER_GOOD: std::ops::RangeInclusive<u64> = 1..=10;

/// When a session goes home.
fn failback(field: &Field<'_>, findings: &mut Findings) -> Failback {
    let mut failback = Failback::default();
    let Some(mut table) = field.table(findings) else { return failback };
    if let Some(good) = table.take("after_good").and_then(|field| field.number(*AFTER_GOOD.start(), *AFTER_GOOD.end(), findings)) {
        failback.after_good = u32::try_from(good).expect("in a small range");
    }
    if let Some(stay) = table.take("min_stay").and_then(|field| duration(&field, findings)) {
        failback.min_stay = stay;
    }
    let words = [("cold_cache", FailbackAt::ColdCache), ("turn", FailbackAt::Turn), ("manual", FailbackAt::Manual)];
    if let Some(at) = table.take("at").and_then(|field| field.word(&words, &[], findings)) {
        failback.at = at;
    }
    table.finish(findings);
    failback
}

/// The separate time limits; for the policy and for a profile.
pub(crate) fn clocks(field: &Field<'_>, findings: &mut Findings) -> ClockOverrides {
    let Some(mut table) = field.table(findings) else { return ClockOverrides::default() };
    let mut clock = |key| table.take(key).and_then(|field| duration(&field, findings));
    let clocks = ClockOverrides {
        connect: clock("connect"),
        tls: clock("tls"),
        head: clock("head"),
        first_content: clock("first_content"),
        bytes_idle: clock("bytes_idle"),
        content_idle: clock("content_idle"),
    };
    table.finish(findings);
    clocks
}

/// Which failures start a failover.
pub(crate) fn triggers(field: &Field<'_>, findings: &mut Findings) -> Option<Triggers> {
    let mut triggers = Triggers::none();
    let mut server_status = None;
    for entry in field.list(findings)? {
        match &entry.node.value {
            Value::Number(_) => {
                if let Some(status) = status(&entry, findings) {
                    triggers.add_status(status);
                    server_status = server_status.or((status >= 500).then(|| entry.at()));
                }
            }
            Value::String(text) => word(text, &entry, &mut triggers, findings),
            _ => {
                entry.wrong_type::<()>("a status, a class such as `\"5xx\"`, or a name", findings);
            }
        }
    }
    if let Some(at) = server_status.filter(|_| !triggers.covers_overload()) {
        warn_of_missing_overload(field, &at, findings);
    }
    Some(triggers)
}

fn status(entry: &Field<'_>, findings: &mut Findings) -> Option<u16> {
    let status = u16::try_from(entry.number(100, 599, findings)?).expect("at most 599");
    // A 4xx of unknown wording gets a second opinion where its status is listed, a 400, 413 or 422 too.
    if status >= 400 {
        return Some(status);
    }
    let help = "remove it: only a status from 400 on is a failure";
    let title = format!("an ordinary {status} starts no failover, also with this trigger");
    findings.warning(codes::IDLE_TRIGGER, &entry.at(), title, "does not do what it seems to").help(help);
    Some(status)
}

/// A class or a name.
fn word(text: &str, entry: &Field<'_>, triggers: &mut Triggers, findings: &mut Findings) {
    if let Some(name) = TriggerName::ALL.into_iter().find(|name| name.word() == text) {
        triggers.add_name(name);
    } else if let Some(class) = class(text) {
        triggers.add_range(class, class + 99);
    } else {
        let names = TriggerName::ALL.map(TriggerName::word);
        let title = format!("`{}` is not a trigger", entry.at().quote());
        let diagnostic = findings.error(codes::BAD_TRIGGER, &entry.at(), title, "neither a status nor a name");
        match nearest(text, names.into_iter().chain(["4xx", "5xx"])) {
            _ if text.parse::<u16>().is_ok() => diagnostic.help("write a status without quotes"),
            Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
            None => diagnostic.help("write a status from 100 to 599, `\"4xx\"`, `\"5xx\"`, or a name"),
        };
        diagnostic.note(format!("names are: {}", listed(&names)));
    }
}

/// `4xx` and `5xx`: the first status of the class.
fn class(text: &str) -> Option<u16> {
    match text {
        "4xx" => Some(400),
        "5xx" => Some(500),
        _ => None,
    }
}

fn warn_of_missing_overload(field: &Field<'_>, at: &At, findings: &mut Findings) {
    findings
        .warning(
            codes::NO_OVERLOAD,
            at,
            format!("`{}` leaves out 529, the status of an overloaded provider", field.path),
            "529 is not covered",
        )
        .help("add `529` or `\"overloaded\"`, or write `\"5xx\"` for all of them");
}

/// The chain `default` from primary and secondary.
fn pair(
    table: &Table<'_>,
    primary: Option<&Field<'_>>,
    secondary: Option<&Field<'_>>,
    rules: &[ChainRule],
    names: &Names<'_>,
    findings: &mut Findings,
) -> Option<ChainRule> {
    let Some(primary) = primary else {
        if secondary.is_some() || !rules.iter().any(|rule| rule.model.is_none()) {
            table.missing("primary_profile", "name the profile that is asked first: `\"primary_profile\": \"…\"`", findings);
        }
        return None;
    };
    let fields: Vec<Field<'_>> = std::iter::once(primary.clone()).chain(spares(secondary, findings)).collect();
    let mut entries: Vec<ChainEntry> = Vec::new();
    for field in fields {
        let Some(profile) = names.find(&field, findings) else { continue };
        let entry = ChainEntry { profile, model: None };
        if entries.contains(&entry) {
            chains::report_twice(&field, findings);
        } else {
            entries.push(entry);
        }
    }
    Some(ChainRule { model: None, chain: chain("default", entries, None) })
}

/// One name, as in the request for this feature, or an ordered list.
fn spares<'t>(secondary: Option<&Field<'t>>, findings: &mut Findings) -> Vec<Field<'t>> {
    match secondary {
        None => Vec::new(),
        Some(field) => match &field.node.value {
            Value::String(_) => vec![field.clone()],
            Value::List(_) => field.list(findings).unwrap_or_default(),
            _ => field.wrong_type("a profile's name or a list of them", findings).unwrap_or_default(),
        },
    }
}

/// The commonest first mistake: the request's JSON alone. Said once, with the lines that are missing.
fn report_no_profiles(
    primary: Option<&Field<'_>>,
    secondary: Option<&Field<'_>>,
    chains: Option<&Field<'_>>,
    names: &Names<'_>,
    findings: &mut Findings,
) {
    let chains = chains.filter(|field| matches!(&field.node.value, Value::List(entries) if !entries.is_empty()));
    let Some(first) = primary.or(secondary).or(chains) else { return };
    let title = format!("`{}` names a profile, but no profiles are defined", first.path);
    let mut lines: Vec<String> = primary.iter().map(|field| example(&field.at().quote(), true)).collect();
    // A list in the wrong form is not reported twice.
    let spares = spares(secondary, &mut Findings::default());
    lines.extend(spares.iter().map(|field| example(&field.at().quote(), false)));
    let file = names.own_file.display();
    let diagnostic = findings.error(codes::NO_PROFILES, &first.at(), title, "which one is this?");
    if lines.is_empty() {
        diagnostic.help(format!("define the profiles under `\"profiles\"` in {file}"));
    } else {
        let lines = lines.join(",\n    ");
        diagnostic.help(format!("add to {file}:\n  \"profiles\": {{\n    {lines}\n  }}"));
    }
    diagnostic.note("`{}` is Anthropic's API with the client's own login");
}
