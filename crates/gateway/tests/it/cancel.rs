//! A client that goes takes its upstream request with it, within 100 ms, and says nothing about the profile (invariants I6, I7).

use std::time::{Duration, Instant};

use hotspare_testkit::answers::{Position, text, upto};
use hotspare_testkit::{Script, Upstream};

use crate::client::{Ask, Connection};
use crate::proxy::{FROM_SPARE, Proxy, healthy, streamed};

const LIMIT: Duration = Duration::from_millis(100);

/// Hangs at this point of its first answer, and is well from then on.
async fn hangs_once(first: Script) -> Upstream {
    Upstream::sequence(vec![first.hang(), streamed(&text("fine"))]).await.expect("started")
}

/// `LiteLLM` #31499 (missed before the first token), `OmniRoute` #7907 #7908, better-ccflare #360, claude-code-hub #215 #1134.
#[tokio::test]
async fn r23_a_client_that_goes_cancels_upstream_within_100_ms() {
    let events = text("a long answer");
    let points: Vec<(&str, Script, Option<&str>)> = vec![
        ("before the head", Script::new(), None),
        ("while the answer is held", Script::new().sse().events(&events[..1]), None),
        ("in the answer", Script::new().sse().events(upto(&events, Position::InBlock(0))), Some("content_block_delta")),
        ("while a refusal's body does not come", Script::new().head(529, &[("Content-Length", "100")]), None),
    ];
    for (name, script, visible) in points {
        for reset in [false, true] {
            let (primary, spare) = (hangs_once(script.clone()).await, healthy(FROM_SPARE).await);
            let proxy = Proxy::pair(&primary, &spare).await;
            let mut connection = Connection::open(proxy.addr).await;
            connection.ask(&Ask::turn()).await;
            primary.wait_for(1).await;
            if let Some(visible) = visible {
                connection.wait_for(visible).await;
            }
            let left = Instant::now();
            if reset {
                connection.reset();
            } else {
                connection.hang_up();
            }
            let noticed = primary.wait_hung_up(0).await;
            let took = noticed.saturating_duration_since(left);
            assert!(took < LIMIT, "{name}, reset {reset}: noticed after {took:?}");
            let next = proxy.ask(&Ask::turn()).await;
            assert_eq!(next.profile(), Some("primary"), "{name}: a client that goes says nothing about the profile");
            assert!(spare.requests().is_empty(), "{name}: nobody is asked for a client that has gone");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_while_it_sends_cancels_upstream() {
    let (primary, spare) = (hangs_once(Script::new().before_body()).await, healthy(FROM_SPARE).await);
    let proxy = Proxy::pair(&primary, &spare).await;
    let mut connection = Connection::open(proxy.addr).await;
    // A body of a known length is read whole before it is sent, because it may have to be mended.
    connection.send(Ask::turn().body("").header("Transfer-Encoding", "chunked").head(proxy.addr)).await;
    connection.send("1b\r\n{\"model\":\"claude-opus-5-5\",\r\n").await;
    primary.wait_for(1).await;
    let left = Instant::now();
    connection.hang_up();
    let took = primary.wait_hung_up(0).await.saturating_duration_since(left);
    assert!(took < LIMIT, "noticed after {took:?}");
    assert!(spare.requests().is_empty());
    assert_eq!(proxy.ask(&Ask::turn()).await.profile(), Some("primary"));
}

/// teamclaude #106 #78: sockets that nobody needs any more were kept, and found dead. Also when no request follows that would look at them.
#[tokio::test]
async fn r10_a_connection_that_nobody_uses_is_closed() {
    let primary = Upstream::start(|_| streamed(&text("fine"))).await.expect("started");
    let proxy = Proxy::lone(&primary).await;
    proxy.ask(&Ask::turn()).await;
    assert_eq!(primary.open_connections(), 1, "it is kept for the next request");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(120)).await;
    tokio::time::resume();
    tokio::time::timeout(Duration::from_secs(10), primary.wait_hung_up(0)).await.expect("it is closed");
}
