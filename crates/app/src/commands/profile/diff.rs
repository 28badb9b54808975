//! Shows what a change of a text would change, line by line. Never shows a possible credential.

use crate::output::{Look, Style};
use crate::words;

/// Lines shown around a change.
const AROUND: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// The lines that change, with a little of what stands around them.
pub(crate) fn drawn(before: &str, after: &str, look: Look) -> String {
    let lines = compared(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    // Masked byte for byte: the lines stay the same ones.
    let (before, after) = (hotspare_config::masked(before), hotspare_config::masked(after));
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let changes: Vec<usize> = lines.iter().enumerate().filter(|(_, (side, _))| *side != Side::Both).map(|(place, _)| place).collect();
    let is_near = |place: usize| changes.iter().any(|change| change.abs_diff(place) <= AROUND);
    let mut shown = Vec::new();
    let mut left_out = false;
    for (place, (side, line)) in lines.iter().enumerate() {
        let text = if *side == Side::New { &after } else { &before };
        if !is_near(place) {
            left_out = true;
            continue;
        }
        if std::mem::take(&mut left_out) && !shown.is_empty() {
            shown.push(look.paint.paint(Style::Dim, look.sign("  ⋮", "  ...")));
        }
        let line = words::fit(text.get(*line).copied().unwrap_or_default().trim_end(), usize::MAX, look.unicode);
        shown.push(match side {
            Side::Both => look.paint.paint(Style::Dim, &format!("  {line}")),
            Side::Old => look.paint.paint(Style::Red, &format!("- {line}")),
            Side::New => look.paint.paint(Style::Green, &format!("+ {line}")),
        });
    }
    shown.join("\n")
}

/// Which lines have stayed, gone and come, by their places in the old text, or in the new one. The longest common sequence decides;
/// configurations are short.
fn compared(old: &[&str], new: &[&str]) -> Vec<(Side, usize)> {
    let start = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(one, other)| one == other).count();
    let (old_middle, new_middle) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    // Longest common sequence of what begins at each pair of places.
    let mut common = vec![vec![0_usize; new_middle.len() + 1]; old_middle.len() + 1];
    for i in (0..old_middle.len()).rev() {
        for j in (0..new_middle.len()).rev() {
            common[i][j] = if old_middle[i] == new_middle[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut lines: Vec<(Side, usize)> = (0..start).map(|line| (Side::Both, line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < old_middle.len() || j < new_middle.len() {
        if i < old_middle.len() && j < new_middle.len() && old_middle[i] == new_middle[j] {
            lines.push((Side::Both, start + i));
            (i, j) = (i + 1, j + 1);
        } else if j == new_middle.len() || (i < old_middle.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push((Side::Old, start + i));
            i += 1;
        } else {
            lines.push((Side::New, start + j));
            j += 1;
        }
    }
    lines.extend((old.len() - end..old.len()).map(|line| (Side::Both, line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;
    use proptest::prelude::*;

    fn look() -> Look {
        Look { paint: Paint(false), unicode: true, width: None }
    }

    #[test]
    fn changes_are_shown_with_their_neighbours_and_without_credentials() {
        let text = |port: u32, secret: &str| {
            format!(
                "{{\n  \"server\": {{\n    \"max_connections\": {port}\n  }},\n  // one\n  // two\n  // three\n  // four\n  // five\n  \"profiles\": {{\n    \"a\": {{ \"auth\": {{ \"value\": \"{secret}\" }} }}\n  }}\n}}\n"
            )
        };
        let shown = drawn(&text(7, "hunter2"), &text(8, "hunter3"), look());
        assert_eq!(
            shown,
            "  {\n    \"server\": {\n-     \"max_connections\": 7\n+     \"max_connections\": 8\n    },\n    //\n  ⋮\n    //\n    \"profiles\": {\n-     \"a\": { \"auth\": { \"value\": \"*******\" } }\n+     \"a\": { \"auth\": { \"value\": \"*******\" } }\n    }\n  }"
        );
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_back(old in proptest::collection::vec("[ab]?", 0..12), new in proptest::collection::vec("[ab]?", 0..12)) {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let lines = compared(&old, &new);
            let of_old = lines.iter().filter(|(side, _)| *side != Side::New).map(|(_, line)| old[*line]).collect::<Vec<_>>();
            prop_assert_eq!(of_old, old.clone());
            let mut next = 0;
            for (side, line) in &lines {
                match side {
                    Side::Both => prop_assert_eq!(old[*line], new[next]),
                    Side::New => prop_assert_eq!(*line, next),
                    Side::Old => continue,
                }
                next += 1;
            }
            prop_assert_eq!(next, new.len());
        }
    }
}
