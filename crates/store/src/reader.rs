//! Looks at the ledger from any process, beside one that writes or with none. Never changes anything.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hotspare_core::ExchangeRecord;
use hotspare_core::record::id_text;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::database::{self, FILE, Fault, SCHEMA_VERSION};
use crate::rows::{self, signed, unsigned};
use crate::state::StateEntry;

/// Longest that a look waits for another process.
const PATIENCE: Duration = Duration::from_secs(2);

/// Fewest digits of an id that are looked for.
const FEWEST_DIGITS: usize = 4;

/// Digits of an id.
const DIGITS: usize = 16;

/// Most ids that an ambiguous one is explained with.
const AMBIGUOUS_SHOWN: i64 = 4;

/// True of a drill's own request, of which nothing was real.
const IS_PLAYED: &str = "json_extract(record, '$.drill.live') IS 0";

/// The last request that was not a drill's own.
fn last() -> String {
    format!(
        "SELECT seq, strftime('%Y-%m-%d %H:%M:%S', at_ms / 1000, 'unixepoch', 'localtime'), id, record
        FROM exchanges WHERE endpoint = 'messages' AND NOT ({IS_PLAYED}) ORDER BY seq DESC LIMIT 1"
    )
}

const BY_ID: &str = "SELECT seq, strftime('%Y-%m-%d %H:%M:%S', at_ms / 1000, 'unixepoch', 'localtime'), id, record
    FROM exchanges WHERE id = ?1 ORDER BY seq DESC LIMIT 1";

const IDS_WITH: &str = "SELECT DISTINCT id FROM exchanges
    WHERE substr(printf('%016x', id), 1, length(?1)) = ?1 OR ?2 AND substr(printf('%016x', id), -length(?1)) = ?1 ORDER BY id LIMIT ?3";

const LATEST: &str = "SELECT seq, strftime('%Y-%m-%d %H:%M:%S', at_ms / 1000, 'unixepoch', 'localtime'), record
    FROM exchanges WHERE seq > ?1 AND at_ms >= ?2 AND (failover OR NOT ?3) ORDER BY seq DESC LIMIT ?4";

const NEXT: &str = "SELECT seq, strftime('%Y-%m-%d %H:%M:%S', at_ms / 1000, 'unixepoch', 'localtime'), record
    FROM exchanges WHERE seq > ?1 AND at_ms >= ?2 AND (failover OR NOT ?3) ORDER BY seq LIMIT ?4";

/// What else keeps totals apart, besides day, profile and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// The client's session.
    Session,
    /// The folder of the client.
    Folder,
}

impl Split {
    /// Selects it for a row of `attempts`; it stands in the record of the exchange alone.
    fn column(self) -> String {
        let key = match self {
            Self::Session => "session",
            Self::Folder => "folder",
        };
        format!("(SELECT json_extract(record, '$.{key}') FROM exchanges WHERE seq = attempts.exchange)")
    }
}

/// The sums of attempts from `?1` on, by the day that `day` computes, and by what `part` selects from their exchange.
fn totals_by(day: &str, part: &str) -> String {
    format!(
        "SELECT {day} AS day, profile, model, {part} AS part,
            count(*), count(class), sum(served), sum(wasted), sum(maybe_billed),
            sum(coalesce(input, output, cache_read, cache_write) IS NOT NULL),
            total(input), total(output), total(cache_read), total(cache_write), count(est_cost_micro_usd), total(est_cost_micro_usd)
        FROM attempts WHERE at_ms >= ?1 GROUP BY day, profile, model, part ORDER BY day, profile, model, min(at_ms)"
    )
}

const DAY_OF_ROW: &str = "strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch', 'localtime')";

/// Answered from an index alone (migration 2).
const COST: &str =
    "SELECT coalesce(sum(est_cost_micro_usd), 0) FROM attempts WHERE profile = ?1 AND at_ms >= ?2 AND est_cost_micro_usd > 0";

const TODAY: &str = "SELECT strftime('%Y-%m-%d', 'now', 'localtime'),
        CAST(strftime('%s', 'now', 'localtime', 'start of day', 'utc') AS INTEGER) * 1000";

/// The time of day by this machine's clock and time zone, `15:40`, of a time in seconds since 1970 (UTC). None: it is beyond any calendar.
pub fn local_clock(at: u64) -> Option<String> {
    let connection = Connection::open_in_memory().ok()?;
    connection.query_row("SELECT strftime('%H:%M', ?1, 'unixepoch', 'localtime')", params![signed(at)], |row| row.get(0)).ok()
}

