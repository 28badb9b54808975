//! Whose an outage is, over a matrix of what can be seen. The share of rows that name the right party is printed, and may not fall below 95 %.
//! Each row is a situation as people meet it; the party it names is what an honest operator would say who knows all of it, not what the
//! code happens to answer.

use hotspare_core::FailureKind;
use hotspare_core::blame::Party::{Account, Nobody, Provider, You};
use hotspare_core::blame::{Cause, FailureSeen, HostSeen, Level, Observations, Page, Party, Portal, Reach, Traffic, verdict};
use proptest::prelude::*;

const API: &str = "api.anthropic.com";
const OTHER: &str = "openrouter.ai";
const STATUS: &str = "status.claude.com";

fn host(name: &str, profiles: &[&str], reach: Reach) -> HostSeen {
    HostSeen {
        host: name.to_owned(),
        profiles: profiles.iter().map(|name| (*name).to_owned()).collect(),
        loopback: name == "127.0.0.1",
        reach,
        status: (reach == Reach::Answered).then_some(404),
        issuer: None,
        public: None,
    }
}

/// A pair and the status page, all of them reached.
fn well() -> Observations {
    hosts(Reach::Answered, Reach::Answered, Reach::Answered)
}

fn hosts(api: Reach, other: Reach, status: Reach) -> Observations {
    let hosts = vec![host(API, &["work"], api), host(OTHER, &["backup"], other), host(STATUS, &[], status)];
    let page = Some(if status == Reach::Answered { says(Level::Operational, Level::Operational) } else { Page::Unreachable });
    Observations { hosts, portal: Portal::Clear, skew_s: Some(0), traffic: vec![quiet("work"), quiet("backup")], page }
}

fn says(api: Level, login: Level) -> Page {
    Page::Says { api, login }
}

fn quiet(profile: &str) -> Traffic {
    Traffic { profile: profile.to_owned(), ..Traffic::default() }
}

/// It failed so a moment ago, and answered well so long ago.
fn failing(profile: &str, class: FailureKind, good_ago_s: Option<u64>) -> Traffic {
    Traffic { failures: vec![FailureSeen { class, count: 3, ago_s: 5 }], good_ago_s, ..quiet(profile) }
}

fn good(profile: &str, ago_s: u64) -> Traffic {
    Traffic { good_ago_s: Some(ago_s), ..quiet(profile) }
}

impl Row {
    fn with(mut self, change: impl FnOnce(&mut Observations)) -> Self {
        change(&mut self.seen);
        self
    }
}

struct Row {
    what: &'static str,
    party: Party,
    seen: Observations,
}

fn row(what: &'static str, party: Party, seen: Observations) -> Row {
    Row { what, party, seen }
}

/// The primary meets this, everything else is well.
fn meets(what: &'static str, party: Party, class: FailureKind) -> Row {
    row(what, party, Observations { traffic: vec![failing("work", class, Some(900)), good("backup", 3)], ..well() })
}

