//! Decides what a project's file may do before the user trusts it: choose among the user's profiles, drop some, switch failover off, lower
//! a limit. Never lets an address, a credential, a hook, a model or the listener through (security.md T18).
//!
//! The rule is a list of what passes; what is not on it stays out, also when it comes with a later version. What passes is judged like
//! any other configuration afterwards: a value of a wrong kind is left for that.

use std::time::Duration;

use hotspare_core::policy::{Clocks, MAX_HOPS};
use hotspare_core::{Failure, FailureKind, Stage, Triggers};

use crate::codes;
use crate::policy;
use crate::reader::{Field, Findings, nearest};
use crate::tree::{Member, Node, Value};
use crate::trust::Trusted;
use crate::units::parse_duration;

/// Shortest clocks that an untrusted file may set: shorter ones would send requests to a spare, which may cost money, for no reason.
const SHORTEST: Clocks = Clocks {
    connect: Duration::from_secs(1),
    tls: Duration::from_secs(2),
    head: Duration::from_secs(15),
    first_content: Duration::from_secs(30),
    bytes_idle: Duration::from_secs(30),
    content_idle: Duration::from_secs(60),
};

/// The policy's keys that an untrusted file may set at all.
const POLICY_KEYS: [&str; 7] = ["enabled", "primary_profile", "secondary_profile", "chains", "max_failover_attempts", "clocks", "triggers"];

/// What is left of a project's tree; what it may not set is said as warnings.
pub(crate) fn narrow(node: Node, below: Option<&Node>, trusted: Trusted, findings: &mut Findings) -> Node {
    if trusted == Trusted::Yes {
        return node;
    }
    Narrow { below, trusted, findings }.root(node)
}

struct Narrow<'a> {
    below: Option<&'a Node>,
    trusted: Trusted,
    findings: &'a mut Findings,
}

impl<'a> Narrow<'a> {
    fn root(&mut self, node: Node) -> Node {
        object(node, |member| match member.name.as_str() {
            "$schema" => Some(member),
            "failover_policy" => Some(Member { node: self.policy(member.node), ..member }),
            // Anything else would stand in place of all the user's.
            "profiles" if matches!(member.node.value, Value::Object(_)) => Some(Member { node: self.profiles(member.node), ..member }),
            _ => self.refuse(&member, "", &[]),
        })
    }

    fn policy(&mut self, node: Node) -> Node {
        const PATH: &str = "failover_policy";
        object(node, |member| {
            let passes = match member.key() {
                "enabled" => !is(&member.node, true) || self.below_policy("enabled").is_none_or(|below| is(below, true)),
                "primary_profile" | "secondary_profile" => true,
                // The user's own chains may be there to keep a folder or a model to some profiles: they are asked first.
                "chains" => names_profiles_alone(&member.node) && (member.name != "chains" || !self.has_chains()),
                "max_failover_attempts" => self.lowers_attempts(&member.node),
                "triggers" => member.name == "triggers" && self.fires_less(&member),
                "clocks" => return Some(Member { node: self.clocks(member.node), ..member }),
                _ => false,
            };
            if passes { Some(member) } else { self.refuse(&member, PATH, &POLICY_KEYS) }
        })
    }

    fn clocks(&mut self, node: Node) -> Node {
        const PATH: &str = "failover_policy.clocks";
        object(node, |member| {
            let limits = clock(&SHORTEST, &member.name).zip(clock(&Clocks::default(), &member.name));
            // That no clock has this name is said by whoever reads it.
            let Some((shortest, usual)) = limits else { return Some(member) };
            let below = self.below_policy("clocks").and_then(|clocks| clocks.member(&member.name));
            let longest = below.and_then(|below| duration(&below.node)).unwrap_or(usual);
            match duration(&member.node) {
                Some(wanted) if !(shortest.min(longest)..=longest).contains(&wanted) => self.refuse(&member, PATH, &[]),
                _ => Some(member),
            }
        })
    }

    /// `null` drops a profile; of one that exists a budget may be lowered. Nothing may make a new one, not even `{}`.
    fn profiles(&mut self, node: Node) -> Node {
        object(node, |member| {
            if matches!(member.node.value, Value::Null) {
                return Some(member);
            }
            let name = member.name.clone();
            let known = self.below.and_then(|root| root.member("profiles")?.node.member(&name)).map(|profile| &profile.node);
            let path = format!("profiles.{}", member.name_at.quote());
            let Some(known) = known.filter(|_| matches!(member.node.value, Value::Object(_))) else {
                return self.refuse(&member, "profiles", &[]);
            };
            let Member { name, name_at, node } = member;
            let node = object(node, |member| {
                let lowers = member.name == "budget" && lowers_budget(&member.node, known.member("budget").map(|budget| &budget.node));
                // A login that is not renewed is one profile less: the project may drop the profile as well.
                let narrows = lowers || member.name == "renew" && is(&member.node, false);
                if narrows { Some(member) } else { self.refuse(&member, &path, &[]) }
            });
            let is_empty = matches!(&node.value, Value::Object(members) if members.is_empty());
            (!is_empty).then_some(Member { name, name_at, node })
        })
    }

