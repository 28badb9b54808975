//! Holds what a drill's shadow shares with the real gateway and what not, from within. Never sends a request.

use std::path::Path;

use hotspare_core::FailureKind;
use http::HeaderMap;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::{Options, Outside};

fn gateway() -> Arc<Gateway> {
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" },
        "profiles": {
            "work": { "base_url": "http://127.0.0.1:1", "auth": { "value": "sk-ant-test-work" } },
            "spare": { "base_url": "http://127.0.0.1:2", "auth": { "value": "sk-ant-test-spare" } },
        },
    });
    let config = hotspare_config::parse(&config.to_string(), Path::new("test.json"), Path::new("/")).expect("valid");
    let options =
        Options { token: SecretString::from("hs-test"), extra_roots: None, observer: None, outside: Outside::default(), store: None };
    Gateway::at(&config, "127.0.0.1:4117".parse().expect("an address"), options).expect("a gateway")
}

fn shadow(base: &Arc<Gateway>, live: Option<u32>) -> Arc<Gateway> {
    let request = DrillRequest { fault: Fault::Overloaded, profile: None, model: None, live, for_s: None };
    let id = base.drill(&request).expect("begun").id;
    let mut headers = HeaderMap::new();
    if live.is_none() {
        headers.insert(DRILL_HEADER, id.parse().expect("a header"));
    }
    match base.way(Endpoint::Messages, &mut headers) {
        Way::Through(shadow) => shadow,
        Way::Real | Way::Over => panic!("it meets the drill"),
    }
}

#[test]
fn real_money_counts_in_the_real_world_and_played_money_nowhere() {
    for (live, counts) in [(Some(1), true), (None, false)] {
        let base = gateway();
        let shadow = shadow(&base, live);
        shadow.with_world(|world| world.spending.writer = 7);
        assert_eq!(base.with_world(|world| world.spending.writer == 7), counts, "{live:?}");
        base.with_world(|world| world.spending.writer = 9);
        assert_eq!(shadow.with_world(|world| world.spending.writer == 9), counts, "{live:?}");
    }
}

#[test]
fn what_a_drill_learns_stays_in_its_shadow_and_it_begins_with_what_is_known() {
    for live in [Some(1), None] {
        let base = gateway();
        let now = clock::now();
        let spare = base.snapshot().id("spare").expect("it is there");
        base.with_world(|world| world.switch = Some(Switch { profile: spare, until: None }));
        let shadow = shadow(&base, live);
        assert!(shadow.with_world(|world| world.switched_to(now) == Some(spare)), "what is known holds");
        let work = base.snapshot().id("work").expect("it is there");
        shadow.with_world(|world| {
            world.switch = None;
            let victim = hotspare_core::health::Victim {
                profile: work,
                family: hotspare_core::ModelFamily::Opus,
                credential: None,
                host: None,
                another_usable: true,
                asked: None,
                request: None,
            };
            world.health.on_failure(
                now,
                &victim,
                &hotspare_core::Failure::new(FailureKind::Forbidden, hotspare_core::Stage::Head, "x"),
                0.5,
            );
        });
        assert!(shadow.with_world(|world| world.health.report(now, work).is_held()));
        base.with_world(|world| {
            assert_eq!(world.switched_to(now), Some(spare));
            assert!(!world.health.report(now, work).is_held() && world.health.report(now, work).last_failure.is_none());
        });
    }
}

#[test]
fn a_drill_that_is_over_lets_its_shadow_go() {
    let base = gateway();
    let request = DrillRequest { fault: Fault::Overloaded, profile: None, model: None, live: None, for_s: None };
    let id = base.drill(&request).expect("begun").id;
    let shadow = Arc::downgrade(&base.drill.lock().expect("unpoisoned").as_ref().expect("armed").shadow);
    assert!(shadow.upgrade().is_some());
    assert!(base.end_drill(&EndDrill { id }).ended);
    assert!(shadow.upgrade().is_none(), "nothing holds it");
    assert_eq!(Arc::strong_count(&base), 1, "and it holds nothing");
}
