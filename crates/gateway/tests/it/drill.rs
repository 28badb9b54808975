//! Drills: the whole way is gone, nobody real is asked or blamed, and each ends by itself.

use std::time::Duration;

use hotspare_core::Fault;
use hotspare_gateway::drill::{DRILL_HEADER, LIVE_REQUESTS};
use hotspare_testkit::Upstream;
use serde_json::{Value, json};

use crate::client::{Answer, Ask, End, PRINT, PROGRAM, WHOLE};
use crate::proxy::{FROM_SPARE, Proxy, healthy, pair};

/// Longest that anything may take to end by itself here.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy whose providers are both well, and tell whom they have heard.
struct House {
    primary: Upstream,
    spare: Upstream,
    proxy: Proxy,
}

impl House {
    async fn new() -> Self {
        let (primary, spare) = (healthy("An answer from the primary.").await, healthy(FROM_SPARE).await);
        let proxy = Proxy::pair(&primary, &spare).await;
        Self { primary, spare, proxy }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let ask = Ask::new("POST", path).header("Content-Type", "application/json").body(body.to_string());
        let answer = self.proxy.ask(&ask).await;
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }

    async fn begin(&self, body: Value) -> String {
        let (status, answer) = self.post("/hotspare/drill", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    async fn own(&self, id: &str, agent: &str) -> Answer {
        self.proxy.ask(&Ask::turn().agent(agent).header(DRILL_HEADER.as_str(), id)).await
    }

    async fn status(&self) -> Value {
        serde_json::from_slice(&self.proxy.ask(&Ask::new("GET", "/hotspare/status")).await.body).expect("JSON")
    }

    async fn metrics(&self) -> String {
        self.proxy.ask(&Ask::new("GET", "/metrics")).await.text()
    }

    /// How often each provider was really asked.
    fn asked(&self) -> (usize, usize) {
        (self.primary.requests().len(), self.spare.requests().len())
    }
}

/// What of a status a drill must not touch.
fn lasting(mut status: Value) -> Value {
    for moving in ["uptime_s", "drill"] {
        status.as_object_mut().expect("an object").remove(moving);
    }
    status
}

#[tokio::test]
async fn every_fault_fails_over_asks_nobody_and_leaves_no_trace_on_health() {
    for fault in Fault::ALL {
        let house = House::new().await;
        let before = lasting(house.status().await);
        let id = house.begin(json!({ "fault": fault.word() })).await;
        let answer = house.own(&id, PROGRAM).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole), "{fault}: {}", answer.text());
        assert!(
            answer.text().contains("message_stop") && answer.text().contains("played by a hotspare drill"),
            "{fault}: {}",
            answer.text()
        );
        assert_eq!(house.asked(), (0, 0), "{fault}");
        let status = house.status().await;
        assert_eq!(status["drill"]["exchange"].as_str(), answer.header("x-hotspare-request-id"), "{fault}");
        assert_eq!((&status["drill"]["profile"], &status["drill"]["to"]), (&json!("primary"), &json!("spare")), "{fault}: {status}");
        assert!(status["drill"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{fault}: {status}");
        let counted =
            format!("hotspare_drills_total{{fault=\"{fault}\",live=\"false\",from=\"primary\",to=\"spare\",outcome=\"served\"}} 1");
        let metrics = house.metrics().await;
        assert!(metrics.contains(&counted), "{fault}: {metrics}");
        assert!(!metrics.contains("hotspare_requests_total{") && !metrics.contains("hotspare_failovers_total{"), "{fault}: {metrics}");
        assert_eq!(house.post("/hotspare/drill/end", &json!({ "id": id })).await.1, json!({ "version": 1, "ended": true }));
        let after = house.status().await;
        assert_eq!((&after["drill"], lasting(after.clone())), (&Value::Null, before), "{fault}");
        let real = house.proxy.ask(&Ask::turn()).await;
        assert_eq!(real.profile(), Some("primary"), "{fault}: nothing was learned");
    }
}

#[tokio::test]
async fn a_cut_in_a_drill_is_sent_again_as_clients_do_and_goes_to_the_spare() {
    let house = House::new().await;
    let id = house.begin(json!({ "fault": "midstream" })).await;
    // With its only block open Claude Code asks again by itself; then it is the shadow's memory that leads it elsewhere.
    let cut = house.own(&id, PRINT).await;
    assert!(cut.end == End::Cut && cut.text().contains("breaks off"), "{}", cut.text());
    let again = house.own(&id, PRINT).await;
    assert_eq!((again.end, again.profile()), (End::Whole, Some("spare")), "{}", again.text());
    assert_eq!(house.asked(), (0, 0));
}

#[tokio::test]
async fn a_drill_s_request_without_its_drill_asks_nobody() {
    let house = House::new().await;
    let id = house.begin(json!({ "fault": "529" })).await;
    for wrong in ["hs_0000000000000000", ""] {
        assert_eq!(house.own(wrong, PROGRAM).await.status, 410, "{wrong:?}");
    }
    house.post("/hotspare/drill/end", &json!({ "id": id })).await;
    assert_eq!(house.own(&id, PROGRAM).await.status, 410, "it is over");
    assert_eq!(house.post("/hotspare/drill/end", &json!({ "id": id })).await.1["ended"], false);
    assert_eq!(house.asked(), (0, 0));
}

#[tokio::test]
async fn real_requests_beside_a_drill_do_not_meet_it() {
    let house = House::new().await;
    let id = house.begin(json!({ "fault": "5h" })).await;
    house.own(&id, PROGRAM).await;
    for _ in 0..3 {
        assert_eq!(house.proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    }
    assert_eq!(house.asked(), (3, 0));
    let status = house.status().await;
    assert_eq!((&status["exchanges"], &status["failovers"], &status["last_failover"]), (&json!(3), &json!(0), &Value::Null), "{status}");
}

#[tokio::test]
async fn a_live_drill_touches_as_many_real_requests_as_it_was_told_and_blames_nobody() {
    for fault in Fault::ALL {
        let house = House::new().await;
        house.begin(json!({ "fault": fault.word(), "live": 2, "for_s": 60 })).await;
        let answers = [house.proxy.ask(&Ask::turn().agent(PROGRAM)).await, house.proxy.ask(&Ask::turn().agent(PROGRAM)).await];
        for answer in &answers {
            assert_eq!((answer.status, answer.end), (200, End::Whole), "{fault}: {}", answer.text());
            assert!(answer.text().contains("message_stop"), "{fault}: {}", answer.text());
        }
        assert_eq!(house.asked(), (0, 2), "{fault}: the spare is real");
        assert_eq!(house.proxy.ask(&Ask::turn()).await.profile(), Some("primary"), "{fault}: the third is not touched");
        let status = house.status().await;
        assert_eq!((&status["drill"]["left"], &status["drill"]["live"]), (&json!(0), &json!(true)), "{status}");
        assert_eq!((&status["exchanges"], &status["failovers"]), (&json!(3), &json!(2)), "{fault}: real requests count");
        assert_eq!((&status["profiles"][0]["state"], &status["profiles"][0]["last_failure"]), (&json!("serving"), &Value::Null), "{fault}");
    }
}

#[tokio::test]
async fn a_live_drill_ends_by_itself() {
    let house = House::new().await;
    house.begin(json!({ "fault": "500", "live": 1, "for_s": 1 })).await;
    let ended = async {
        while house.status().await["drill"] != Value::Null {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!(house.proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
    assert_eq!(house.asked(), (1, 0));
}

#[tokio::test]
async fn answers_that_are_not_streamed_drill_as_well() {
    let house = House::new().await;
    for fault in ["529", "midstream"] {
        let id = house.begin(json!({ "fault": fault })).await;
        let answer = house.proxy.ask(&Ask::turn().agent(PROGRAM).header(DRILL_HEADER.as_str(), &id).body(WHOLE)).await;
        assert_eq!((answer.status, answer.profile()), (200, Some("spare")), "{fault}: {}", answer.text());
        let message: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((&message["model"], &message["usage"]["output_tokens"]), (&json!("claude-opus-5-5"), &json!(0)));
        house.post("/hotspare/drill/end", &json!({ "id": id })).await;
    }
    assert_eq!(house.asked(), (0, 0));
}

#[tokio::test]
async fn one_drill_at_a_time_within_its_bounds_on_somebody_who_is_there() {
    let house = House::new().await;
    let cases = [
        (json!({ "fault": "404" }), 400, "unknown variant"),
        (json!({ "fault": "529", "live": 0 }), 400, "1 to 20 requests"),
        (json!({ "fault": "529", "live": LIVE_REQUESTS + 1 }), 400, "1 to 20 requests"),
        (json!({ "fault": "529", "live": 1, "for_s": 0 }), 400, "1 to 600 seconds"),
        (json!({ "fault": "529", "live": 1, "for_s": 601 }), 400, "1 to 600 seconds"),
        (json!({ "fault": "529", "for_s": 10 }), 400, "any other has neither"),
        (json!({ "fault": "529", "profile": "spaer" }), 404, "did you mean `spare`?"),
    ];
    for (body, status, words) in cases {
        let (got, answer) = house.post("/hotspare/drill", &body).await;
        assert!(got == status && answer.to_string().contains(words), "{body}: {got} {answer}");
    }
    house.begin(json!({ "fault": "529" })).await;
    let (status, answer) = house.post("/hotspare/drill", &json!({ "fault": "401" })).await;
    assert!(status == 409 && answer.to_string().contains("a drill runs already: 529 at `primary`"), "{answer}");
}

#[tokio::test]
async fn any_profile_can_be_broken_and_a_lone_one_shows_what_the_user_would_see() {
    let house = House::new().await;
    let (_, answer) = house.post("/hotspare/drill", &json!({ "fault": "529", "profile": "spare" })).await;
    assert_eq!((&answer["profile"], &answer["spares"]), (&json!("spare"), &json!(["primary"])));
    let id = answer["id"].as_str().expect("an id");
    assert_eq!(house.own(id, PROGRAM).await.profile(), Some("primary"));
    let lone =
        json!({ "failover_policy": { "primary_profile": "primary" }, "profiles": { "primary": { "base_url": house.primary.url() } } });
    let alone = House { proxy: Proxy::start(&lone).await, ..House::new().await };
    let id = alone.begin(json!({ "fault": "529" })).await;
    let answer = alone.own(&id, PROGRAM).await;
    assert_eq!((answer.status, alone.asked(), house.asked()), (529, (0, 0), (0, 0)), "{}", answer.text());
    let off = pair(&house.primary.url(), &house.spare.url(), &json!({ "enabled": false }));
    let off = House { proxy: Proxy::start(&off).await, ..House::new().await };
    let (_, answer) = off.post("/hotspare/drill", &json!({ "fault": "529" })).await;
    assert_eq!(answer["spares"], json!([]), "failover is off: nobody stands behind");
}

#[tokio::test]
async fn what_is_played_costs_nothing_and_what_is_real_costs_what_it_costs() {
    let (primary, spare) = (healthy("An answer from the primary.").await, healthy(FROM_SPARE).await);
    let mut config = pair(&primary.url(), &spare.url(), &json!({}));
    for name in ["primary", "spare"] {
        config["profiles"][name]["auth"] = json!({ "value": "sk-ant-test-budget" });
        config["profiles"][name]["budget"] = json!({ "per_day_usd": 20 });
    }
    let house = House { proxy: Proxy::start(&config).await, primary, spare };
    let spent = async || {
        let status = house.status().await;
        [0, 1].map(|place| status["profiles"][place]["budget"]["spent_micro_usd"].as_u64().unwrap_or_else(|| panic!("{status}")))
    };
    // A head that never comes may be billed: a real one is booked in full.
    for fault in ["timeout", "midstream"] {
        let id = house.begin(json!({ "fault": fault })).await;
        assert_eq!(house.own(&id, PROGRAM).await.status, 200);
        house.post("/hotspare/drill/end", &json!({ "id": id })).await;
        assert_eq!(spent().await, [0, 0], "{fault}: nothing was spent");
    }
    let id = house.begin(json!({ "fault": "timeout", "live": 1 })).await;
    assert_eq!(house.proxy.ask(&Ask::turn().agent(PROGRAM)).await.profile(), Some("spare"));
    let [of_primary, of_spare] = spent().await;
    assert!(of_primary == 0 && of_spare > 0, "{of_primary} and {of_spare}");
    house.post("/hotspare/drill/end", &json!({ "id": id })).await;
    assert_eq!(spent().await, [0, of_spare], "it stays spent when the drill is over");
}

/// A chain in which no failover could happen: the spare has no name for the gateway's own model.
#[tokio::test]
async fn check_names_spares_a_real_request_would_skip() {
    let house = House::new().await;
    let models = json!(["glm-4.7", "claude-opus-5-5"]);
    let (status, answer) = house.post("/hotspare/drill/check", &json!({ "models": models, "login": "other" })).await;
    assert_eq!((status, &answer["models"][0]["model"], &answer["models"][1]["model"]), (200, &models[0], &models[1]), "{answer}");
    assert_eq!((&answer["models"][0]["first"], &answer["spares"][0]["profile"]), (&json!("primary"), &json!("spare")), "{answer}");
    assert_eq!(house.spare.messages().len(), 0, "no token is spent");
    let (status, answer) = house.post("/hotspare/drill/check", &json!({ "models": models, "profile": "spaer" })).await;
    assert!(status == 404 && answer["error"]["message"].as_str().is_some_and(|words| words.contains("did you mean")), "{answer}");
    assert_eq!(house.post("/hotspare/drill/check", &json!({ "model": "x" })).await.0, 400);
}