fn rows() -> Vec<Row> {
    use FailureKind as K;
    use Reach::{Answered, BadCertificate, ConnectTimeout, Dns, NoAnswer, Refused, TlsFailed, Unreachable};
    let issued = |seen: &mut Observations, place: usize, issuer: &str, public: bool| {
        seen.hosts[place].issuer = Some(issuer.to_owned());
        seen.hosts[place].public = Some(public);
    };
    vec![
        // This side.
        row("DNS is down", You, hosts(Dns, Dns, Dns)),
        row("DNS is down, and the page cannot be had either", You, hosts(Dns, Dns, Dns)).with(|seen| seen.page = Some(Page::Unreachable)),
        row("the cable is out", You, hosts(Unreachable, Unreachable, Unreachable)),
        row("a firewall drops everything", You, hosts(ConnectTimeout, ConnectTimeout, ConnectTimeout)),
        row("half of it fails in names, half in routes", You, hosts(Dns, Unreachable, ConnectTimeout)),
        row("the corporate proxy is gone", You, hosts(Refused, Refused, Refused)),
        row("a hotel's login page", You, hosts(TlsFailed, BadCertificate, TlsFailed)).with(|seen| seen.portal = Portal::Found),
        row("a hotel's login page that lets names and TLS pass", You, well()).with(|seen| seen.portal = Portal::Found),
        row("TLS is opened by a proxy that is not trusted here", You, hosts(BadCertificate, BadCertificate, BadCertificate))
            .with(|seen| issued(seen, 0, "Example Corp Inspection CA", false)),
        row("TLS is opened for the provider alone", You, hosts(BadCertificate, Answered, Answered))
            .with(|seen| issued(seen, 0, "Example Antivirus Root", false)),
        row("TLS is opened for the provider alone, by nobody knows whom", You, hosts(BadCertificate, Answered, Answered)),
        row("TLS is opened by a trusted proxy, and all works", Nobody, well()).with(|seen| {
            issued(seen, 0, "Example Corp Inspection CA", false);
            seen.traffic[0] = good("work", 10);
        }),
        row("TLS breaks to everybody", You, hosts(TlsFailed, TlsFailed, TlsFailed)),
        row("the clock is a year behind", You, hosts(BadCertificate, BadCertificate, BadCertificate))
            .with(|seen| seen.skew_s = Some(-31_536_000)),
        row("the clock is an hour ahead, and logins look expired", You, well()).with(|seen| {
            seen.skew_s = Some(3600);
            seen.traffic[0] = failing("work", K::Unauthorized, None);
        }),
        row("the clock is ten minutes off, and signed requests are refused", You, well()).with(|seen| {
            seen.skew_s = Some(-600);
            seen.traffic[0] = failing("work", K::Forbidden, None);
        }),
        row("the clock is ten minutes off, and nothing minds", Nobody, well()).with(|seen| {
            seen.skew_s = Some(600);
            seen.traffic[0] = good("work", 4);
        }),
        row("the clock is two minutes off, and a limit is reached", Account, well()).with(|seen| {
            seen.skew_s = Some(120);
            seen.traffic[0] = failing("work", K::QuotaExhausted, None);
        }),
        row("a name filter knows the provider alone, which never worked here", You, hosts(Dns, Answered, Answered)),
        row("a firewall drops the provider alone, which never worked here", You, hosts(ConnectTimeout, Answered, Answered)),
        row("a firewall resets TLS to the provider alone, which never worked here", You, hosts(TlsFailed, Answered, Answered)),
        row("the local model server is not started", You, well()).with(|seen| {
            seen.hosts = vec![host("127.0.0.1", &["local"], Refused), host(STATUS, &[], Answered)];
            seen.traffic = vec![failing("local", K::ConnectRefused, None)];
        }),
        row("this process has no descriptor left", You, well()).with(|seen| seen.traffic[0] = failing("work", K::OutOfDescriptors, None)),
        row("the variable with the key is not set", You, well()).with(|seen| seen.traffic[0] = failing("work", K::NoCredential, None)),
        row("the model does not exist there", You, well()).with(|seen| seen.traffic[0] = failing("work", K::ModelNotFound, None)),
        row("the request is malformed", You, well()).with(|seen| seen.traffic[0] = failing("work", K::BadRequest, Some(900))),
        row("the wireless drops every stream, whoever sends it", You, well())
            .with(|seen| seen.traffic = vec![failing("work", K::StreamDied, Some(200)), failing("backup", K::ClosedBeforeHead, Some(200))]),
        row("a proxy gives up on every long answer, whoever sends it", You, well())
            .with(|seen| seen.traffic = vec![failing("work", K::Stalled, Some(700)), failing("backup", K::Stalled, Some(700))]),
        // The provider.
        meets("529", Provider, K::Overloaded),
        meets("529, and the page says all is well", Provider, K::Overloaded)
            .with(|seen| seen.page = Some(says(Level::Operational, Level::Operational))),
        meets("529, and the page cannot be had", Provider, K::Overloaded).with(|seen| seen.page = Some(Page::Unreachable)),
        meets("529, and the page is a web page", Provider, K::Overloaded).with(|seen| seen.page = Some(Page::Wrong)),
        meets("500", Provider, K::ServerError),
        meets("503 with a page of HTML", Provider, K::BadGateway),
        meets("the head never comes", Provider, K::HeadTimeout),
        meets("streams stop half-way, at this provider alone", Provider, K::StreamDied),
        meets("streams go silent, at this provider alone", Provider, K::Stalled),
        meets("an error under a good status", Provider, K::WrongContent),
        row("everything at the provider answers 529, the spare too is overloaded", Provider, well())
            .with(|seen| seen.traffic = vec![failing("work", K::Overloaded, Some(900)), failing("backup", K::Overloaded, Some(900))]),
        row("its address is gone since a minute", Provider, hosts(ConnectTimeout, Answered, Answered))
            .with(|seen| seen.traffic[0] = failing("work", K::ConnectTimeout, Some(60))),
        row("its name is gone, and its page says so", Provider, hosts(Dns, Answered, Answered))
            .with(|seen| seen.page = Some(says(Level::Major, Level::Major))),
        row("nobody listens there any more, and its page says so", Provider, hosts(Refused, Answered, Answered))
            .with(|seen| seen.page = Some(says(Level::Major, Level::Operational))),
        row("it takes connections and never answers", Provider, hosts(NoAnswer, Answered, Answered)),
        row("its edge answers 503 to anybody", Provider, well()).with(|seen| seen.hosts[0].status = Some(503)),
        row("its certificate has run out", Provider, hosts(BadCertificate, Answered, Answered))
            .with(|seen| issued(seen, 0, "Let's Encrypt", true)),
        row("logins fail, the API is well: the page says so", Provider, well()).with(|seen| {
            seen.traffic[0] = failing("work", K::Unauthorized, Some(1200));
            seen.page = Some(says(Level::Operational, Level::Major));
        }),
        row("logins fail, nothing was asked yet", Provider, well()).with(|seen| seen.page = Some(says(Level::Operational, Level::Partial))),
        row("the page says major outage, nothing was asked yet", Provider, well())
            .with(|seen| seen.page = Some(says(Level::Major, Level::Major))),
        row("401 in the middle of an outage", Provider, meets("", Provider, K::Unauthorized).seen)
            .with(|seen| seen.page = Some(says(Level::Major, Level::Operational))),
        row("the whole of the company's hosts are down, the spare is well", Provider, hosts(NoAnswer, Answered, NoAnswer))
            .with(|seen| seen.page = Some(Page::Unreachable)),
        // The account.
        meets("the five-hour window is used up", Account, K::QuotaExhausted),
        row("the weekly window is used up since yesterday: nobody has asked since", Account, well())
            .with(|seen| seen.traffic[0].blocked = Some(K::QuotaExhausted)),
        meets("a window is used up while the page tells of an outage", Account, K::QuotaExhausted)
            .with(|seen| seen.page = Some(says(Level::Partial, Level::Operational))),
        meets("a burst of requests is throttled", Account, K::Throttled),
        meets("429 without a word", Account, K::BareRateLimit),
        meets("the spend cap is reached", Account, K::SpendCap),
        meets("no credit", Account, K::Billing),
        meets("the login has run out", Account, K::Unauthorized),
        meets("the key was revoked, and the page cannot be had", Account, K::Unauthorized).with(|seen| seen.page = Some(Page::Unreachable)),
        meets("the organisation is disabled", Account, K::Forbidden),
        // Nobody.
        row("all is well", Nobody, well()).with(|seen| seen.traffic[0] = good("work", 3)),
        row("nothing was ever asked", Nobody, well()),
        row("it failed an hour ago and is well since", Nobody, well()).with(|seen| {
            let failures = vec![FailureSeen { class: K::Overloaded, count: 9, ago_s: 500 }];
            seen.traffic[0] = Traffic { failures, ..good("work", 20) };
        }),
        row("the network was down a moment ago and is back", Nobody, well())
            .with(|seen| seen.traffic[0] = failing("work", K::Dns, Some(300))),
        row("the page tells of an outage, and answers come", Nobody, well()).with(|seen| {
            seen.traffic[0] = good("work", 8);
            seen.page = Some(says(Level::Major, Level::Major));
        }),
        row("the page tells of slower answers", Nobody, well()).with(|seen| seen.page = Some(says(Level::Degraded, Level::Operational))),
        row("the page cannot be had, and all else is well", Nobody, well()).with(|seen| seen.page = Some(Page::Unreachable)),
        row("the page is somebody else's, and all else is well", Nobody, well()).with(|seen| seen.page = Some(Page::Wrong)),
        row("the spare is down, and nobody needs it", Nobody, hosts(Answered, ConnectTimeout, Answered))
            .with(|seen| seen.traffic[0] = good("work", 3)),
        row("work is announced for the night", Nobody, well()).with(|seen| seen.page = Some(says(Level::Maintenance, Level::Operational))),
    ]
}

