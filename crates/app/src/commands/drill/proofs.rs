//! Sends the drill's own request and looks for what it must have left: the answer, `why`, the log, a metric, the status, and a world that
//! is as it was. Each is looked for where a user or a program would look, until it is there or its time is over.

use std::time::{Duration, Instant};

use hotspare_core::record::id_text;
use hotspare_core::{AttemptKind, ExchangeRecord};
use hotspare_gateway::notices::NoticesAnswer;
use hotspare_store::{Filter, Reader, Row};
use serde_json::Value;

use super::ask::{self, Answered};
use super::{Drill, DrillReport, PROOF_TIME, Proof};
use crate::commands::{logs, status as status_command, statusline, why};
use crate::error::CliError;
use crate::gateways;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Most rows of the log that are looked at: other requests may have come since.
const ROWS: u32 = 1000;

/// What of a profile's status a drill may not change. Real requests go on beside it: who serves, and how full a window is, is theirs.
const HEALTH: [&str; 6] = ["name", "because", "family", "good_trials", "last_failure", "failed_5m"];

/// Runs the drill to its end and tells what was found.
pub(super) async fn report(drill: &Drill<'_>) -> Result<DrillReport, CliError> {
    let before = super::status(drill.instance).await;
    let last_row = last_row(drill);
    let model = drill.request.model.as_deref().unwrap_or_default();
    let counted = counted(drill).await;
    let answered = ask::ask(drill.instance, &drill.answer.id, model, drill.login).await;
    let look = Look { drill, ended: Instant::now(), exchange: answered.exchanges.last().cloned().unwrap_or_default() };
    let why = look.why().await;
    let record = look.ledger().and_then(|ledger| Some(ledger.by_id(&look.exchange).ok()?.record));
    let mut proofs = vec![answer(drill, &answered, record.as_ref())];
    proofs.push(why);
    proofs.push(look.log(last_row).await);
    proofs.push(look.metric(counted).await);
    proofs.push(look.status().await);
    proofs.push(look.line(before.as_ref()).await);
    proofs.push(look.notice().await);
    super::end(drill).await;
    proofs.push(look.untouched(before.as_ref()).await);
    let served_by = record.and_then(|record| record.served_by).or(answered.profile).filter(|_| answered.whole);
    Ok(drill.report(answered.exchanges, served_by, proofs))
}

/// Whole, and from another profile than the broken one. Who went on with a broken answer stands in no header: the head was sent by then.
fn answer(drill: &Drill<'_>, answered: &Answered, record: Option<&ExchangeRecord>) -> Proof {
    let served = record.map_or(answered.profile.as_deref(), |record| record.served_by.as_deref());
    let served = served.filter(|profile| answered.whole && *profile != drill.answer.profile);
    let resumed = record.is_some_and(|record| record.attempts.iter().any(|attempt| attempt.kind == AttemptKind::Resume));
    let ms = millis(answered.took);
    let words = match served {
        Some(spare) if resumed => format!("whole: {spare} went on where {} broke off; {ms} ms", drill.answer.profile),
        Some(spare) if answered.exchanges.len() > 1 => {
            format!("whole, from {spare} at the second try, as a client asks again after a cut; {ms} ms")
        }
        Some(spare) => format!("whole, from {spare}, {ms} ms after it was asked for"),
        None => answered.trouble.clone().unwrap_or_else(|| "no whole answer of a spare came".to_owned()),
    };
    Proof { name: "answer".to_owned(), held: served.is_some(), unproved: false, after_ms: Some(0), words }
}

/// Looks for what an exchange has left.
struct Look<'a> {
    drill: &'a Drill<'a>,
    /// When its answer was over.
    ended: Instant,
    exchange: String,
}

