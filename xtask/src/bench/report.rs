//! Prints figures and judges them against the aims. Never measures.

/// One aim and what became of it.
#[derive(Debug)]
pub(super) struct Aim {
    pub(super) what: String,
    pub(super) measured: f64,
    pub(super) at_most: f64,
    pub(super) unit: &'static str,
    /// What the machine shows without us, where that helps to judge; else empty.
    pub(super) beside: String,
}

impl Aim {
    /// One that is not measured yet, and is missed for as long as it is not.
    pub(super) fn new(what: impl Into<String>, at_most: f64, unit: &'static str) -> Self {
        Self { what: what.into(), measured: f64::NAN, at_most, unit, beside: String::new() }
    }

    /// The line that is printed, and whether the aim is met.
    pub(super) fn judge(&self) -> (String, bool) {
        let met = self.measured <= self.at_most;
        let Self { what, measured, at_most, unit, beside } = self;
        let verdict = if met { "met" } else { "missed" };
        (format!("aim {what}: {measured:.2}{unit}, at most {at_most}{unit}: {verdict}{beside}"), met)
    }
}

/// Prints rows under a heading, columns as wide as their widest cell; the first column to the left, the others to the right.
pub(super) fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n{title}");
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column)).map(|cell| cell.chars().count());
    let widths: Vec<usize> =
        head.iter().enumerate().map(|(column, name)| cells(column).chain([name.chars().count()]).max().unwrap_or_default()).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate();
        let padded = padded.map(|(column, (cell, &width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        println!("  {}", padded.collect::<Vec<_>>().join("  "));
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// A number with one digit behind the point.
pub(super) fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// How many times the base; nothing to say where the base is too small to divide by.
pub(super) fn ratio(value: f64, base: f64) -> String {
    if base > 0.0 { format!("{:.2}x", value / base) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_at_its_limit_and_missed_beyond_or_without_a_number() {
        let judge = |measured| Aim { measured, ..Aim::new("x", 4.0, "x") }.judge().1;
        assert!(judge(4.0));
        assert!(!judge(4.01));
        assert!(!judge(f64::NAN) && !Aim::new("x", 4.0, "x").judge().1);
    }
}
