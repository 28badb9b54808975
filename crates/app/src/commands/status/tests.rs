//! Holds the screens of `status` as people read them. Never asks a running gateway.

use hotspare_gateway::status::{BudgetReport, FailbackStatus, LastFailover, SwitchStatus, WindowReport};

use super::*;
use crate::output::Paint;

fn look(width: Option<usize>, unicode: bool) -> Look {
    Look { paint: Paint(false), unicode, width }
}

fn window(name: &str, used: f64) -> WindowReport {
    WindowReport { name: name.to_owned(), status: "allowed".to_owned(), used, resets_in_s: Some(3600) }
}

fn profile(name: &str, state: &str) -> ProfileStatus {
    ProfileStatus {
        name: name.to_owned(),
        state: state.to_owned(),
        back_in_s: None,
        next_look_in_s: None,
        given_up: 0,
        because: None,
        left_out: None,
        family: None,
        good_trials: None,
        last_failure: None,
        last_failure_ago_s: None,
        last_success_ago_s: None,
        login_ends_in_s: None,
        login: None,
        windows: Vec::new(),
        ttft_p50_ms: None,
        ttft_p95_ms: None,
        attempts_5m: 0,
        failed_5m: 0,
        budget: None,
        on_plan: false,
        credential: None,
    }
}

fn answering(name: &str, state: &str, ttft_ms: u64) -> ProfileStatus {
    ProfileStatus { ttft_p50_ms: Some(ttft_ms), ttft_p95_ms: Some(3 * ttft_ms), attempts_5m: 25, ..profile(name, state) }
}

fn gateway(serving: &str, profiles: Vec<ProfileStatus>) -> GatewayReport {
    let status = Status {
        version: 1,
        hotspare: "0.1.0".to_owned(),
        address: "http://127.0.0.1:4117".to_owned(),
        pid: 4321,
        uptime_s: 7380,
        enabled: true,
        serving: serving.to_owned(),
        serving_for_s: Some(192),
        serving_model: None,
        sessions: 2,
        pauses: Vec::new(),
        switch: None,
        offline_for_s: None,
        folders: None,
        drill: None,
        failback: Some(FailbackStatus { after_good: 2, min_stay_s: 120, at: "cold_cache".to_owned() }),
        profiles,
        exchanges: 214,
        failovers: 17,
        in_flight: 1,
        waiting: Vec::new(),
        next: None,
        client_seen_ago_s: None,
        last_failover: None,
        config: None,
        ledger: None,
    };
    GatewayReport { kind: "serve".to_owned(), has_client: true, status }
}

fn today() -> Vec<Today> {
    let one = |profile: &str, tokens, est_cost_micro_usd| Today { profile: profile.to_owned(), served: 9, tokens, est_cost_micro_usd };
    vec![one("work", 1_324_000, None), one("openrouter-backup", 402_700, Some(1_840_000))]
}

fn report(gateways: Vec<GatewayReport>) -> StatusReport {
    StatusReport { version: 1, gateways, today: Some(today()) }
}

fn well() -> StatusReport {
    let work = ProfileStatus { windows: vec![window("5h", 0.62), window("7d", 0.31)], ..answering("work", "serving", 1_210) };
    let mut gateway = gateway("work", vec![work, profile("openrouter-backup", "ready"), profile("bedrock-eu", "ready")]);
    gateway.status.last_failover = Some(LastFailover {
        from: "work".to_owned(),
        to: Some("openrouter-backup".to_owned()),
        why: "529 overloaded".to_owned(),
        ago_s: 7200,
    });
    report(vec![gateway])
}

fn on_the_spare() -> StatusReport {
    let work = ProfileStatus {
        back_in_s: Some(28),
        because: Some("overloaded".to_owned()),
        last_failure: Some("529 overloaded".to_owned()),
        last_failure_ago_s: Some(40),
        windows: vec![window("5h", 0.62), window("7d", 0.31)],
        failed_5m: 25,
        ..answering("work", "open", 1_210)
    };
    let spare = ProfileStatus {
        windows: vec![window("requests", 0.04), window("tokens", 0.81)],
        ..answering("openrouter-backup", "serving", 1_620)
    };
    report(vec![gateway("openrouter-backup", vec![work, spare, profile("bedrock-eu", "ready")])])
}

