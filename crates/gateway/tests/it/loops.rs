//! A proxy that leads to itself is refused where it can be seen, and broken where it cannot (T25).

use hotspare_gateway::{Gateway, ServeError};
use hotspare_testkit::Script;
use hotspare_testkit::answers::text;
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::Ask;
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, TOKEN, healthy, options, parse, plays};

#[tokio::test]
async fn t25_a_profile_that_leads_back_to_our_port_is_refused_at_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    for host in ["127.0.0.1", "localhost"] {
        let config = json!({ "profiles": { "work": { "base_url": format!("http://{host}:{port}/x") } }, "failover_policy": { "primary_profile": "work" } });
        let refused = Gateway::new(&parse(&config), &listener, options());
        assert!(matches!(refused.map(|_| ()), Err(ServeError::SelfLoop(name)) if &*name == "work"), "{host}");
    }
}

#[tokio::test]
async fn t25_a_request_that_has_passed_through_us_is_refused() {
    let primary = plays(Script::not_found()).await;
    let proxy = Proxy::lone(&primary).await;
    for via in ["1.1 hotspare", "1.1 nginx, 1.1 hotspare", "1.1 hotspare, 1.1 nginx"] {
        let answer = proxy.ask(&Ask::turn().header("Via", via)).await;
        assert_eq!(answer.status, 424, "{via}");
        assert!(answer.text().contains("base_url"), "{}", answer.text());
    }
    assert_eq!(primary.connections(), 0);
}

/// Two proxies that name each other: the circle is broken at its second turn, and a healthy profile behind it still serves.
#[tokio::test]
async fn t25_a_circle_of_proxies_is_broken() {
    let second_listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let second_url = format!("http://{}", second_listener.local_addr().expect("bound"));
    let spare = healthy(FROM_SPARE).await;
    let first = Proxy::start(&json!({
        "failover_policy": { "primary_profile": "second", "secondary_profile": "spare" },
        "profiles": {
            "second": { "base_url": second_url, "auth": { "value": TOKEN } },
            "spare": { "base_url": spare.url(), "auth": { "value": "sk-ant-test-spare" } },
        },
    }))
    .await;
    let back = json!({
        "failover_policy": { "primary_profile": "first" },
        "profiles": { "first": { "base_url": format!("http://{}", first.addr), "auth": { "value": TOKEN } } },
    });
    let second = Gateway::new(&parse(&back), &second_listener, options()).expect("not its own port");
    let serving = tokio::spawn(hotspare_gateway::serve(second, second_listener, std::future::pending()));
    let answer = first.ask(&Ask::turn().with("x-api-key", Some(CLIENT_KEY))).await;
    serving.abort();
    // The second proxy never asks anyone: the request says that it has passed through one of us.
    assert!(spare.messages().len() <= 1, "{}", spare.messages().len());
    assert!(answer.status == 424 || answer.text() == crate::proxy::wire(&text(FROM_SPARE)), "{}: {}", answer.status, answer.text());
}
