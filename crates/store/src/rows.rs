//! Turns records and state into rows and back. Never decides when.

use std::collections::HashMap;

use hotspare_core::{AttemptEntry, ExchangeRecord};
use rusqlite::{Connection, params};

use crate::now_ms;
use crate::pending::Batch;
use crate::state::{self, Change, StateEntry};

/// Most bytes of one record as JSON. Names, models and words are short; a record over this holds something that does not belong there.
pub(crate) const RECORD_CAP: usize = 64 * 1024;

/// Most entries of state that are read back, of all kinds together.
const LOAD_CAP: i64 = 65_536;

/// Rows that are removed in one go, so that records never wait long for it.
const PRUNE_STEP: i64 = 500;

/// Gives some pages back to the disk, not all at once.
const VACUUM: &str = "PRAGMA incremental_vacuum(256)";

/// Writes all of it or nothing. Returns how many records were too long to be kept.
pub(crate) fn write(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut too_long = 0;
    for record in &batch.records {
        let text = serde_json::to_string(&**record).expect("a record is plain data with text keys");
        if text.len() > RECORD_CAP {
            too_long += 1;
        } else {
            insert_exchange(&transaction, record, &text)?;
        }
    }
    for (kind, changes) in &batch.changes {
        change_state(&transaction, kind, changes)?;
    }
    transaction.commit()?;
    Ok(too_long)
}

fn insert_exchange(connection: &Connection, record: &ExchangeRecord, text: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO exchanges (id, at_ms, endpoint, outcome, failover, served_by, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![
        record.id.cast_signed(),
        signed(record.at_ms),
        record.endpoint.word(),
        record.outcome.word(),
        record.is_failover() || record.on_spare,
        record.served_by,
        text
    ])?;
    if record.is_simulated() {
        // Nobody was asked and nothing was spent: it is no usage.
        return Ok(());
    }
    let exchange = connection.last_insert_rowid();
    let serving = record.served_by.as_ref().and_then(|name| record.attempts.iter().rposition(|attempt| attempt.profile == *name));
    for (place, attempt) in record.attempts.iter().enumerate() {
        insert_attempt(connection, exchange, place, attempt, record, serving == Some(place))?;
    }
    Ok(())
}

fn insert_attempt(
    connection: &Connection,
    exchange: i64,
    place: usize,
    attempt: &AttemptEntry,
    record: &ExchangeRecord,
    served: bool,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO attempts (exchange, place, at_ms, profile, model, class, served, wasted, maybe_billed, input, output, cache_read, \
               cache_write, est_cost_micro_usd) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let tokens = &attempt.tokens;
    // In records of before each attempt had its own, the cost of the whole exchange stands with the attempt that served it.
    let whole = record.est_cost_micro_usd.filter(|_| served && record.attempts.iter().all(|attempt| attempt.cost_micro_usd.is_none()));
    let cost = attempt.cost_micro_usd.or(whole);
    connection.prepare_cached(sql)?.execute(params![
        exchange,
        i64::try_from(place).unwrap_or(i64::MAX),
        signed(record.at_ms.saturating_add(attempt.started_us / 1000)),
        attempt.profile,
        attempt.model.as_ref().or(record.model.as_ref()),
        attempt.class.map(hotspare_core::FailureKind::word),
        served,
        attempt.wasted,
        attempt.maybe_billed,
        tokens.input.map(signed),
        tokens.output.map(signed),
        tokens.cache_read.map(signed),
        tokens.cache_write.map(signed),
        cost.map(signed)
    ])?;
    Ok(())
}

/// Only what changed: what another process has learned stands beside it.
fn change_state(connection: &Connection, kind: &str, changes: &[Change]) -> rusqlite::Result<()> {
    let now_ms = now_ms();
    let mut remove = connection.prepare_cached("DELETE FROM state WHERE kind = ?1 AND key = ?2")?;
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO state (kind, key, value, expires_at_ms) VALUES (?1, ?2, ?3, ?4)")?;
    for change in changes.iter().filter(|change| change.counts(now_ms)) {
        match change {
            Change::Put(entry) => put.execute(params![kind, entry.key, entry.value, signed(entry.expires_at_ms)])?,
            Change::Remove(key) => remove.execute(params![kind, key])?,
        };
    }
    Ok(())
}

/// All state that is alive, by kind.
pub(crate) fn load_state(connection: &Connection, now_ms: u64) -> rusqlite::Result<HashMap<String, Vec<StateEntry>>> {
    let mut select =
        connection.prepare("SELECT kind, key, value, expires_at_ms FROM state WHERE expires_at_ms > ?1 ORDER BY kind, key LIMIT ?2")?;
    let mut rows = select.query(params![signed(now_ms), LOAD_CAP])?;
    let mut kinds: HashMap<String, Vec<StateEntry>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let entry = StateEntry { key: row.get(1)?, value: row.get(2)?, expires_at_ms: unsigned(row.get(3)?) };
        kinds.entry(row.get(0)?).or_default().push(entry);
    }
    // A file from a machine whose clock was ahead is not believed for longer either.
    Ok(kinds.into_iter().map(|(kind, entries)| (kind, state::kept(entries, now_ms))).collect())
}

/// All of one kind that is alive.
pub(crate) fn load_kind(connection: &Connection, kind: &str, now_ms: u64) -> rusqlite::Result<Vec<StateEntry>> {
    let mut select = connection
        .prepare_cached("SELECT key, value, expires_at_ms FROM state WHERE kind = ?1 AND expires_at_ms > ?2 ORDER BY key LIMIT ?3")?;
    let rows = select.query_map(params![kind, signed(now_ms), LOAD_CAP], |row| {
        Ok(StateEntry { key: row.get(0)?, value: row.get(1)?, expires_at_ms: unsigned(row.get(2)?) })
    })?;
    Ok(state::kept(rows.collect::<rusqlite::Result<_>>()?, now_ms))
}

/// Removes a part of what is older than `oldest_ms` or has ended. Returns whether there may be more.
pub(crate) fn prune(connection: &Connection, oldest_ms: u64, now_ms: u64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM exchanges WHERE seq IN (SELECT seq FROM exchanges WHERE at_ms < ?1 LIMIT ?2)";
    let removed = connection.prepare_cached(sql)?.execute(params![signed(oldest_ms), PRUNE_STEP])?;
    connection.prepare_cached("DELETE FROM state WHERE expires_at_ms <= ?1")?.execute([signed(now_ms)])?;
    // Each row of the answer is one page given back.
    let mut vacuum = connection.prepare(VACUUM)?;
    let mut pages = vacuum.query([])?;
    while pages.next()?.is_some() {}
    Ok(removed > 0)
}

/// SQLite counts with a sign; what is out of its range is as far as it goes.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Back from [`signed`].
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