/// The day to which a time belongs, by this machine's calendar: its two midnights, in milliseconds since 1970 (UTC). None: it is beyond any
/// calendar.
pub fn local_day(at_ms: u64) -> Option<(u64, u64)> {
    const DAY: &str = "SELECT CAST(strftime('%s', ?1, 'unixepoch', 'localtime', 'start of day', 'utc') AS INTEGER),
        CAST(strftime('%s', ?1, 'unixepoch', 'localtime', 'start of day', '+1 day', 'utc') AS INTEGER)";
    let connection = Connection::open_in_memory().ok()?;
    let midnights = connection.query_row(DAY, [signed(at_ms / 1000)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (begins, ends) = midnights.ok()?;
    let ms = |seconds: i64| unsigned(seconds).saturating_mul(1000);
    Some((ms(begins), ms(ends))).filter(|(begins, ends)| (*begins..*ends).contains(&at_ms))
}

/// Reads the ledger.
pub struct Reader {
    connection: Connection,
}

/// One exchange, as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its place: later ones ended later.
    pub seq: i64,
    /// When it began, by this machine's clock and time zone: `2026-01-31 14:56:02`.
    pub local_time: String,
    /// How it went.
    pub record: ExchangeRecord,
}

/// Which exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Not before this, in milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// Only those that left the chain's first profile.
    pub failovers: bool,
    /// Only those with a later place than this one; then the earliest come, else the latest.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Exchanges, in the order in which they ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// What was found.
    pub rows: Vec<Row>,
    /// How many more were found that a newer hotspare wrote and this one cannot read.
    pub unreadable: u64,
    /// The last place that was looked at.
    pub last_seq: Option<i64>,
}

/// What one profile did for one model on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// `2026-01-31`, in this machine's time zone.
    pub day: String,
    /// The profile's name.
    pub profile: String,
    /// The model, where one was named.
    pub model: Option<String>,
    /// The client's session id or the folder whose rules held, by which [`Reader::totals_split`] keeps apart. `None` if there is none, or if
    /// they are added up.
    pub part: Option<String>,
    /// Attempts.
    pub attempts: u64,
    /// Of those, failed ones.
    pub failed: u64,
    /// Of those, answers that a client got.
    pub served: u64,
    /// Of those, answers that were thrown away although they were paid for.
    pub wasted: u64,
    /// Of those, attempts that may be billed although no count of tokens was seen.
    pub maybe_billed: u64,
    /// Attempts for which the provider counted tokens.
    pub counted: u64,
    /// Input tokens without what the cache held.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the prompt cache.
    pub cache_read: u64,
    /// Input tokens written to the prompt cache.
    pub cache_write: u64,
    /// Answers whose price is known.
    pub priced: u64,
    /// What those are estimated to cost, in millionths of a US dollar.
    pub est_cost_micro_usd: u64,
}

