//! Reads the tables of another tool's database, from the file of SQLite or from a dump of its text. Nothing is executed and nothing is
//! written beside the file.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Most rows of one table.
pub(super) const MAX_ROWS: usize = 4096;

/// Largest database that is copied so that what its running program has not written back is seen too.
const COPY_CAP: u64 = 64 * 1024 * 1024;

/// A row by the names of its columns, in lower case; what is null is missing.
pub(super) type Row = HashMap<String, String>;

/// The text of a column; empty if it is not there.
pub(super) fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).map_or("", |text| text.trim())
}

/// Whether a column says yes.
pub(super) fn is_set(row: &Row, column: &str) -> bool {
    matches!(text(row, column).to_ascii_lowercase().as_str(), "1" | "true")
}

/// Tables by name.
pub(super) enum Tables {
    Database { connection: Connection, _copy: Option<tempfile::TempDir>, is_behind: bool },
    Dump(HashMap<String, Vec<Row>>),
}

impl Tables {
    /// Opens a file of SQLite.
    pub(super) fn open(file: &Path) -> Option<Self> {
        let wal = PathBuf::from(format!("{}-wal", file.display()));
        let size = |file: &Path| fs::metadata(file).map_or(0, |metadata| metadata.len());
        let has_wal = size(&wal) > 0;
        // Opened as it is, SQLite would make or change files beside it. A private copy with the log shows all that is committed.
        if has_wal && size(file) + size(&wal) <= COPY_CAP {
            let copy = tempfile::Builder::new().prefix("hotspare-import-").tempdir().ok()?;
            let to = copy.path().join("copy.db");
            fs::copy(file, &to).ok()?;
            fs::copy(&wal, copy.path().join("copy.db-wal")).ok()?;
            let connection = Connection::open_with_flags(&to, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX).ok()?;
            return Some(Self::Database { connection, _copy: Some(copy), is_behind: false });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("{}?immutable=1", uri(file)), flags).ok()?;
        Some(Self::Database { connection, _copy: None, is_behind: has_wal })
    }

    /// Reads a dump: `CREATE TABLE` for the columns' names and `INSERT INTO` for the rows. Everything else is passed over.
    pub(super) fn dump(text: &str) -> Self {
        let mut columns: HashMap<String, Vec<String>> = HashMap::new();
        let mut tables: HashMap<String, Vec<Row>> = HashMap::new();
        for statement in statements(text) {
            if let Some((table, names)) = created(&statement) {
                columns.insert(table, names);
            } else if let Some((table, names, rows)) = inserted(&statement) {
                let names = names.or_else(|| columns.get(&table).cloned()).unwrap_or_default();
                let known = tables.entry(table).or_default();
                for values in rows.into_iter().take((MAX_ROWS + 1).saturating_sub(known.len())) {
                    known.push(names.iter().cloned().zip(values).filter_map(|(name, value)| Some((name, value?))).collect());
                }
            }
        }
        Self::Dump(tables)
    }

    /// The rows of a table, at most one more than [`MAX_ROWS`]. `None` if there is no such table.
    pub(super) fn rows(&self, table: &str) -> Option<Vec<Row>> {
        match self {
            Self::Dump(tables) => tables.get(table).cloned(),
            Self::Database { connection, .. } => read(connection, table).ok(),
        }
    }

    /// True if the program that owns the database has rows that are not seen here.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::Database { is_behind: true, .. })
    }
}

fn read(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Row>> {
    // The table's name is one of ours.
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\" LIMIT {}", MAX_ROWS + 1))?;
    let names: Vec<String> = statement.column_names().map(str::to_ascii_lowercase).collect();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Row::new();
        for (at, name) in names.iter().enumerate() {
            let value = match row.get_ref(at)? {
                ValueRef::Null => continue,
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
            };
            columns.insert(name.clone(), value);
        }
        found.push(columns);
    }
    Ok(found)
}

fn uri(file: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in file.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// A token of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A bare word or a number.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A string.
    Text(String),
    /// `X'…'`
    Bytes(String),
    Sign(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<String> {
        match self {
            // SQLite takes a string for a name too.
            Self::Word(name) | Self::Name(name) | Self::Text(name) => Some(name.to_ascii_lowercase()),
            Self::Bytes(_) | Self::Sign(_) => None,
        }
    }
}

/// The statements of a dump as tokens; comments are dropped.
fn statements(text: &str) -> Vec<Vec<Token>> {
    let mut statements = vec![Vec::new()];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            continue;
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, rest)| rest);
            continue;
        } else if let Some(close) = closing(first) {
            let (inside, behind) = quoted(&rest[first.len_utf8()..], close);
            rest = behind;
            if first == '\'' { Token::Text(inside) } else { Token::Name(inside) }
        } else if matches!(first, 'x' | 'X') && rest[1..].starts_with('\'') {
            let (inside, behind) = quoted(&rest[2..], '\'');
            rest = behind;
            Token::Bytes(unhexed(&inside))
        } else if first.is_alphanumeric() || matches!(first, '_' | '-' | '+' | '.') {
            let end = rest[first.len_utf8()..]
                .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '+')))
                .map_or(rest.len(), |at| at + first.len_utf8());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            Token::Word(word.to_owned())
        } else {
            rest = &rest[first.len_utf8()..];
            if first == ';' {
                statements.push(Vec::new());
                continue;
            }
            Token::Sign(first)
        };
        if let Some(statement) = statements.last_mut() {
            statement.push(token);
        }
    }
    statements
}

