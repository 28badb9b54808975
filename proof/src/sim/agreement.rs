//! Judges whether everything that tells of an exchange tells the same (I14): the record, the ledger that `why` and `logs` read, the metrics
//! and the status; and whether each that a spare served says why. Never looks at how any of them is made.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hotspare_core::record::id_text;
use hotspare_core::{AttemptKind, Decision, Endpoint, ExchangeRecord};
use hotspare_gateway::Event;
use hotspare_store::{Filter, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{TOKEN, World};

/// Longest that the ledger's writer may take, by the machine's own clock.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// More than any seed has.
const ROWS: u32 = 1_000_000;

/// Most violations that are told of one seed.
const MOST: usize = 20;

/// Everything that does not agree.
pub(super) async fn check(world: &World, ledger: Option<&Path>) -> Vec<String> {
    let records = records(world);
    let mut wrong: Vec<String> = records.iter().filter_map(unexplained).collect();
    match metrics(world).await {
        Ok(text) => wrong.extend(counted(&records, &text)),
        Err(error) => wrong.push(format!("I14: no metrics: {error}")),
    }
    wrong.extend(status(world, &records));
    wrong.extend(ledger.map(|folder| remembered(world, folder, &records)).unwrap_or_default());
    wrong.truncate(MOST);
    wrong
}

/// The one record of each exchange, in the order in which they ended.
fn records(world: &World) -> Vec<ExchangeRecord> {
    let told = world.told();
    let mut over: Vec<_> = told
        .values()
        .filter_map(|told| match (told.events.last()?, told.times.last()?) {
            (Event::Over(record), at) => Some((*at, record.as_ref().clone())),
            _ => None,
        })
        .collect();
    over.sort_by_key(|(at, _)| *at);
    over.into_iter().map(|(_, record)| record).collect()
}

/// A switch that `why` could not explain: every failure has its class, words and what was done, and who was passed over has a reason.
fn unexplained(record: &ExchangeRecord) -> Option<String> {
    let id = id_text(record.id);
    for attempt in record.attempts.iter().filter(|attempt| attempt.class.is_some()) {
        if attempt.detail.as_ref().is_none_or(String::is_empty) || attempt.reason.is_none() || attempt.stage.is_none() {
            return Some(format!("I14: {id}: a failure at {} without a word on it", attempt.profile));
        }
    }
    let hops = record.attempts.windows(2).filter(|two| two[0].profile != two[1].profile);
    for hop in hops {
        // A race leaves nobody: the first may still win it.
        if hop[0].class.is_none() && hop[0].decision != Decision::Drop && hop[1].kind != AttemptKind::Hedge {
            return Some(format!("I14: {id}: {} was left for {} without a failure", hop[0].profile, hop[1].profile));
        }
    }
    // A slow start that was raced is dropped, not failed: that it was raced stands with the other.
    let told = record.attempts.iter().any(|attempt| attempt.class.is_some() || attempt.kind == AttemptKind::Hedge);
    (record.on_spare && !told && record.skipped.is_empty() && record.endpoint == Endpoint::Messages)
        .then(|| format!("I14: {id}: served by {:?}, and nothing says why", record.served_by))
}

async fn metrics(world: &World) -> std::io::Result<String> {
    let mut stream = world.door.connect().await?;
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nx-hotspare-token: {TOKEN}\r\nConnection: close\r\n\r\n", world.door.host());
    stream.write_all(head.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

type Counts = BTreeMap<String, u64>;

/// The counters are the sums of the records.
fn counted(records: &[ExchangeRecord], text: &str) -> Vec<String> {
    let mut expected: Counts = BTreeMap::new();
    let mut add = |line: String| *expected.entry(line).or_default() += 1;
    for record in records {
        let served = record.served_by.as_deref().unwrap_or("none");
        add(format!("hotspare_requests_total{{profile=\"{served}\",outcome=\"{}\"}}", record.outcome.word()));
        for attempt in &record.attempts {
            let reason = attempt.class.map_or("ok", hotspare_core::FailureKind::word);
            add(format!("hotspare_attempts_total{{profile=\"{}\",reason=\"{reason}\"}}", attempt.profile));
        }
        for hop in record.attempts.windows(2).filter(|two| two[0].profile != two[1].profile) {
            let reason = hop[0].class.map_or("ok", hotspare_core::FailureKind::word);
            add(format!("hotspare_failovers_total{{from=\"{}\",to=\"{}\",reason=\"{reason}\"}}", hop[0].profile, hop[1].profile));
        }
    }
    let ours = ["hotspare_requests_total{", "hotspare_attempts_total{", "hotspare_failovers_total{"];
    let lines = text.lines().filter(|line| ours.iter().any(|name| line.starts_with(name)));
    let got: Counts =
        lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect();
    let differs = expected.iter().filter(|(name, count)| got.get(*name) != Some(count));
    let mut wrong: Vec<String> =
        differs.map(|(name, count)| format!("I14: {name} is {:?} in the metrics, {count} by the records", got.get(name))).collect();
    wrong.extend(
        got.keys().filter(|name| !expected.contains_key(*name)).map(|name| format!("I14: {name} is counted, and no record has it")),
    );
    wrong
}

/// The status counts the same, and names the last who served.
fn status(world: &World, records: &[ExchangeRecord]) -> Vec<String> {
    let status = world.gateway.status();
    let exchanges = records.len() as u64;
    let on_spare = records.iter().filter(|record| record.on_spare).count() as u64;
    let mut wrong = Vec::new();
    if (status.exchanges, status.failovers) != (exchanges, on_spare) {
        wrong.push(format!("I14: status counts {} and {}, the records {exchanges} and {on_spare}", status.exchanges, status.failovers));
    }
    let last = records.iter().rev().filter(|record| record.endpoint.moves_health()).find_map(|record| record.served_by.as_ref());
    if last.is_some_and(|last| *last != status.serving) {
        wrong.push(format!("I14: status says {} serves, the last record {last:?}", status.serving));
    }
    let failed =
        records.iter().rev().find(|record| record.endpoint.moves_health() && record.attempts.iter().any(|attempt| attempt.class.is_some()));
    let first = failed.and_then(|record| record.attempts.iter().find(|attempt| attempt.class.is_some()));
    if first.map(|attempt| &attempt.profile) != status.last_failover.as_ref().map(|last| &last.from) {
        wrong.push(format!("I14: status says {:?} failed last, the records {:?}", status.last_failover, first.map(|one| &one.profile)));
    }
    wrong
}

/// The ledger has each record as it was told.
fn remembered(world: &World, folder: &Path, records: &[ExchangeRecord]) -> Vec<String> {
    if !world.ledger.as_ref().is_some_and(|store| store.flush(WRITE_TIME)) {
        return vec!["I14: the ledger was not written in time".to_owned()];
    }
    let filter = Filter { since_ms: 0, failovers: false, after: Some(-1), limit: ROWS };
    let rows = match Reader::open(folder).map(|reader| reader.map(|reader| reader.list(&filter))) {
        Ok(Some(Ok(listing))) => listing.rows,
        Ok(None) if records.is_empty() => Vec::new(),
        other => return vec![format!("I14: the ledger cannot be read: {:?}", other.err())],
    };
    let kept: BTreeMap<u64, ExchangeRecord> = rows.into_iter().map(|row| (row.record.id, row.record)).collect();
    let differs = records.iter().filter(|record| kept.get(&record.id) != Some(*record));
    let mut wrong: Vec<String> = differs.map(|record| format!("I14: {} is not in the ledger as it was told", id_text(record.id))).collect();
    if kept.len() != records.len() {
        wrong.push(format!("I14: {} rows in the ledger, {} records", kept.len(), records.len()));
    }
    wrong
}
