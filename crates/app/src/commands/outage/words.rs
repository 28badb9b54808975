//! Says a verdict in words, and what to do about it. Never decides it.

use hotspare_core::blame::{Cause, Reach};

use super::gather::{Gathered, HeldSpare};
use crate::words;

/// Whom and what the sentence is about.
pub(super) struct Subject {
    profile: String,
    host: String,
    issuer: Option<String>,
    skew_s: i64,
    /// How the first host failed.
    reach: Reach,
    spares: Vec<String>,
    held: Vec<HeldSpare>,
    page: String,
}

impl Subject {
    pub(super) fn of(gathered: &Gathered) -> Self {
        let seen = &gathered.seen;
        let first = seen.hosts.iter().find(|host| !host.profiles.is_empty());
        Self {
            profile: seen.traffic.first().map_or_else(|| "the first profile".to_owned(), |traffic| traffic.profile.clone()),
            host: first.map_or_else(|| "the provider".to_owned(), |host| host.host.clone()),
            issuer: seen.hosts.iter().filter(|host| host.public == Some(false)).find_map(|host| host.issuer.clone()),
            skew_s: seen.skew_s.unwrap_or_default(),
            reach: first.map_or(Reach::Answered, |host| host.reach),
            spares: gathered.spares.clone(),
            held: gathered.held.clone(),
            page: gathered.page.url.clone(),
        }
    }

    /// What the failure of the first profile means for requests now.
    fn spare_advice(&self) -> String {
        let mut names: Vec<&str> = self.spares.iter().map(String::as_str).collect();
        match (names.pop(), self.held.is_empty()) {
            (Some(last), _) if names.is_empty() => format!("requests go to {last} meanwhile; `hotspare status` shows it"),
            (Some(last), _) => format!("requests go to {} or {last} meanwhile; `hotspare status` shows where", names.join(", ")),
            (None, true) => "no spare is configured: `hotspare init` finds one".to_owned(),
            (None, false) => "no request is answered now: no spare can stand in (below, with what ends it)".to_owned(),
        }
    }

    fn skew(&self) -> String {
        let way = if self.skew_s < 0 { "behind" } else { "ahead" };
        format!("{} {way}", words::span(self.skew_s.unsigned_abs()))
    }

    fn issuer(&self) -> String {
        self.issuer.clone().unwrap_or_else(|| "somebody who is not named".to_owned())
    }
}

/// The verdict in one sentence, with what it means for requests where it means that none is answered.
pub(super) fn sentence(cause: Cause, is_total: bool, about: &Subject) -> String {
    let cause = cause_words(cause, about);
    if is_total { format!("{cause}, and no spare can stand in") } else { cause }
}

fn cause_words(cause: Cause, about: &Subject) -> String {
    let (profile, host) = (&about.profile, &about.host);
    match cause {
        Cause::AllWell => "nothing is wrong that can be seen from here".to_owned(),
        Cause::Dns => "this machine cannot look names up".to_owned(),
        Cause::NoNetwork => "this machine reaches nobody".to_owned(),
        Cause::Portal => "this network wants a login first".to_owned(),
        Cause::Interception => format!("TLS to {host} is opened on the way, by {}", about.issuer()),
        Cause::Clock => format!("this machine's clock is {}", about.skew()),
        Cause::Blocked => format!("the way to {host} is closed on this side ({}); others are reached", how(about.reach)),
        Cause::LocalServer => format!("the server of {profile} on this machine does not answer ({})", how(about.reach)),
        Cause::FlakyNetwork => "connections break, whoever is asked".to_owned(),
        Cause::Descriptors => "this machine has no file descriptors left for connections".to_owned(),
        Cause::SetUp => format!("the credential of {profile} cannot be had on this machine"),
        Cause::Request => format!("{profile} is well and refuses the requests themselves"),
        Cause::Unreachable => format!("{host} cannot be reached ({}), and others can", how(about.reach)),
        Cause::Errors => format!("{profile} answers with errors"),
        Cause::Overloaded => format!("{profile} is overloaded"),
        Cause::Silent => format!("{profile} takes requests and does not answer them"),
        Cause::Certificate => format!("the certificate of {host} is not valid"),
        Cause::LoginOutage => format!("the provider of {profile} cannot check logins"),
        Cause::PageSays => format!("the provider of {profile} says that it has an outage"),
        Cause::Limit => format!("a usage or rate limit of {profile} is reached"),
        Cause::Billing => format!("{profile} is out of credit, or at its spend cap"),
        Cause::Login => format!("{profile} refuses the login or key"),
        Cause::Forbidden => format!("{profile} does not let this account in"),
    }
}

fn how(reach: Reach) -> &'static str {
    match reach {
        Reach::Answered => "it answers",
        Reach::Dns => "its name is not known",
        Reach::Refused => "nobody listens there",
        Reach::Unreachable => "no route",
        Reach::ConnectTimeout => "no answer",
        Reach::TlsFailed => "TLS breaks",
        Reach::BadCertificate => "its certificate is refused",
        Reach::NoAnswer => "connected, then silence",
    }
}

/// What to do, most useful first.
pub(super) fn advice(cause: Cause, about: &Subject) -> Vec<String> {
    let profile = &about.profile;
    let spare = about.spare_advice();
    let watch = format!("what the provider says: {}", page_for_people(&about.page));
    let own = |text: &str| vec![text.to_owned()];
    match cause {
        Cause::AllWell => own("if an answer failed all the same: `hotspare why last`"),
        Cause::Dns => own("look at the resolver or VPN; then `hotspare outage` again"),
        Cause::NoNetwork => own("look at the network, VPN or proxy; hotspare tries again by itself"),
        Cause::Portal => own("open any web page in a browser and log in to the network"),
        Cause::Interception => vec![
            "if your company or antivirus does this on purpose: give its authority in `NODE_EXTRA_CA_CERTS`, which Claude Code reads too"
                .to_owned(),
            "if not: do not use this network; hotspare sends nothing through it".to_owned(),
        ],
        Cause::Clock => own("set the clock: `timedatectl set-ntp true`, or the system's date settings"),
        Cause::Blocked => vec!["look at the firewall, VPN and DNS filter of this machine and network".to_owned(), spare, watch],
        Cause::LocalServer => vec![format!("start the server that `{profile}` names in `base_url`"), spare],
        Cause::FlakyNetwork => own("look at the wireless, VPN or proxy: long answers are cut whoever sends them"),
        Cause::Descriptors => vec!["close what holds many files or connections open, or raise the limit: `ulimit -n`".to_owned()],
        Cause::SetUp => vec![format!("set it: `hotspare profile show {profile}` names where it is looked for"), spare],
        Cause::Request => own("`hotspare why last` shows what was refused"),
        Cause::Unreachable | Cause::Errors | Cause::Overloaded | Cause::Silent | Cause::PageSays => vec![spare, watch],
        Cause::Certificate => vec![spare, watch, "nothing is sent there until it is valid again".to_owned()],
        Cause::LoginOutage => vec!["a login that works already goes on; do not log out".to_owned(), spare, watch],
        Cause::Limit => vec![spare, "when it resets: `hotspare status`".to_owned()],
        Cause::Billing => vec![spare, format!("add credit or raise the cap, then `hotspare reset {profile}`")],
        Cause::Login => vec!["log in again (`claude`, then `/login`), or renew the key; hotspare notices by itself".to_owned(), spare],
        Cause::Forbidden => vec![format!("ask whoever runs the account; then `hotspare reset {profile}`"), spare],
    }
}

/// `status.claude.com` of its JSON's address.
fn page_for_people(url: &str) -> &str {
    url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(url)
}
