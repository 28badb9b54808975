//! A process that stood still (SIGSTOP, a paused container, a machine asleep) reads what arrived before it judges time.

use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::user::{User, signal, signalled};

/// Every clock of the policy; the process stands still for longer.
const CLOCKS: Duration = Duration::from_secs(1);

const STANDSTILL: Duration = Duration::from_millis(2500);

/// Where in the answer the process stands still: behind so many events, or before the head.
#[derive(Debug, Clone, Copy)]
enum Place {
    BeforeHead,
    AfterEvents(usize),
}

/// A provider that waits in this place until the gate is open.
fn waits(place: Place, gate: &Gate) -> Script {
    let events = text("arrived in the meantime");
    match place {
        Place::BeforeHead => Script::new().gate(gate).sse().events(&events).end(),
        Place::AfterEvents(count) => Script::new().sse().events(&events[..count]).gate(gate).events(&events[count..]).end(),
    }
}

fn config(primary: &str, spare: &str) -> String {
    let clock = format!("{}s", CLOCKS.as_secs());
    json!({
        "failover_policy": {
            "enabled": true, "primary_profile": "work", "secondary_profile": "backup",
            "clocks": { "head": clock, "first_content": clock, "bytes_idle": clock, "content_idle": clock },
        },
        "profiles": {
            "work": { "base_url": primary, "auth": { "value": "sk-ant-test-work" } },
            "backup": { "base_url": spare, "auth": { "value": "sk-ant-test-backup" } },
        },
        "server": { "listen": "127.0.0.1:0" },
    })
    .to_string()
}

/// After SIGSTOP, a container pause or sleep the timers fire first, although the answer lies in the socket.
#[tokio::test]
async fn field_21_answer_that_arrived_during_a_standstill_is_used() {
    for place in [Place::BeforeHead, Place::AfterEvents(1), Place::AfterEvents(3)] {
        let gate = Gate::new();
        let script = waits(place, &gate);
        let primary = Upstream::start(move |_| script.clone()).await.expect("started");
        let spare = Upstream::start(|_| Script::new().sse().events(&text("from the spare")).end()).await.expect("started");
        let user = User::new().config(&config(&primary.url(), &spare.url()));
        let (child, proxy, _) = user.serves().await;

        let body = "{\"model\":\"claude-opus-5-5\",\"stream\":true}";
        let token = user.local_token();
        let mut stream = TcpStream::connect(proxy).await.expect("it listens");
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: {proxy}\r\nx-hotspare-token: {token}\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.expect("sent");
        primary.wait_for(1).await;
        signal(&child, Signal::STOP);
        gate.open();
        // The standstill is what is played: the clocks of a stopped process run on.
        tokio::time::sleep(STANDSTILL).await;
        signal(&child, Signal::CONT);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");

        assert!(answer.contains("x-hotspare-profile: work") && answer.contains("message_stop"), "{place:?}: {answer}");
        assert_eq!(spare.connections(), 0, "{place:?}");
        assert!(answer.contains("x-hotspare-attempts: 1"), "{place:?}: no failure is recorded: {answer}");
        assert_eq!(signalled(child, Signal::TERM).await.code, Some(0));
    }
}