#[test]
fn the_right_party_is_named() {
    let rows = rows();
    assert!(rows.len() >= 40, "{} rows are no matrix", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| verdict(&row.seen).party() != row.party)
        .map(|row| format!("{}: {:?}, not {:?}", row.what, verdict(&row.seen), row.party))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let share = (rows.len() - wrong.len()) as f64 * 100.0 / rows.len() as f64;
    println!("outage: {} of {} rows name the right party, {share:.1} %", rows.len() - wrong.len(), rows.len());
    for row in &wrong {
        println!("  {row}");
    }
    assert!(share >= 95.0, "{share:.1} %: {wrong:#?}");
}

#[test]
fn every_party_and_most_causes_have_a_row() {
    let rows = rows();
    for party in [Nobody, You, Provider, Account] {
        assert!(rows.iter().filter(|row| row.party == party).count() >= 9, "{party:?}");
    }
    let seen: Vec<Cause> = rows.iter().map(|row| verdict(&row.seen).cause).collect();
    let missing: Vec<Cause> = Cause::ALL.into_iter().filter(|cause| !seen.contains(cause)).collect();
    assert!(missing.is_empty(), "{missing:?} is never said");
}

#[test]
fn a_page_alone_never_outranks_a_good_answer() {
    for api in [Level::Partial, Level::Major] {
        for page in [says(api, Level::Operational), says(Level::Operational, api), says(api, api)] {
            let seen = Observations { traffic: vec![good("work", 60)], page: Some(page), ..well() };
            assert_eq!(verdict(&seen).party(), Nobody);
        }
    }
}

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(vec![Level::Operational, Level::Maintenance, Level::Degraded, Level::Partial, Level::Major])
}

