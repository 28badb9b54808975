//! Lays text out in columns that fit. Never breaks a line: what does not fit is shortened, the columns that matter least first.

use crate::output::{Look, Style};
use crate::words;

const GAP: usize = 2;

/// Fewest columns that a shortened cell keeps.
const FLOOR: usize = 8;

/// What stands in one place.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: None }
    }

    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style: Some(style) }
    }
}

/// Columns that the rows need where nothing is shortened.
pub(super) fn width(rows: &[Vec<Cell>]) -> usize {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count()).max().unwrap_or_default();
    (0..columns).map(widest).sum::<usize>() + GAP * columns.saturating_sub(1)
}

/// The rows as lines. `gives` are the columns that give way where there is too little room, the first one first.
pub(super) fn drawn(rows: &[Vec<Cell>], gives: &[usize], look: Look) -> String {
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| words::fit(&cell.text, usize::MAX, look.unicode)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |at: usize| shown.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count()).max().unwrap_or_default();
    let mut widths: Vec<usize> = (0..columns).map(widest).collect();
    if let Some(room) = look.width {
        for column in gives {
            let whole = widths.iter().sum::<usize>() + GAP * columns.saturating_sub(1);
            let over = whole.saturating_sub(room);
            widths[*column] = widths[*column].saturating_sub(over).max(FLOOR.min(widths[*column]));
        }
    }
    let line = |(row, texts): (&Vec<Cell>, &Vec<String>)| {
        let cells = row.iter().zip(texts).zip(&widths).map(|((cell, text), width)| {
            let text = words::fit(text, *width, look.unicode);
            let fill = " ".repeat(width.saturating_sub(text.chars().count()));
            cell.style.map_or_else(|| text.clone(), |style| look.paint.paint(style, &text)) + &fill
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    rows.iter().zip(&shown).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Paint;

    fn look(width: Option<usize>) -> Look {
        Look { paint: Paint(false), unicode: true, width }
    }

    #[test]
    fn columns_line_up_and_give_way_in_order() {
        let row = |cells: [&str; 3]| cells.map(Cell::plain).to_vec();
        let rows = [row(["NAME", "ADDRESS", "FROM"]), row(["work", "https://api.anthropic.com", "~/.config/hotspare/config.json:3"])];
        assert_eq!(
            drawn(&rows, &[2, 1], look(None)),
            "NAME  ADDRESS                    FROM\nwork  https://api.anthropic.com  ~/.config/hotspare/config.json:3"
        );
        assert_eq!(
            drawn(&rows, &[2, 1], look(Some(50))),
            "NAME  ADDRESS                    FROM\nwork  https://api.anthropic.com  ~/.config/hotspa…"
        );
        let narrow = drawn(&rows, &[2, 1], look(Some(30)));
        assert_eq!(narrow, "NAME  ADDRESS         FROM\nwork  https://api.a…  ~/.conf…");
        assert!(narrow.lines().all(|line| line.chars().count() <= 30));
    }
}
