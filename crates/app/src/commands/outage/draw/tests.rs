//! Holds the screen: 80 and 120 columns, with and without colour and more than ASCII.

use hotspare_core::FailureKind;
use hotspare_core::blame::{Cause, FailureSeen, Observations};

use super::*;
use crate::commands::outage::page::Looked;
use crate::output::Paint;

const LOOKS: [(&str, Look); 4] = [
    ("80", Look { paint: Paint(false), unicode: true, width: Some(80) }),
    ("120", Look { paint: Paint(false), unicode: true, width: Some(120) }),
    ("80 ascii", Look { paint: Paint(false), unicode: false, width: Some(80) }),
    ("80 color", Look { paint: Paint(true), unicode: true, width: Some(80) }),
];

fn report() -> OutageReport {
    let host = |name: &str, profiles: &[&str], issuer: &str| HostSeen {
        host: name.to_owned(),
        profiles: profiles.iter().map(|name| (*name).to_owned()).collect(),
        loopback: false,
        reach: Reach::Answered,
        status: Some(404),
        issuer: Some(issuer.to_owned()),
        public: Some(true),
    };
    let failing = Traffic {
        profile: "work".to_owned(),
        good_ago_s: Some(720),
        failures: vec![FailureSeen { class: FailureKind::Overloaded, count: 3, ago_s: 5 }],
        blocked: None,
    };
    OutageReport {
        version: 1,
        party: Party::Provider,
        cause: Cause::Overloaded,
        sure: true,
        verdict: "work is overloaded".to_owned(),
        advice: vec![
            "requests go to openrouter-backup meanwhile; `hotspare status` shows it".to_owned(),
            "what the provider says: status.claude.com".to_owned(),
        ],
        spares: vec!["openrouter-backup".to_owned()],
        held: Vec::new(),
        is_total: false,
        seen: Observations {
            hosts: vec![
                host("api.anthropic.com", &["work"], "Google Trust Services"),
                host("openrouter.ai", &["openrouter-backup"], "Google Trust Services"),
                host("status.claude.com", &[], "Amazon"),
            ],
            portal: Portal::Clear,
            skew_s: Some(0),
            traffic: vec![failing, Traffic { profile: "openrouter-backup".to_owned(), good_ago_s: Some(3), ..Traffic::default() }],
            page: Some(Page::Says { api: Level::Operational, login: Level::Operational }),
        },
        page: Looked {
            url: "https://status.claude.com/api/v2/summary.json".to_owned(),
            age_s: Some(0),
            incidents: Vec::new(),
            trouble: None,
        },
        took_ms: 212,
    }
}

fn intercepted() -> OutageReport {
    let mut report = report();
    report.party = Party::You;
    report.cause = Cause::Interception;
    report.sure = false;
    report.verdict = "TLS to api.anthropic.com is opened on the way, by Example Corp Inspection".to_owned();
    report.advice = vec!["if not: do not use this network; hotspare sends nothing through it".to_owned()];
    report.seen.hosts[0].reach = Reach::BadCertificate;
    report.seen.hosts[0].issuer = Some("Example Corp Inspection".to_owned());
    report.seen.hosts[0].public = Some(false);
    report.seen.skew_s = Some(-4000);
    report.seen.page = Some(Page::Wrong);
    report.page.trouble = Some("what came is no status page".to_owned());
    report
}

/// The first is overloaded, and the spare is out of credit.
fn all_down() -> OutageReport {
    let spare = HeldSpare {
        profile: "openrouter-backup".to_owned(),
        why: "402 billing".to_owned(),
        because: Some(FailureKind::Billing),
        back_in_s: Some(120),
    };
    let mut report = report();
    report.verdict = "work is overloaded, and no spare can stand in".to_owned();
    report.advice[0] = "no request is answered now: no spare can stand in (below, with what ends it)".to_owned();
    (report.spares, report.held, report.is_total) = (Vec::new(), vec![spare], true);
    report
}

#[test]
fn screens() {
    insta::assert_snapshot!("all down 80", drawn(&all_down(), LOOKS[0].1));
    for (name, look) in LOOKS {
        insta::assert_snapshot!(format!("overloaded {name}"), drawn(&report(), look));
        insta::assert_snapshot!(format!("intercepted {name}"), drawn(&intercepted(), look));
    }
}

#[test]
fn no_line_is_wider_than_the_screen() {
    for (_, look) in LOOKS.into_iter().filter(|(name, _)| !name.contains("color")) {
        for report in [report(), intercepted(), all_down()] {
            let text = drawn(&report, look);
            assert!(text.lines().all(|line| line.chars().count() <= look.width.unwrap_or(usize::MAX)), "{text}");
            assert!(look.unicode || text.is_ascii(), "{text}");
        }
    }
}