fn closing(open: char) -> Option<char> {
    match open {
        '\'' | '"' | '`' => Some(open),
        '[' => Some(']'),
        _ => None,
    }
}

/// The text up to the closing quote, doubled ones undone, and what is behind it.
fn quoted(text: &str, close: char) -> (String, &str) {
    let mut inside = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(close) {
        inside.push_str(&rest[..at]);
        rest = &rest[at + close.len_utf8()..];
        match rest.strip_prefix(close) {
            Some(behind) if close != ']' => {
                inside.push(close);
                rest = behind;
            }
            _ => return (inside, rest),
        }
    }
    inside.push_str(rest);
    (inside, "")
}

fn unhexed(digits: &str) -> String {
    let bytes: Vec<u8> =
        digits.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The table and its columns, of `CREATE TABLE name (column …, …)`.
fn created(statement: &[Token]) -> Option<(String, Vec<String>)> {
    let mut tokens = statement.iter();
    if !(tokens.next()?.is("create") && tokens.next()?.is("table")) {
        return None;
    }
    let mut tokens = tokens.skip_while(|token| ["if", "not", "exists"].iter().any(|word| token.is(word)));
    let table = tokens.next()?.name()?;
    let (mut depth, mut is_first, mut columns) = (0_usize, false, Vec::new());
    for token in tokens {
        match token {
            Token::Sign('(') => {
                depth += 1;
                is_first = depth == 1;
            }
            Token::Sign(')') => depth = depth.saturating_sub(1),
            Token::Sign(',') if depth == 1 => is_first = true,
            token if depth == 1 && std::mem::take(&mut is_first) => {
                let is_constraint = ["primary", "foreign", "unique", "check", "constraint"].iter().any(|word| token.is(word));
                columns.extend(token.name().filter(|_| !is_constraint));
            }
            _ => {}
        }
    }
    Some((table, columns))
}

type Rows = Vec<Vec<Option<String>>>;

/// The table, its columns where they are named, and the rows, of `INSERT INTO name (column, …) VALUES (…), (…)`.
fn inserted(statement: &[Token]) -> Option<(String, Option<Vec<String>>, Rows)> {
    let into = statement.iter().take(5).position(|token| token.is("into"))?;
    if !statement.first()?.is("insert") && !statement.first()?.is("replace") {
        return None;
    }
    let table = statement.get(into + 1)?.name()?;
    let values = statement.iter().position(|token| token.is("values"))?;
    let between = statement.get(into + 2..values)?;
    let columns = (!between.is_empty()).then(|| between.iter().filter_map(Token::name).collect());
    let mut rows = Vec::new();
    let (mut depth, mut row, mut value): (usize, Vec<Option<String>>, Option<String>) = (0, Vec::new(), None);
    for token in &statement[values + 1..] {
        match token {
            Token::Sign('(') => {
                depth += 1;
                if depth == 1 {
                    (row, value) = (Vec::new(), None);
                }
            }
            Token::Sign(')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    row.push(value.take());
                    rows.push(std::mem::take(&mut row));
                }
            }
            Token::Sign(',') if depth == 1 => row.push(value.take()),
            Token::Text(text) | Token::Bytes(text) | Token::Name(text) => value = Some(text.clone()),
            // `CAST(X'…' AS TEXT)` has its value inside.
            Token::Word(word) if depth == 1 && !token.is("null") && !token.is("cast") => value = Some(word.clone()),
            Token::Word(_) | Token::Sign(_) => {}
        }
    }
    Some((table, columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_is_read_with_quotes_nulls_casts_and_many_rows() {
        let text = "-- a dump; with a comment\nPRAGMA user_version=3;\nCREATE TABLE IF NOT EXISTS t (id TEXT NOT NULL, n INTEGER DEFAULT (1), [w d] TEXT, PRIMARY KEY (id, n));\n\
            INSERT INTO \"t\" (\"id\", \"n\") VALUES ('it''s; a \"b\"', -1), (NULL, 2.5),(CAST(X'6b' AS TEXT), 3);\n/* ; */ INSERT INTO t VALUES('x',NULL,X'c3a9');\nINSERT INTO t VALUES('open";
        let rows = Tables::dump(text).rows("t").expect("a table");
        let row = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Row>();
        assert_eq!(
            rows,
            [
                row(&[("id", "it's; a \"b\""), ("n", "-1")]),
                row(&[("n", "2.5")]),
                row(&[("id", "k"), ("n", "3")]),
                row(&[("id", "x"), ("w d", "é")]),
            ]
        );
        assert!(Tables::dump("").rows("t").is_none());
    }

    #[test]
    fn database_is_seen_with_what_its_log_holds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("a b%.db");
        let writer = Connection::open(&file).expect("opened");
        writer
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT, n INTEGER); INSERT INTO t VALUES ('a', 1);")
            .expect("written");
        let names = || fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        let before = names();
        let tables = Tables::open(&file).expect("opened");
        let rows = tables.rows("t").expect("a table");
        assert!(text(&rows[0], "id") == "a" && is_set(&rows[0], "n") && !tables.is_behind());
        assert_eq!(names(), before);
        drop(writer);
        assert_eq!(Tables::open(&file).expect("opened").rows("t").expect("a table").len(), 1);
        assert!(Tables::open(&file).expect("opened").rows("none").is_none());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_dump_gets_an_answer(text in "(INSERT INTO t|VALUES|CREATE TABLE t|[(),;'\"`\\[\\]xX0a é\\-/*.])*|(?s).{0,60}") {
            Tables::dump(&text);
        }
    }
}