/// Why an exchange was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No such text can be an id.
    #[error("`{0}` is not an id: ids look like `hs_00696f5ac8000001`; their beginning or end is enough, from {FEWEST_DIGITS} digits on")]
    NotAnId(String),
    /// Nothing has it.
    #[error("no exchange has the id `{0}`")]
    Unknown(String),
    /// Nothing is recorded at all.
    #[error("no exchange is recorded yet")]
    Empty,
    /// Several do.
    #[error("`{text}` stands for several exchanges: {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Some of them.
        ids: Vec<String>,
    },
    /// A newer version wrote it.
    #[error("exchange `{0}` was written by a newer hotspare")]
    Unreadable(String),
    /// The file cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Reader {
    /// Opens the ledger in `dir`; none when nothing was ever recorded there.
    pub fn open(dir: &Path) -> Result<Option<Self>, Fault> {
        let file = dir.join(FILE);
        match file.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(source) => return Err(Fault::Unusable { file, source }),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&file, flags).and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            let version = database::user_version(&connection)?;
            Ok((connection, version))
        });
        let (connection, found) = match opened {
            Ok(opened) => opened,
            // On a disk that may only be read, SQLite must be told that nobody else writes either.
            Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {
                Self::open_unchanging(&file).map_err(|_| Fault::of(&file, error))?
            }
            Err(error) => return Err(Fault::of(&file, error)),
        };
        match found {
            // The writer has made the file and nothing in it yet.
            0 => Ok(None),
            // An older service may still be writing it: the steps so far changed no column.
            1..=SCHEMA_VERSION => Ok(Some(Self { connection })),
            found => Err(Fault::Newer { file, found }),
        }
    }

    fn open_unchanging(file: &Path) -> rusqlite::Result<(Connection, i64)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{}?immutable=1", uri_path(file)), flags)?;
        let version = database::user_version(&connection)?;
        Ok((connection, version))
    }

    /// The last exchange that asked a model for an answer. A drill's own request is none.
    pub fn last(&self) -> Result<Row, FindError> {
        self.one(&last(), [])?.ok_or(FindError::Empty)?
    }

    /// The exchange with this id; its first or last digits are enough where they stand for one alone.
    pub fn by_id(&self, text: &str) -> Result<Row, FindError> {
        let digits = text.strip_prefix("hs_").unwrap_or(text).to_ascii_lowercase();
        let from_start = text.starts_with("hs_");
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(FEWEST_DIGITS..=DIGITS).contains(&digits.len()) {
            return Err(FindError::NotAnId(text.to_owned()));
        }
        let id = self.whole_id(text, &digits, from_start)?;
        self.one(BY_ID, [id])?.ok_or_else(|| FindError::Unknown(text.to_owned()))?
    }

    fn whole_id(&self, text: &str, digits: &str, from_start: bool) -> Result<i64, FindError> {
        if digits.len() == DIGITS {
            return Ok(u64::from_str_radix(digits, 16).map_or(0, u64::cast_signed));
        }
        let found = self.ask(|connection| {
            let mut select = connection.prepare(IDS_WITH)?;
            let ids = select.query_map(params![digits, !from_start, AMBIGUOUS_SHOWN], |row| row.get::<_, i64>(0))?;
            ids.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        match found.as_slice() {
            [] => Err(FindError::Unknown(text.to_owned())),
            [id] => Ok(*id),
            several => {
                let ids = several.iter().map(|id| id_text(id.cast_unsigned())).collect();
                Err(FindError::Ambiguous { text: text.to_owned(), ids })
            }
        }
    }

    /// The row that the query gives, if any; it may be unreadable.
    fn one(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<Result<Row, FindError>>, Fault> {
        let found = self.ask(|connection| {
            connection
                .query_row(sql, parameters, |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
                })
                .optional()
        })?;
        Ok(found.map(|(seq, local_time, id, text)| match serde_json::from_str(&text) {
            Ok(record) => Ok(Row { seq, local_time, record }),
            Err(_) => Err(FindError::Unreadable(id_text(id.cast_unsigned()))),
        }))
    }

    /// The exchanges that the filter lets through, drills too.
    pub fn list(&self, filter: &Filter) -> Result<Listing, Fault> {
        self.list_with(if filter.after.is_some() { NEXT } else { LATEST }, filter)
    }

    /// Like [`Reader::list`], without the drills' own requests.
    pub fn list_real(&self, filter: &Filter) -> Result<Listing, Fault> {
        let sql = if filter.after.is_some() { NEXT } else { LATEST };
        self.list_with(&sql.replace("WHERE ", &format!("WHERE NOT ({IS_PLAYED}) AND ")), filter)
    }

    /// How many requests of drills' own the filter lets through, whatever its limit.
    pub fn count_played(&self, filter: &Filter) -> Result<u64, Fault> {
        let sql = format!("SELECT count(*) FROM exchanges WHERE ({IS_PLAYED}) AND seq > ?1 AND at_ms >= ?2 AND (failover OR NOT ?3)");
        let parameters = params![filter.after.unwrap_or(-1), signed(filter.since_ms), filter.failovers];
        self.ask(|connection| connection.query_row(&sql, parameters, |row| row.get(0)).map(unsigned))
    }

    fn list_with(&self, sql: &str, filter: &Filter) -> Result<Listing, Fault> {
        let mut found = self.ask(|connection| {
            let mut select = connection.prepare(sql)?;
            let parameters = params![filter.after.unwrap_or(-1), signed(filter.since_ms), filter.failovers, filter.limit];
            let rows =
                select.query_map(parameters, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        if filter.after.is_none() {
            found.reverse();
        }
        let mut listing = Listing { last_seq: found.last().map(|(seq, ..)| *seq), ..Listing::default() };
        for (seq, local_time, text) in found {
            match serde_json::from_str(&text) {
                Ok(record) => listing.rows.push(Row { seq, local_time, record }),
                Err(_) => listing.unreadable += 1,
            }
        }
        Ok(listing)
    }

    /// The last place in the ledger, whatever is there.
    pub fn last_seq(&self) -> Result<Option<i64>, Fault> {
        self.ask(|connection| connection.query_row("SELECT max(seq) FROM exchanges", [], |row| row.get(0)))
    }

    /// What each profile did for each model on each day, from `since_ms` on.
    pub fn totals(&self, since_ms: u64) -> Result<Vec<Total>, Fault> {
        self.added_up(&totals_by(DAY_OF_ROW, "NULL"), params![signed(since_ms)])
    }

    /// Like [`Reader::totals`], with each session or folder apart.
    pub fn totals_split(&self, since_ms: u64, split: Split) -> Result<Vec<Total>, Fault> {
        self.added_up(&totals_by(DAY_OF_ROW, &split.column()), params![signed(since_ms)])
    }

    /// What each profile did for each model today, by this machine's time zone.
    pub fn today(&self) -> Result<Vec<Total>, Fault> {
        let (day, midnight_ms) = self.midnight()?;
        // The calendar is asked once and not for each row: that is two thirds of the time.
        self.added_up(&totals_by("?2", "NULL"), params![midnight_ms, day])
    }

    /// What one profile's answers of today are estimated to cost, in millionths of a US dollar, where their price is known.
    pub fn cost_today(&self, profile: &str) -> Result<u64, Fault> {
        let (_, midnight_ms) = self.midnight()?;
        self.ask(|connection| connection.query_row(COST, params![profile, midnight_ms], |row| row.get(0)).map(unsigned))
    }

    /// Today's name and when it began, by this machine's time zone.
    fn midnight(&self) -> Result<(String, i64), Fault> {
        self.ask(|connection| connection.query_row(TODAY, [], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    fn added_up(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Total>, Fault> {
        self.ask(|connection| {
            let mut select = connection.prepare(sql)?;
            let totals = select.query_map(parameters, |row| {
                let count = |column: usize| row.get::<_, i64>(column).map(unsigned);
                Ok(Total {
                    day: row.get(0)?,
                    profile: row.get(1)?,
                    model: row.get(2)?,
                    part: row.get(3)?,
                    attempts: count(4)?,
                    failed: count(5)?,
                    served: count(6)?,
                    wasted: count(7)?,
                    maybe_billed: count(8)?,
                    counted: count(9)?,
                    input: whole(row.get(10)?),
                    output: whole(row.get(11)?),
                    cache_read: whole(row.get(12)?),
                    cache_write: whole(row.get(13)?),
                    priced: count(14)?,
                    est_cost_micro_usd: whole(row.get(15)?),
                })
            })?;
            totals.collect()
        })
    }

    /// What was learned and still holds, of one kind.
    pub fn state(&self, kind: &str) -> Result<Vec<StateEntry>, Fault> {
        let now_ms = u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let mut kinds = self.ask(|connection| rows::load_state(connection, now_ms))?;
        Ok(kinds.remove(kind).unwrap_or_default())
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        let file = || self.connection.path().map(std::path::PathBuf::from).unwrap_or_default();
        question(&self.connection).map_err(|error| Fault::of(&file(), error))
    }
}

/// `total()` of SQLite never overflows and is a float; tokens and cost stay far below where it loses units.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts; a cast saturates")]
fn whole(total: f64) -> u64 {
    total as u64
}

/// A path as the query of a URI cannot take it for something else.
fn uri_path(file: &Path) -> String {
    let bytes = file.as_os_str().as_encoded_bytes();
    let mut uri = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status line asks after each turn, and a day has thousands of rows.
    #[test]
    fn the_cost_of_today_is_answered_from_an_index_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        database::migrate(&mut connection).unwrap();
        let plan = |row: &rusqlite::Row<'_>| row.get::<_, String>(3);
        let plan = connection.query_row(&format!("EXPLAIN QUERY PLAN {COST}"), ("spare", 0), plan).unwrap();
        assert_eq!(plan, "SEARCH attempts USING COVERING INDEX attempts_by_cost (profile=? AND at_ms>?)");
    }
}
