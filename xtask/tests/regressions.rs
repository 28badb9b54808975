//! Keeps `docs/regressions.md` and the tests it names one thing: every row has its tests or says why not, and no test of a row is left out.
//!
//! To write the table's last column anew: `HOTSPARE_WRITE=1 cargo nextest run -p xtask --test regressions`.

use std::collections::BTreeSet;

mod sources;

use sources::{root, sources, tests_below};

/// The rows of the list.
const ROWS: std::ops::RangeInclusive<u32> = 1..=70;

/// What must have a test that names it, beside the rows: the cases of which we know what went wrong.
const FIELD: [(&str, &[u32]); 10] = [
    ("teamclaude", &[13, 84, 106, 137, 139, 156, 193, 285, 305, 306, 307, 332, 342, 407, 412]),
    ("subrouter", &[16, 26]),
    ("litellm", &[31499, 32202]),
    ("cliproxyapi", &[1584, 1763, 4884]),
    ("krouter", &[11]),
    ("better-ccflare", &[52]),
    ("opencodex", &[3809]),
    ("praxis", &[739]),
    ("cve-2026", &[42208]),
    ("agentgateway", &[2350]),
];

/// A test of a row, by its name: `r15_r16_whatever` belongs to 15 and 16.
#[derive(Debug)]
struct Named {
    name: String,
    path: String,
    rows: Vec<u32>,
    doc: String,
}

/// The rows that a name begins with.
fn rows(name: &str) -> Vec<u32> {
    let row = |part: &str| part.strip_prefix('r').and_then(|number| number.parse().ok());
    name.split('_').map_while(row).collect()
}

fn named() -> Vec<Named> {
    tests_below().map(|test| Named { rows: rows(&test.name), name: test.name, path: test.path, doc: test.doc }).collect()
}

/// The cases that a comment names: the number behind a `#` belongs to the last name before it; `CVE-…` is its own.
fn cases(doc: &str) -> BTreeSet<(String, u32)> {
    let mut found = BTreeSet::new();
    let mut repository = String::new();
    for word in doc.split([' ', ',', ';', '(', ')']).map(|word| word.trim_matches(['`', '.', ':'])).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        let (name, number) =
            word.split_once('#').or_else(|| word.rsplit_once('-').filter(|_| word.starts_with("cve-"))).unwrap_or((&word, ""));
        if !name.is_empty() {
            name.rsplit('/').next().unwrap_or_default().trim_matches('`').clone_into(&mut repository);
        }
        if let Ok(number) = number.parse() {
            found.insert((repository.clone(), number));
        }
    }
    found
}

/// What stands in the last column of a row with tests.
fn column(row: u32, tests: &[Named]) -> String {
    let of_row = tests.iter().filter(|test| test.rows.contains(&row));
    of_row.map(|test| format!("`{}` ({})", test.name, test.path)).collect::<Vec<_>>().join("<br>")
}

#[test]
fn the_table_names_every_test_of_a_row_and_nothing_else() {
    let path = root().join("docs/regressions.md");
    let document = std::fs::read_to_string(&path).expect("the document is there");
    let tests = named();
    let unknown: Vec<&Named> = tests.iter().filter(|test| test.rows.iter().any(|row| !ROWS.contains(row))).collect();
    assert!(unknown.is_empty(), "there is no such row: {unknown:#?}");
    let (mut written, mut seen) = (Vec::new(), Vec::new());
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let row = cells[0].strip_prefix('R').and_then(|number| number.parse::<u32>().ok()).filter(|_| line.starts_with("| R"));
        let Some(row) = row else {
            written.push(line.to_owned());
            continue;
        };
        assert_eq!(cells.len(), 3, "R{row}: a row, what went wrong, and what holds it");
        let expected = column(row, &tests);
        let reason = cells[2].starts_with("Not yet: ") || cells[2].starts_with("No test: ");
        assert!(
            !expected.is_empty() || reason && !cells[2].contains("fn "),
            "R{row} has no test: it says `Not yet: ` or `No test: `, and why"
        );
        let held = if expected.is_empty() { cells[2] } else { &expected };
        written.push(format!("| R{row} | {} | {held} |", cells[1]));
        seen.push(row);
    }
    assert_eq!(seen, ROWS.collect::<Vec<_>>(), "each row once, in order");
    if std::env::var_os("HOTSPARE_WRITE").is_some() {
        return std::fs::write(path, written.join("\n") + "\n").expect("written");
    }
    let advice = "run `HOTSPARE_WRITE=1 cargo nextest run -p xtask --test regressions`, and look at the difference";
    for (old, new) in document.lines().zip(&written) {
        assert_eq!(old, new, "docs/regressions.md is not what the tests are: {advice}");
    }
}

#[test]
fn every_test_of_a_row_says_what_it_is_about_and_every_known_case_is_named() {
    let tests = named();
    let silent: Vec<&str> =
        tests.iter().filter(|test| !test.rows.is_empty() && test.doc.is_empty()).map(|test| test.name.as_str()).collect();
    assert!(silent.is_empty(), "tests of a row without a word on what went wrong in the field: {silent:#?}");
    let told: BTreeSet<(String, u32)> = tests.iter().flat_map(|test| cases(&test.doc)).collect();
    let missing = FIELD.iter().flat_map(|(name, numbers)| numbers.iter().map(move |number| ((*name).to_owned(), *number)));
    let missing: Vec<(String, u32)> = missing.filter(|case| !told.contains(case)).collect();
    assert!(missing.is_empty(), "no test names them: {missing:?}");
}

#[test]
fn a_comment_s_cases_are_read() {
    let known = |name: &str, number| (name.to_owned(), number);
    let read = cases("teamclaude #84 #89, router-for-me/CLIProxyAPI#5915 (x): `LiteLLM` #1, `LiteLLM` CVE-2026-42208: y");
    let expected = [("teamclaude", 84), ("teamclaude", 89), ("cliproxyapi", 5915), ("litellm", 1), ("cve-2026", 42208)];
    assert_eq!(read, expected.map(|(name, number)| known(name, number)).into());
}

/// shunt sends telemetry to a third party unless it is told not to (measured). Only `upstream` talks to the world here, and to nobody but
/// the profiles' own addresses; the commands and `demo` talk to a hotspare of this machine, and the service to the systemd that started it.
#[test]
fn r55_nobody_but_the_profiles_is_ever_called() {
    const CALLS: [&str; 6] = ["TcpStream::connect", "TcpSocket", "UdpSocket", "UnixStream::connect", "UnixDatagram", "HttpConnector"];
    const MAY: [&str; 7] = [
        "crates/app/src/commands/demo/stage.rs",
        "crates/app/src/commands/service/notify.rs",
        "crates/app/src/gateways.rs",
        "crates/app/src/wiring/listener.rs",
        "crates/gateway/src/intercept/proof.rs",
        "crates/upstream/src/connect.rs",
        "crates/upstream/src/proxy.rs",
    ];
    let shipped = sources("crates").into_iter().filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("tests.rs"));
    let calls = shipped.filter(|(_, source)| {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        CALLS.iter().any(|call| code.contains(call))
    });
    assert_eq!(calls.map(|(path, _)| path).collect::<Vec<_>>(), MAY);
}