    fn refuse(&mut self, member: &Member, parent: &str, allowed: &[&str]) -> Option<Member> {
        let path = Field::member(parent, member).path;
        let title = format!("`{path}` has no effect: the project's file is not trusted");
        let warning = self.findings.warning(codes::NOT_TRUSTED, &member.name_at, title, "needs your trust");
        match nearest(&member.name, allowed.iter().copied()).filter(|meant| *meant != member.name) {
            Some(meant) => warning.help(format!("did you mean `{meant}`?")),
            None => warning.help("read the file, then run `hotspare trust` in this folder"),
        };
        if self.trusted == Trusted::Changed {
            warning.note("it has changed since you trusted it");
        }
        warning.note("untrusted, a file may choose among your profiles, drop some (`null`), switch failover off and lower limits");
        None
    }

    fn below_policy(&self, key: &str) -> Option<&'a Node> {
        self.below?.member("failover_policy")?.node.member(key).map(|member| &member.node)
    }

    fn has_chains(&self) -> bool {
        self.below_policy("chains").is_some_and(|chains| !matches!(&chains.value, Value::List(chains) if chains.is_empty()))
    }

    fn lowers_attempts(&self, wanted: &Node) -> bool {
        let most = self.below_policy("max_failover_attempts").and_then(number).unwrap_or(MOST_HOPS);
        number(wanted).is_none_or(|wanted| wanted <= most)
    }

    /// Whether every failure that starts a failover with these triggers starts one without them.
    fn fires_less(&self, wanted: &Member) -> bool {
        let mut faults = Findings::default();
        let wanted = policy::triggers(&Field::member("failover_policy", wanted), &mut faults);
        let below = match self.below_policy("triggers") {
            Some(node) => policy::triggers(&Field::root(node), &mut faults).unwrap_or_else(Triggers::none),
            None => Triggers::default(),
        };
        // What is no list of triggers is left for the reader.
        wanted.filter(|_| faults.errors.is_empty()).is_none_or(|wanted| covers(&below, &wanted))
    }
}

const MOST_HOPS: f64 = {
    assert!(MAX_HOPS < 256, "it must fit without loss");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let most = MAX_HOPS as f64;
    most
};

/// What passes of an object; what is none is left for the reader.
fn object(node: Node, pass: impl FnMut(Member) -> Option<Member>) -> Node {
    match node.value {
        Value::Object(members) => Node { at: node.at, value: Value::Object(members.into_iter().filter_map(pass).collect()) },
        value => Node { at: node.at, value },
    }
}

fn covers(below: &Triggers, wanted: &Triggers) -> bool {
    // The kinds that triggers tell apart besides their status.
    const KINDS: [FailureKind; 6] = [
        FailureKind::ServerError,
        FailureKind::Throttled,
        FailureKind::Overloaded,
        FailureKind::Unauthorized,
        FailureKind::Billing,
        FailureKind::ModelNotFound,
    ];
    KINDS.into_iter().all(|kind| {
        (100..600).all(|status| {
            let failure = Failure::new(kind, Stage::Head, "").with_status(status);
            below.fire(&failure, true) || !wanted.fire(&failure, true)
        })
    })
}

/// Whether no entry asks a profile for another model: a weaker one is used only where the user wrote so.
fn names_profiles_alone(chains: &Node) -> bool {
    let Value::List(chains) = &chains.value else { return true };
    chains.iter().filter_map(|chain| chain.member("profiles")).all(|profiles| match &profiles.node.value {
        Value::List(entries) => entries.iter().all(|entry| !matches!(entry.value, Value::Object(_))),
        _ => true,
    })
}

fn lowers_budget(wanted: &Node, below: Option<&Node>) -> bool {
    let Value::Object(limits) = &wanted.value else { return false };
    limits.iter().all(|limit| {
        let below = below.and_then(|below| number(&below.member(&limit.name)?.node));
        number(&limit.node).is_some_and(|wanted| wanted >= 0.0 && below.is_none_or(|below| wanted <= below))
    })
}

fn is(node: &Node, wanted: bool) -> bool {
    matches!(node.value, Value::Bool(value) if value == wanted)
}

fn number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn duration(node: &Node) -> Option<Duration> {
    match &node.value {
        Value::String(text) => parse_duration(text),
        _ => None,
    }
}

fn clock(clocks: &Clocks, name: &str) -> Option<Duration> {
    Some(match name {
        "connect" => clocks.connect,
        "tls" => clocks.tls,
        "head" => clocks.head,
        "first_content" => clocks.first_content,
        "bytes_idle" => clocks.bytes_idle,
        "content_idle" => clocks.content_idle,
        _ => return None,
    })
}
