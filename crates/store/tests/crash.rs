//! L8: processes that record exchanges are killed with SIGKILL at random points, again and again, on one ledger. What counts afterwards:
//! it opens within a second, nothing is torn, damaged or out of order, and what a process saw written is there. An exchange that ended
//! while the writer was still busy with the one before (it waits for the disk now and then) may be missing; how old such a one was is
//! measured.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod sample;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hotspare_store::{Change, FILE, Filter, Listing, Options, Reader, StateEntry, Store};
use sample::{failed_over, now_ms};

/// Processes that are killed.
const KILLS: u64 = 300;

/// Ids of one process.
const SPAN: u64 = 1_000_000;

const PLACE: &str = "HOTSPARE_TEST_PLACE";
const FIRST: &str = "HOTSPARE_TEST_FIRST";

/// Longest that an exchange may be over before it is safe, with room for a slow disk.
const SAFE_WITHIN_MS: u64 = 1000;

/// Random enough, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A process that records exchanges of about a millisecond each until it is killed, and says when each ends. One of two takes the next only
/// when the last one is written.
#[test]
#[ignore = "run by the other test of this file"]
fn victim() {
    let place = std::env::var_os(PLACE).expect("run by another test of this file");
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = Store::open(Path::new(&place), Options::default());
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    let mut dice = Dice(first);
    for id in first..first + SPAN {
        std::thread::park_timeout(Duration::from_micros(200 + dice.below(2000)));
        let until = now_ms() + 3_600_000;
        let entry = StateEntry { key: "last".to_owned(), value: id.to_string(), expires_at_ms: until };
        store.change("progress", vec![Change::Put(entry)]);
        store.record(failed_over(id));
        if is_careful(first) {
            assert!(store.flush(Duration::from_secs(10)));
        }
        say(format!("end {} {id}\n", now_ms()));
    }
}

fn is_careful(first: u64) -> bool {
    (first / SPAN).is_multiple_of(2)
}

struct Victim {
    child: Child,
    out: BufReader<ChildStdout>,
    first: u64,
    /// When each of its exchanges ended.
    ended_ms: Vec<u64>,
    killed_ms: u64,
}

impl Victim {
    fn start(dir: &Path, first: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(PLACE, dir)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, first, ended_ms: Vec::new(), killed_ms: 0 }
    }

    /// Reads what it says, up to `lines` lines or its end.
    fn listen(&mut self, lines: u64) {
        let mut line = String::new();
        for _ in 0..lines {
            line.clear();
            if self.out.read_line(&mut line).unwrap() == 0 {
                return;
            }
            if let Some((at_ms, _)) = line.strip_prefix("end ").and_then(|rest| rest.split_once(' ')) {
                self.ended_ms.push(at_ms.parse().unwrap());
            }
        }
    }

    fn kill(&mut self) {
        self.killed_ms = now_ms();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listen(u64::MAX);
    }

    /// How long before the kill the exchanges ended that are not in the ledger. There are no gaps.
    fn missing(&self, ids: &[u64]) -> Vec<u64> {
        let kept: Vec<u64> = ids.iter().copied().filter(|id| (self.first..self.first + SPAN).contains(id)).collect();
        let expected: Vec<u64> = (self.first..self.first + kept.len() as u64).collect();
        assert_eq!(kept, expected, "a beginning without gaps or doubles");
        self.ended_ms.iter().skip(kept.len()).map(|at_ms| self.killed_ms.saturating_sub(*at_ms)).collect()
    }
}

#[test]
fn l8_a_process_killed_at_any_point_loses_nothing_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let seed = now_ms();
    let mut dice = Dice(seed);
    let begun = Instant::now();
    let (mut seen, mut was_there) = (0, false);
    let (mut killed, mut recorded, mut lost, mut oldest, mut slowest) = (0, 0, 0, 0, Duration::ZERO);
    while killed < KILLS {
        // Now and then two at once, as `serve` beside `run`.
        let count = 1 + u64::from(dice.below(3) == 0);
        let mut victims: Vec<Victim> = (0..count).map(|place| Victim::start(dir, (killed + place) * SPAN)).collect();
        for victim in &mut victims {
            // The first at once, before there is a ledger; then some while they open it, some in the middle of their work.
            if killed > 0 {
                victim.listen(dice.below(40));
                std::thread::park_timeout(Duration::from_micros(dice.below(3000)));
            }
            victim.kill();
        }
        let opening = Instant::now();
        let store = Store::open(dir, Options::default());
        let opened = opening.elapsed();
        slowest = slowest.max(opened);
        assert!(opened < Duration::from_secs(1), "seed {seed}: opening took {opened:?} after {killed} kills");
        assert_eq!(store.trouble(), None, "seed {seed}");
        let filter = Filter { since_ms: 0, failovers: false, after: Some(seen), limit: u32::MAX };
        let listing = match Reader::open(dir).unwrap() {
            Some(reader) => reader.list(&filter).unwrap(),
            None => Listing::default(),
        };
        was_there |= dir.join(FILE).exists();
        assert_eq!(was_there, dir.join(FILE).exists(), "seed {seed}: a ledger that was there is gone after {killed} kills");
        seen = listing.last_seq.unwrap_or(seen);
        let ids: Vec<u64> = listing.rows.iter().map(|row| row.record.id).collect();
        let progress = store.load("progress");
        assert!(progress.len() <= 1, "seed {seed}: each change stands in place of the one before");
        for victim in &victims {
            let missing = victim.missing(&ids);
            assert!(missing.is_empty() || !is_careful(victim.first), "seed {seed}: what was seen written is missing: {missing:?}");
            lost += missing.len();
            oldest = missing.into_iter().fold(oldest, u64::max);
            recorded += victim.ended_ms.len();
        }
        killed += count;
    }
    let check: String =
        rusqlite::Connection::open(dir.join(FILE)).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "seed {seed}");
    let names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|name| name.contains("broken")), "seed {seed}: {names:?}");
    println!(
        "L8: {killed} kills in {:.1} s; {recorded} exchanges were over before, of which the writer still held {lost}, the oldest for {oldest} ms; \
         0 missing that were written, 0 damaged; slowest opening {slowest:?}; seed {seed}",
        begun.elapsed().as_secs_f64()
    );
    assert!(oldest < SAFE_WITHIN_MS, "an exchange was over for {oldest} ms and not written");
}