fn pages() -> impl Strategy<Value = Option<Page>> {
    prop_oneof![
        Just(None),
        Just(Some(Page::Unreachable)),
        Just(Some(Page::Wrong)),
        (level(), level()).prop_map(|(api, login)| Some(says(api, login))),
    ]
}

fn reaches() -> impl Strategy<Value = Reach> {
    use Reach::{Answered, BadCertificate, ConnectTimeout, Dns, NoAnswer, Refused, TlsFailed, Unreachable};
    prop::sample::select(vec![Answered, Dns, Refused, Unreachable, ConnectTimeout, TlsFailed, BadCertificate, NoAnswer])
}

fn traffics(profile: &'static str) -> impl Strategy<Value = Traffic> {
    let failures = prop::collection::vec((prop::sample::select(FailureKind::ALL.to_vec()), 1_u32..9, 0_u64..900), 0..4);
    (failures, prop::option::of(0_u64..900)).prop_map(move |(failures, good_ago_s)| Traffic {
        failures: failures.into_iter().map(|(class, count, ago_s)| FailureSeen { class, count, ago_s }).collect(),
        good_ago_s,
        ..quiet(profile)
    })
}

proptest! {
    /// A status page may break a tie; it never takes the blame off a limit, and never makes an outage of good answers.
    #[test]
    fn a_page_changes_nothing_where_requests_have_spoken(traffic in traffics("work"), other in traffics("backup"), page in pages()) {
        let with = |page| verdict(&Observations { traffic: vec![traffic.clone(), other.clone()], page, ..well() });
        let (one, none) = (with(page.clone()), with(None));
        let quota = [Cause::Limit, Cause::Billing];
        prop_assert!(!quota.contains(&none.cause) || one.party() == none.party() || none.cause == Cause::Limit && one.cause == Cause::Overloaded);
        if traffic.good_ago_s == Some(0) {
            prop_assert_eq!(one.party(), Nobody);
        }
    }

    #[test]
    fn what_is_nearest_outranks_the_rest(api in reaches(), spare in reaches(), status in reaches(), traffic in traffics("work"), page in pages()) {
        let seen = Observations { traffic: vec![traffic, quiet("backup")], page, ..hosts(api, spare, status) };
        prop_assert_eq!(verdict(&Observations { portal: Portal::Found, ..seen.clone() }).cause, Cause::Portal);
        let everybody = [api, spare, status];
        if everybody.iter().all(|reach| *reach == Reach::Dns) {
            prop_assert_eq!(verdict(&seen).cause, Cause::Dns);
        }
        // A provider is blamed only where somebody else was reached: that shows that the fault is not here.
        let verdict = verdict(&seen);
        if everybody.iter().all(|reach| *reach != Reach::Answered) {
            prop_assert_eq!(verdict.party(), You, "{:?}", verdict);
        }
    }
}