impl Look<'_> {
    /// Looks again and again; `missing` says what was not there.
    async fn until(&self, name: &str, missing: &str, mut look: impl AsyncFnMut() -> Option<String>) -> Proof {
        let name = name.to_owned();
        loop {
            let found = look().await;
            let after = self.ended.elapsed();
            match found {
                Some(words) => return Proof { name, held: after <= PROOF_TIME, unproved: false, after_ms: Some(millis(after)), words },
                None if after > PROOF_TIME => {
                    return Proof { name, held: false, unproved: false, after_ms: None, words: missing.to_owned() };
                }
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// The waterfall names the drill, and who failed with what.
    async fn why(&self) -> Proof {
        self.until("why", "the ledger has no such exchange", async || {
            let row = self.ledger()?.by_id(&self.exchange).ok()?;
            let text = why::plain(&row);
            let failed = self.failed(&row.record)?;
            let told = self.is_marked(&row.record) && text.contains("drill") && text.contains(&self.drill.answer.profile);
            told.then(|| format!("{failed}; hotspare why {}", self.exchange))
        })
        .await
    }

    /// A row of its own, which says that it is a drill's, and counts no token.
    async fn log(&self, after: Option<i64>) -> Proof {
        self.until("log", "the log has no such row", async || {
            let filter = Filter { since_ms: 0, failovers: true, after: Some(after.unwrap_or(-1)), limit: ROWS };
            let rows = self.ledger()?.list(&filter).ok()?.rows;
            let row = rows.iter().find(|row| id_text(row.record.id) == self.exchange)?;
            let line = logs::plain_line(row);
            (line.contains("drill") && spent(row) == 0)
                .then(|| format!("one row, no token: {}", line.split("drill").nth(1).map_or("", str::trim)))
        })
        .await
    }

    /// The counter of drills has moved.
    async fn metric(&self, before: Option<u64>) -> Proof {
        self.until("metric", "no counter has moved", async || {
            let now = counted(self.drill).await?;
            let was = before.unwrap_or_default();
            (now > was).then(|| format!("hotspare_drills_total {was} to {now}"))
        })
        .await
    }

    /// `status` names the exchange, and its text says so.
    async fn status(&self) -> Proof {
        self.until("status", "the status does not tell of it", async || {
            let drill = super::status(self.drill.instance).await?["drill"].clone();
            let drill: hotspare_gateway::drill::DrillStatus = serde_json::from_value(drill).ok()?;
            (drill.exchange.as_ref() == Some(&self.exchange)).then(|| status_command::drill_words(&drill))
        })
        .await
    }

    /// Claude Code's status line says something else than before.
    async fn line(&self, before: Option<&Value>) -> Proof {
        let before = before.and_then(said);
        self.until("line", "the status line is as it was", async || {
            let line = said(&super::status(self.drill.instance).await?).filter(|line| line.contains("drill"))?;
            (before.as_ref() != Some(&line)).then(|| format!("the status line says `{line}`"))
        })
        .await
    }

    /// A notice of this exchange, marked as a drill's.
    async fn notice(&self) -> Proof {
        self.until("notice", "nothing was told", async || {
            let asked = gateways::get::<NoticesAnswer>(std::slice::from_ref(self.drill.instance), "/hotspare/notices").await.pop()?;
            let told = asked.ok()?.notices.into_iter().find(|told| told.exchange == self.exchange)?;
            told.drill.is_some().then_some(told.text)
        })
        .await
    }

    /// When the drill is over the status is silent on it, and every profile is as well as it was before.
    async fn untouched(&self, before: Option<&Value>) -> Proof {
        let begun = Self { ended: Instant::now(), drill: self.drill, exchange: self.exchange.clone() };
        begun
            .until("undone", "the health of a profile has changed meanwhile; was it a real request?", async || {
                let now = super::status(self.drill.instance).await?;
                let same = before.is_some_and(|before| health(before) == health(&now)) && now["drill"].is_null();
                same.then(|| "the drill is over, and every profile is as well as before".to_owned())
            })
            .await
    }

    fn ledger(&self) -> Option<Reader> {
        Reader::open(&self.drill.locations.state_dir).ok().flatten()
    }

    fn is_marked(&self, record: &ExchangeRecord) -> bool {
        record.drill.is_some_and(|mark| mark.fault == self.drill.answer.fault && !mark.live)
    }

    /// `work 529 overloaded, then backup`.
    fn failed(&self, record: &ExchangeRecord) -> Option<String> {
        let broken = &self.drill.answer.profile;
        // After a cut the client's second try does not meet the broken profile again: that it was left out is what was learned.
        let failed = record.attempts.iter().find(|attempt| attempt.profile == *broken && attempt.class.is_some());
        let skipped = record.skipped.iter().find(|one| one.profile == *broken).map(|one| format!("{broken} left out ({})", one.reason));
        let words = failed.map(|attempt| format!("{broken}: {}", attempt.detail.clone().unwrap_or_default())).or(skipped)?;
        Some(format!("{words}, then {}", record.served_by.as_deref().unwrap_or("nobody")))
    }
}

/// What the status line says for a status.
fn said(status: &Value) -> Option<String> {
    statusline::plain(&serde_json::from_value(status.clone()).ok()?, crate::output::Look::of_stdout().unicode)
}

/// Tokens that the row counts.
fn spent(row: &Row) -> u64 {
    let of = |tokens: &hotspare_core::Tokens| {
        [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write].into_iter().flatten().sum::<u64>()
    };
    row.record.attempts.iter().map(|attempt| of(&attempt.tokens)).sum()
}

fn last_row(drill: &Drill<'_>) -> Option<i64> {
    Reader::open(&drill.locations.state_dir).ok().flatten()?.last_seq().ok().flatten()
}

/// How often this drill is counted, whoever answered.
async fn counted(drill: &Drill<'_>) -> Option<u64> {
    let text = gateways::text(drill.instance, "/metrics").await?;
    let labels = format!("fault=\"{}\",live=\"false\"", drill.answer.fault);
    let lines = text.lines().filter(|line| line.starts_with("hotspare_drills_total{") && line.contains(&labels));
    Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

fn health(status: &Value) -> Vec<Vec<Value>> {
    let profiles = status["profiles"].as_array().cloned().unwrap_or_default();
    profiles
        .iter()
        .map(|profile| HEALTH.map(|key| profile[key].clone()).into_iter().chain([state(profile), windows(profile)]).collect())
        .collect()
}

/// Both words for a profile that is well are one.
fn state(profile: &Value) -> Value {
    if profile["state"] == "serving" { "ready".into() } else { profile["state"].clone() }
}

/// Which windows there are, and what they allow.
fn windows(profile: &Value) -> Value {
    let windows = profile["windows"].as_array().into_iter().flatten();
    windows.map(|window| Value::Array(vec![window["name"].clone(), window["status"].clone()])).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
