//! A bug of ours: a panic wherever one exchange looks at the time or throws dice. It ends that exchange at most, and tells nobody a secret.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hotspare_gateway::{Options, Outside};
use hotspare_testkit::Script;
use serde_json::json;

use crate::client::{Ask, Connection, End};
use crate::proxy::{CLIENT_KEY, FROM_SPARE, Proxy, SPARE_KEY, TOKEN, healthy, options, pair, plays};

/// Burns with each step that is taken, and goes off once.
#[derive(Default)]
struct Fuse(AtomicUsize);

impl Fuse {
    fn light(&self, steps: usize) {
        self.0.store(steps, Ordering::Relaxed);
    }

    /// Puts it out. True: it has gone off.
    fn put_out(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) == 0
    }

    fn burn(&self) {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert_ne!(left, Ok(1), "a bug that this test makes");
    }
}

/// What panics say, besides on the screen.
fn overheard() -> Arc<Mutex<String>> {
    let heard = Arc::new(Mutex::new(String::new()));
    let (before, also) = (std::panic::take_hook(), heard.clone());
    std::panic::set_hook(Box::new(move |panic| {
        also.lock().expect("nothing panics here").push_str(&panic.to_string());
        before(panic);
    }));
    heard
}

#[tokio::test]
async fn a_bug_in_one_exchange_harms_no_other() {
    let heard = overheard();
    let fuse = Arc::new(Fuse::default());
    let (by_wall, by_dice) = (fuse.clone(), fuse.clone());
    let wall = move || {
        by_wall.burn();
        SystemTime::now()
    };
    let dice = move || {
        by_dice.burn();
        0.5
    };
    let outside = Outside::default().with_wall(wall).with_dice(dice);
    let (primary, spare) = (plays(Script::error(529, "overloaded_error", "busy")).await, healthy(FROM_SPARE).await);
    let config = pair(&primary.url(), &spare.url(), &json!({}));
    let (proxy, _) = Proxy::start_with(&config, Options { outside, ..options() }).await;
    let (mut answered, mut cut, mut steps) = (0, 0, 0);
    loop {
        steps += 1;
        fuse.light(steps);
        let mut connection = Connection::open(proxy.addr).await;
        connection.ask(&Ask::turn().session("unlucky")).await;
        match connection.answer_to("POST").await {
            Some(answer) if answer.status == 500 => {
                assert!(answer.text().contains("a bug of ours"), "{}", answer.text());
                answered += 1;
            }
            Some(answer) if answer.end == End::Whole => assert_eq!(answer.status, 200, "{}", answer.text()),
            _ => cut += 1,
        }
        let went_off = fuse.put_out();
        // Whoever comes next is served as if nothing had been.
        let next = proxy.ask(&Ask::turn().session("lucky")).await;
        assert_eq!((next.status, next.end), (200, End::Whole), "after step {steps}: {}", next.text());
        if !went_off {
            break;
        }
    }
    println!("bugs: at {} places; {answered} answered with 500, {cut} cut", steps - 1);
    assert!(answered >= 2, "{answered} answers in {steps} steps");
    let said = heard.lock().expect("nothing panics here").clone();
    assert!(said.contains("a bug that this test makes"), "{said}");
    for secret in [TOKEN, CLIENT_KEY, SPARE_KEY] {
        assert!(!said.contains(secret), "{said}");
    }
}