/// Everything at once: as much as a status can hold.
fn in_trouble() -> StatusReport {
    let failed = |words: &str, mut profile: ProfileStatus| {
        profile.last_failure = Some(words.to_owned());
        profile.last_failure_ago_s = Some(4_000);
        profile.back_in_s = Some(7_380);
        profile
    };
    let work = failed(
        "429 usage limit reached",
        ProfileStatus { windows: vec![window("5h", 1.02), window("7d", 0.97)], ..answering("work", "blocked", 12_345) },
    );
    let family = ProfileStatus {
        family: Some("opus".to_owned()),
        ..failed("529 overloaded", answering("a-profile-with-a-long-name", "cooling", 80))
    };
    let trial = ProfileStatus { login_ends_in_s: Some(0), good_trials: Some(1), ..profile("on-trial", "half_open") };
    let mut gateway = gateway(
        "on-trial",
        vec![work, family, trial, ProfileStatus { login_ends_in_s: Some(1_800), ..profile("far", "offline") }, profile("near", "paused")],
    );
    gateway.status.switch = Some(SwitchStatus { profile: "on-trial".to_owned(), for_s: Some(1_500) });
    gateway.status.offline_for_s = Some(4);
    gateway.status.ledger = Some(
        "`/home/me/.local/state/hotspare/ledger.db` cannot grow: the disk is full; exchanges are kept in memory (3 wait, 0 were given up)"
            .to_owned(),
    );
    gateway.status.config = Some(ConfigStatus {
        loaded_at: u64::MAX,
        sources: Vec::new(),
        error: Some("error[HS0103]: unknown profile `bakcup`\n  --> config.json:2:9".to_owned()),
        needs_restart: Some("`server.listen`".to_owned()),
    });
    report(vec![gateway])
}

#[track_caller]
fn check(report: &StatusReport, width: Option<usize>, unicode: bool) -> String {
    let text = drawn(report, look(width, unicode));
    for line in text.lines() {
        assert!(width.is_none_or(|width| line.chars().count() <= width), "too wide: {line:?}");
        assert_eq!(line.trim_end(), line);
        assert!(unicode || line.is_ascii(), "{line:?}");
    }
    text
}

#[test]
fn all_is_well() {
    insta::assert_snapshot!("well_120", check(&well(), Some(120), true));
    insta::assert_snapshot!("well_80", check(&well(), Some(80), true));
}

#[test]
fn the_spare_serves_and_it_is_said_why_and_how_it_ends() {
    insta::assert_snapshot!("spare_120", check(&on_the_spare(), Some(120), true));
    insta::assert_snapshot!("spare_80", check(&on_the_spare(), Some(80), true));
    insta::assert_snapshot!("spare_in_a_file_in_ascii", check(&on_the_spare(), None, false));
}

#[test]
fn login_of_a_folder_is_shown_with_its_renewal() {
    let shown = |login: LoginStatus, ends_in_s: u64| {
        let second = ProfileStatus { login: Some(login), login_ends_in_s: Some(ends_in_s), ..profile("second", "ready") };
        drawn(&report(vec![gateway("work", vec![profile("work", "serving"), second])]), look(None, true))
    };
    let fresh = LoginStatus { renewed_ago_s: None, problem: None, log_in: None };
    assert!(!shown(fresh.clone(), 7_200).contains("login"), "nothing is to be done, and nothing was");
    assert!(shown(fresh.clone(), 0).contains("login  second: it has run out, and is renewed at need"));
    assert!(shown(LoginStatus { renewed_ago_s: Some(7_200), ..fresh.clone() }, 21_600).contains("login  second: renewed 2 h ago"));
    let failed = LoginStatus { problem: Some("Claude Code could not renew it".to_owned()), ..fresh.clone() };
    assert!(shown(failed, 0).contains("login  second: it was not renewed: Claude Code could not renew it"));
    let ended = LoginStatus { log_in: Some("CLAUDE_CONFIG_DIR=/x claude auth login".to_owned()), ..fresh };
    let text = shown(ended, 0);
    assert!(text.contains("login  second: it has ended; log in again: CLAUDE_CONFIG_DIR=/x claude auth login"), "{text}");
    assert!(text.contains("Not protected"), "a login that has ended protects from nothing: {text}");
}

/// A bench that is over is no proof of health.
#[test]
fn a_primary_is_called_well_again_only_where_it_has_answered_since() {
    let told = |answered_ago: Option<u64>| {
        let work = ProfileStatus {
            last_failure: Some("529 overloaded".to_owned()),
            last_failure_ago_s: Some(40),
            last_success_ago_s: answered_ago,
            ..profile("work", "ready")
        };
        let status = gateway("backup", vec![work, profile("backup", "serving")]).status;
        back(&status, &Outlook::of(&status, true)).expect("it is told")
    };
    assert!(told(Some(3)).starts_with("work is well again;"));
    for before in [None, Some(40), Some(90)] {
        assert!(told(before).starts_with("work may be asked again;"), "{before:?}");
    }
}

