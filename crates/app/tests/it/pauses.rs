//! `profile pause` and `resume`: with gateways running and with none, over a restart, and where nobody else is left.

use hotspare_core::lasting::LastingPause;
use hotspare_gateway::lasting::load;
use hotspare_testkit::Script;
use hotspare_testkit::answers::text;
use serde_json::{Value, json};

use crate::lasting::{World, comes, stopped};

async fn world() -> World {
    World::with(|| Script::new().sse().events(&text("fine")).end()).await
}

#[tokio::test]
async fn a_paused_profile_is_not_asked_until_it_is_resumed() {
    let world = world().await;
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 0));
    let told = world.user.runs(&["profile", "pause", "work", "--for", "2h"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(told.stdout, format!("serve {proxy}: work is not asked for 2 h\nundo: `hotspare profile resume work`\n"));
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 1));
    let status = world.user.runs(&["status"]).await.stdout;
    assert!(status.contains("\n  paused work is not asked for "), "{status}");
    assert!(status.contains(" more; undo: hotspare profile resume work\n"), "{status}");
    let status = world.status().await;
    assert_eq!((&status["profiles"][0]["state"], &status["pauses"][0]["profile"]), (&json!("paused"), &json!("work")));
    // `reset` is about what was learned, not about the user's word.
    world.user.runs(&["reset"]).await;
    world.turn(proxy).await;
    assert_eq!(world.asked(), (1, 2));
    world.user.runs(&["switch", "work"]).await.fails(1, &["`work` is paused: `hotspare profile resume work` first"]);
    let told = world.user.runs(&["profile", "resume", "work"]).await;
    assert!(told.stdout.contains("work may be asked again\nundo: `hotspare profile pause work`"), "{told:?}");
    world.turn(proxy).await;
    assert_eq!((world.asked(), &world.status().await["pauses"]), ((2, 2), &json!([])));
    // A short one is over by itself.
    world.json(&["profile", "pause", "work", "--for", "1s", "--json"]).await;
    comes("the end of the pause", async || world.status().await["pauses"] == json!([])).await;
    stopped(child).await;
}

#[tokio::test]
async fn the_last_one_is_paused_only_by_a_word_that_says_so() {
    let world = world().await;
    let (child, proxy) = world.serving().await;
    world.user.runs(&["profile", "pause", "work"]).await;
    let refused = "nobody but `backup` is left to ask in chain `default`";
    world.user.runs(&["profile", "pause", "backup"]).await.fails(1, &[refused, "--even-last"]);
    assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.asked(), (0, 1));
    let told = world.user.runs(&["profile", "pause", "backup", "--even-last"]).await;
    assert!(
        told.code == Some(0) && told.stdout.contains("\n  warning: of chain `default` only work is left: that pause has no effect"),
        "{told:?}"
    );
    stopped(child).await;
}

#[tokio::test]
async fn a_pause_of_everybody_is_told_to_the_client() {
    let world = world().await;
    let (child, proxy) = world.serving().await;
    for name in ["work", "backup"] {
        world.user.runs(&["profile", "pause", name, "--even-last"]).await;
    }
    let answer = world.turn(proxy).await;
    assert!(answer.starts_with("HTTP/1.1 424") && answer.contains("work paused (`hotspare profile resume`)"), "{answer}");
    let status = world.user.runs(&["status"]).await.stdout;
    assert!(status.contains("No profile is usable"), "{status}");
    assert_eq!(world.asked(), (0, 0));
    let resumed = world.json(&["profile", "resume", "--json"]).await;
    assert_eq!(resumed["gateways"][0]["answer"]["resumed"], json!(["work", "backup"]));
    assert!(world.turn(proxy).await.starts_with("HTTP/1.1 200"));
    stopped(child).await;
}

#[tokio::test]
async fn a_pause_with_none_running_is_seen_by_the_next_start_and_outlives_it() {
    let world = world().await;
    world.user.runs(&["profile", "pause", "wrok"]).await.fails(2, &["did you mean `work`?"]);
    let told = world.user.runs(&["profile", "pause", "work"]).await;
    assert!(told.stdout.starts_with("nothing is running; for the next start: work is not asked until you resume it"), "{told:?}");
    world.user.runs(&["profile", "pause", "backup"]).await.fails(1, &["nobody but `backup` is left"]);
    world.user.runs(&["switch", "work"]).await.fails(1, &["`work` is paused"]);
    for turns in 1..3 {
        let (child, proxy) = world.serving().await;
        world.turn(proxy).await;
        assert_eq!(world.asked(), (0, turns));
        stopped(child).await;
    }
    assert_eq!(load::<LastingPause>(&world.store()).len(), 1);
    let told = world.user.runs(&["profile", "resume"]).await;
    assert!(told.stdout.starts_with("nothing is running; for the next start: work may be asked again"), "{told:?}");
    let (child, proxy) = world.serving().await;
    world.turn(proxy).await;
    assert_eq!((world.asked(), &world.status().await["pauses"]), ((1, 2), &json!([])));
    stopped(child).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_made() {
    let world = world().await;
    let before = world.user.everything();
    world.user.runs(&["profile", "pause", "work", "--for", "9d"]).await.fails(2, &["`--for` is from 1s to 8d"]);
    world.user.runs(&["profile", "resume", "wrok"]).await.fails(2, &["did you mean `work`?"]);
    let told = world.user.runs(&["profile", "resume"]).await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(0), "nothing is running; for the next start: nobody was paused\n"));
    assert_eq!(world.user.everything(), before);
    assert_eq!(world.user.runs(&["schema", "pause"]).await.code, Some(0));
    let schema: Value = serde_json::from_str(&world.user.runs(&["schema", "resume"]).await.stdout).expect("JSON");
    assert_eq!(schema["title"], "hotspare profile resume");
}
