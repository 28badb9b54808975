//! Holds the pictures of `demo` as people see them, at two widths, without colour and without Unicode. Never plays an act.

use super::*;
use crate::output::Paint;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The third act in the middle and in the end: the primary broke off, the spare answers, then has answered.
fn acts(look: Look, width: usize) -> String {
    let mut timeline = Timeline::new(true, look);
    let waiting = timeline.picture(at(0), "", width);
    timeline.lanes[0] = Lane {
        bars: vec![Bar { from: at(0), answers_from: Some(at(230)), to: Some(at(1680)) }],
        words: "connection broke before the answer was complete".into(),
        failed: true,
        ended: Some(at(1680)),
    };
    timeline.lanes[1] = Lane {
        bars: vec![Bar { from: at(1680), answers_from: Some(at(1900)), to: None }],
        words: "answers".into(),
        failed: false,
        ended: None,
    };
    let answer =
        "Retries alone would not have helped: the lock was held. I moved the reaper out of the critical section, and the tests pass.";
    let middle = timeline.picture(at(2300), &answer[..60], width);
    timeline.lanes[1].words = "answered".into();
    timeline.lanes[1].close(at(2790));
    let end = timeline.picture(at(2790), answer, width);
    [waiting, middle, end].map(|lines| lines.iter().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")).join("\n\n")
}

#[test]
fn the_pictures_fit_with_and_without_colour_and_unicode() {
    for (name, width, colour, unicode) in
        [("80", 80, false, true), ("120", 120, false, true), ("ascii", 80, false, false), ("colour", 80, true, true)]
    {
        let text = acts(Look { paint: Paint(colour), unicode, width: Some(width) }, width);
        assert!(colour || text.lines().all(|line| line.chars().count() <= width), "{text}");
        assert!(unicode || text.is_ascii(), "{text}");
        insta::assert_snapshot!(name, text);
    }
}