#[test]
fn every_trouble_at_once_still_fits() {
    insta::assert_snapshot!("trouble_120", check(&in_trouble(), Some(120), true));
    insta::assert_snapshot!("trouble_80", check(&in_trouble(), Some(80), true));
    insta::assert_snapshot!("trouble_80_in_ascii", check(&in_trouble(), Some(80), false));
}

/// A login that a plan pays for, a spare with money left, and one without.
fn with_budgets() -> StatusReport {
    let budget = |spent| Some(BudgetReport { per_day_micro_usd: 10_000_000, spent_micro_usd: spent, resets_in_s: Some(33_000) });
    let work =
        ProfileStatus { on_plan: true, windows: vec![window("5h", 0.62), window("7d", 0.31)], ..answering("work", "serving", 1_210) };
    let some = ProfileStatus { budget: budget(1_840_000), ..answering("openrouter-backup", "ready", 1_620) };
    let none = ProfileStatus { budget: budget(10_020_000), back_in_s: Some(33_000), ..profile("console", "spent") };
    report(vec![gateway("work", vec![work, some, none])])
}

#[test]
fn budgets_and_plans_are_shown() {
    insta::assert_snapshot!("budgets_120", check(&with_budgets(), Some(120), true));
    insta::assert_snapshot!("budgets_80", check(&with_budgets(), Some(80), true));
}

#[test]
fn colour_adds_nothing_but_colour() {
    for report in [well(), on_the_spare(), in_trouble()] {
        let colored = drawn(&report, Look { paint: Paint(true), unicode: true, width: Some(80) });
        let mut plain = String::new();
        for (place, part) in colored.split('\u{1b}').enumerate() {
            plain.push_str(if place == 0 { part } else { part.split_once('m').expect("a colour").1 });
        }
        assert_eq!(plain, drawn(&report, look(Some(80), true)));
    }
}

/// cc-switch #6022 #5120 #612, agentgateway #1087: the interface said that failover was on, and it was not.
#[test]
fn r62_a_lone_profile_and_one_without_failover_are_named_so() {
    let lone = drawn(&report(vec![gateway("work", vec![profile("work", "serving")])]), look(Some(80), true));
    assert!(lone.starts_with("○ No spare   serve → 127.0.0.1:4117 → work"), "{lone}");
    let mut off = gateway("work", vec![profile("work", "serving"), profile("spare", "paused")]);
    off.status.enabled = false;
    let off = drawn(&report(vec![off]), look(Some(80), true));
    assert!(off.starts_with("○ Failover is off") && !off.contains("  back "), "{off}");
}

#[test]
fn what_an_older_gateway_does_not_tell_is_left_out() {
    let old = serde_json::json!({
        "version": 1, "hotspare": "0.0.9", "address": "http://127.0.0.1:1", "pid": 1, "uptime_s": 1, "enabled": true, "serving": "work",
        "profiles": [{
            "name": "work", "state": "cooling", "back_in_s": 3, "last_failure": "529", "last_failure_ago_s": 1, "last_success_ago_s": null
        }],
        "exchanges": 1, "failovers": 0, "in_flight": 0, "last_failover": null
    });
    let status: Status = serde_json::from_value(old).expect("readable");
    let text = drawn(&report(vec![GatewayReport { kind: "run".to_owned(), has_client: true, status }]), look(Some(80), true));
    assert!(text.contains("◐ cooling 3s"), "{text}");
}

#[test]
fn failing_primary_is_not_protected() {
    let work = ProfileStatus { given_up: 2, ..answering("work", "serving", 1_210) };
    let slow = gateway("work", vec![work, profile("backup", "ready")]);
    let text = gateway_text(&slow, None, look(Some(80), true));
    assert!(text.starts_with("⚠ Primary is failing"), "{text}");
    assert!(text.contains("slow   work: the last 2 clients gave up before any content came"), "{text}");
}

#[test]
fn blocked_spare_has_its_cause_next_try_and_command() {
    let backup = ProfileStatus {
        back_in_s: Some(7_380),
        next_look_in_s: Some(3_420),
        last_failure: Some("402 billing".to_owned()),
        last_failure_ago_s: Some(180),
        ..profile("backup", "blocked")
    };
    let text = gateway_text(&gateway("work", vec![answering("work", "serving", 1_210), backup]), None, look(None, true));
    assert!(text.contains("spare  backup: 402 billing, 3 min ago; next try in 57 min, or after `hotspare reset backup`"), "{text}");
}
