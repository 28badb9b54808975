//! The store as whoever serves and whoever looks use it: kept rows, lasting state, and every kind of bad disk. "Never fails a request" means
//! here: `record` and `change` return at once, whatever the disk does.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod sample;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hotspare_core::{Endpoint, ExchangeRecord};
use hotspare_store::{Change, FILE, Filter, FindError, LONGEST_LIFE, Options, Reader, Split, StateEntry, Store};
use proptest::prelude::*;
use rusqlite::Connection;
use sample::{failed_over, now_ms, served};

/// Longest that a test waits for the writer.
const LONG: Duration = Duration::from_secs(20);

/// Longest that a store may take to open, whatever it finds.
const OPENS_WITHIN: Duration = Duration::from_secs(1);

/// Longest that a caller may be held up, with room for a busy machine; a disk that is waited for takes far longer.
const AT_ONCE: Duration = Duration::from_millis(500);

fn open(dir: &Path) -> Store {
    let begun = Instant::now();
    let store = Store::open(dir, Options::default());
    assert!(begun.elapsed() < OPENS_WITHIN, "opening took {:?}", begun.elapsed());
    store
}

/// A ledger with nothing in it.
fn make(dir: &Path) {
    let store = open(dir);
    store.change("cooldowns", vec![Change::Remove("none".to_owned())]);
    assert!(store.flush(LONG));
}

fn keep(store: &Store, record: ExchangeRecord) {
    let begun = Instant::now();
    store.record(record);
    assert!(begun.elapsed() < AT_ONCE, "the caller was held up for {:?}", begun.elapsed());
}

fn reader(dir: &Path) -> Reader {
    Reader::open(dir).unwrap().expect("there is a ledger")
}

fn all() -> Filter {
    Filter { since_ms: 0, failovers: false, after: None, limit: 100_000 }
}

fn ids(dir: &Path) -> Vec<u64> {
    reader(dir).list(&all()).unwrap().rows.iter().map(|row| row.record.id).collect()
}

fn aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".broken-") && !name.ends_with("-wal") && !name.ends_with("-shm")).collect()
}

fn entry(key: &str, expires_at_ms: u64) -> StateEntry {
    StateEntry { key: key.to_owned(), value: r#"{"n":1}"#.to_owned(), expires_at_ms }
}

#[test]
fn records_outlive_the_process_and_are_nobody_else_s() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let store = open(&dir);
    let record = failed_over(7);
    keep(&store, record.clone());
    assert!(store.flush(LONG));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for part in ["", "-wal", "-shm"] {
        assert_eq!(mode(&dir.join(format!("{FILE}{part}"))), 0o600, "{part}");
    }
    drop(store);
    assert_eq!(reader(&dir).last().unwrap().record, record);
    drop(open(&dir));
    assert_eq!(ids(&dir), [7]);
}

#[test]
fn what_waits_when_the_last_handle_goes_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let other = store.clone();
    (0..1000).for_each(|id| keep(&store, served(id)));
    drop(store);
    keep(&other, served(1000));
    drop(other);
    assert_eq!(ids(folder.path()), (0..=1000).collect::<Vec<_>>());
}

/// More than a batch at once, and nobody who asks for it to be written.
#[test]
fn a_flood_is_written_by_itself_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let count = 1500;
    (0..count).for_each(|id| store.record(failed_over(id)));
    let until = Instant::now() + Duration::from_secs(20);
    while Reader::open(folder.path()).unwrap().is_none_or(|_| ids(folder.path()).len() as u64 != count) {
        assert!(Instant::now() < until, "still waiting: {:?} of {count}", ids(folder.path()).len());
        std::thread::yield_now();
    }
    assert_eq!(ids(folder.path()), (0..count).collect::<Vec<_>>());
    assert_eq!(store.dropped(), 0);
}

#[test]
fn nothing_is_made_before_there_is_something_to_keep() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let store = open(&dir);
    assert!(store.flush(LONG));
    drop(store);
    assert!(!dir.exists());
}

#[test]
fn a_loose_file_is_narrowed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "").unwrap();
    fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o666)).unwrap();
    drop(open(folder.path()));
    assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
}

fn put(key: &str, expires_at_ms: u64) -> Change {
    Change::Put(entry(key, expires_at_ms))
}

fn keys(store: &Store, kind: &str) -> Vec<String> {
    let mut keys: Vec<String> = store.load(kind).into_iter().map(|entry| entry.key).collect();
    keys.sort();
    keys
}

#[test]
fn state_changes_key_by_key_and_outlives_the_process_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let soon = now_ms() + 60_000;
    store.change("cooldowns", vec![put("a", soon), put("b", soon), put("dead", now_ms())]);
    store.change("windows", vec![put("w", soon)]);
    assert_eq!(keys(&store, "cooldowns"), ["a", "b"], "known at once, before anything is written");
    store.change("cooldowns", vec![put("c", u64::MAX), Change::Remove("a".to_owned())]);
    drop(store);
    let store = open(folder.path());
    assert_eq!(keys(&store, "cooldowns"), ["b", "c"]);
    let longest = u64::try_from(LONGEST_LIFE.as_millis()).unwrap();
    let ends = store.load("cooldowns").into_iter().map(|entry| entry.expires_at_ms);
    assert!(ends.max() <= Some(now_ms() + longest), "nothing is believed for longer than eight days");
    assert_eq!(store.load("windows"), [entry("w", soon)]);
    store.change("windows", vec![Change::Remove("w".to_owned())]);
    drop(store);
    assert!(open(folder.path()).load("windows").is_empty());
}

#[test]
fn one_process_takes_nothing_from_what_another_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let soon = now_ms() + 60_000;
    let (first, second) = (open(folder.path()), open(folder.path()));
    first.change("cooldowns", vec![put("a", soon)]);
    assert!(first.flush(LONG));
    second.change("cooldowns", vec![put("b", soon)]);
    drop((first, second));
    assert_eq!(keys(&open(folder.path()), "cooldowns"), ["a", "b"]);
}

#[test]
fn several_that_write_and_one_that_looks_share_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = (0..4).map(|_| open(folder.path())).collect();
    std::thread::scope(|scope| {
        for (place, store) in stores.iter().enumerate() {
            scope.spawn(move || (0..500).for_each(|id| store.record(served(place as u64 * 1000 + id))));
        }
        for _ in 0..20 {
            if let Some(reader) = Reader::open(folder.path()).unwrap() {
                reader.list(&all()).unwrap();
            }
        }
    });
    // On a busy machine one of four may find the file locked for the whole of a try: then it keeps everything and tries again.
    let until = Instant::now() + LONG;
    for store in &stores {
        while !store.flush(LONG) {
            assert!(Instant::now() < until, "{:?}", store.trouble());
        }
    }
    let mut found = ids(folder.path());
    found.sort_unstable();
    let expected: Vec<u64> = (0..4).flat_map(|place| (0..500).map(move |id| place * 1000 + id)).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_id_is_found_by_its_beginning_and_its_end_where_they_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in [0x0069_6f5a_c800_0001, 0x0069_6f5a_c800_0002, 0x0069_6f5b_0000_0001] {
        keep(&store, served(id));
    }
    assert!(store.flush(LONG));
    let reader = reader(folder.path());
    let find = |text: &str| reader.by_id(text).map(|row| row.record.id);
    assert_eq!(find("hs_00696f5ac8000002").unwrap(), 0x0069_6f5a_c800_0002);
    assert_eq!(find("hs_00696f5b").unwrap(), 0x0069_6f5b_0000_0001);
    assert_eq!(find("c8000001").unwrap(), 0x0069_6f5a_c800_0001);
    assert!(matches!(find("hs_00696f5a"), Err(FindError::Ambiguous { ids, .. }) if ids.len() == 2));
    assert!(matches!(find("hs_000001"), Err(FindError::Unknown(_))), "a beginning is no end");
    assert!(matches!(find("ffffff"), Err(FindError::Unknown(_))));
    for wrong in ["", "hs_", "abc", "xyzw1", "hs_00696f5ac80000011", "'; --", "%%%%"] {
        assert!(matches!(find(wrong), Err(FindError::NotAnId(_))), "{wrong:?}");
    }
}

#[test]
fn lists_are_filtered_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut early = served(1);
    early.at_ms -= 3_600_000;
    let mut count = served(4);
    count.endpoint = Endpoint::CountTokens;
    for record in [early, failed_over(2), served(3), count] {
        keep(&store, record);
    }
    assert!(store.flush(LONG));
    let reader = reader(folder.path());
    let list = |filter: &Filter| reader.list(filter).unwrap().rows.iter().map(|row| row.record.id).collect::<Vec<_>>();
    assert_eq!(list(&all()), [1, 2, 3, 4]);
    assert_eq!(list(&Filter { limit: 2, ..all() }), [3, 4], "the latest");
    assert_eq!(list(&Filter { since_ms: now_ms() - 60_000, ..all() }), [2, 3, 4]);
    assert_eq!(list(&Filter { failovers: true, ..all() }), [2]);
    assert_eq!(list(&Filter { after: Some(1), limit: 2, ..all() }), [2, 3], "the next");
    assert_eq!(reader.last().unwrap().record.id, 3, "the last one that asked a model");
    let last = reader.last_seq().unwrap();
    assert!(list(&Filter { after: last, ..all() }).is_empty());
    keep(&store, served(5));
    assert!(store.flush(LONG));
    assert_eq!(list(&Filter { after: last, ..all() }), [5]);
}

#[test]
fn totals_add_up_what_providers_counted_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in 0..3 {
        keep(&store, failed_over(id));
    }
    keep(&store, served(3));
    let mut old = served(4);
    old.at_ms -= 48 * 3_600_000;
    keep(&store, old);
    assert!(store.flush(LONG));
    let totals = reader(folder.path()).totals(now_ms() - 3_600_000).unwrap();
    // Midnight may have come since they were made.
    let found = reader(folder.path()).today().unwrap();
    assert!(found == totals || found.is_empty(), "{found:?}");
    let cost = |profile: &str| reader(folder.path()).cost_today(profile).unwrap();
    assert!(cost("spare") == 279_000 || cost("spare") == 0, "{}", cost("spare"));
    assert_eq!([cost("work"), cost("nobody")], [0, 0]);
    let of = |profile: &str| {
        let one = |pick: fn(&hotspare_store::Total) -> u64| totals.iter().filter(|total| total.profile == profile).map(pick).sum::<u64>();
        [
            one(|t| t.attempts),
            one(|t| t.failed),
            one(|t| t.served),
            one(|t| t.counted),
            one(|t| t.cache_read),
            one(|t| t.priced),
            one(|t| t.est_cost_micro_usd),
        ]
    };
    assert_eq!(of("work"), [4, 3, 1, 1, 1000, 0, 0]);
    assert_eq!(of("spare"), [3, 0, 3, 3, 3000, 3, 279_000]);
    assert!(totals.iter().all(|total| total.model.as_deref() == Some("claude-opus-5-5")));
}

#[test]
fn totals_split_keep_sessions_and_folders_apart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (id, session) in [(0, Some("s-one")), (1, Some("s-two")), (2, Some("s-one")), (3, None)] {
        let mut record = served(id);
        record.session = session.map(str::to_owned);
        record.folder = session.map(|session| format!("/home/me/{session}"));
        keep(&store, record);
    }
    assert!(store.flush(LONG));
    let served = |split: Split, part: Option<&str>| {
        let totals = reader(folder.path()).totals_split(now_ms() - 3_600_000, split).unwrap();
        totals.iter().filter(|total| total.part.as_deref() == part).map(|total| total.served).sum::<u64>()
    };
    assert_eq!([Some("s-one"), Some("s-two"), None].map(|part| served(Split::Session, part)), [2, 1, 1]);
    assert_eq!([Some("/home/me/s-one"), Some("/home/me/s-two"), None].map(|part| served(Split::Folder, part)), [2, 1, 1]);
}

#[test]
fn old_records_go_and_new_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in 0..1200 {
        let mut record = served(id);
        record.at_ms -= 15 * 24 * 3_600_000;
        keep(&store, record);
    }
    keep(&store, served(5000));
    assert!(store.flush(LONG));
    drop(store);
    let store = open(folder.path());
    let begun = Instant::now();
    while ids(folder.path()) != [5000] {
        assert!(begun.elapsed() < LONG, "old records are still there");
        store.flush(LONG);
    }
    let left: i64 =
        Connection::open(folder.path().join(FILE)).unwrap().query_row("SELECT count(*) FROM attempts", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "attempts go with their exchange");
}

#[test]
fn while_another_process_holds_the_file_everything_waits_in_memory_and_the_oldest_give_way() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let holder = Connection::open(folder.path().join(FILE)).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE held (x); ").unwrap();
    let store = open(folder.path());
    assert!(store.trouble().expect("told").words.contains("locked by another process"));
    (0..2050).for_each(|id| keep(&store, served(id)));
    assert!(!store.flush(LONG));
    let trouble = store.trouble().expect("still");
    assert_eq!((trouble.waiting, trouble.dropped), (2048, 2));
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    assert!(store.flush(LONG), "{:?}", store.trouble());
    assert_eq!(store.trouble(), None);
    assert_eq!(store.dropped(), 2);
    assert_eq!(ids(folder.path()), (2..2050).collect::<Vec<_>>());
}

#[test]
fn it_tries_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("file-in-the-way");
    fs::write(&dir, "not a folder").unwrap();
    let store = open(&dir);
    keep(&store, served(1));
    assert!(!store.flush(LONG));
    assert!(store.trouble().expect("told").words.contains("cannot be opened"));
    fs::remove_file(&dir).unwrap();
    let begun = Instant::now();
    while store.trouble().is_some() {
        assert!(begun.elapsed() < LONG, "{:?}", store.trouble());
        std::thread::yield_now();
    }
    assert!(store.flush(LONG));
    assert_eq!(ids(&dir), [1]);
}

#[test]
fn a_damaged_file_is_kept_aside_and_a_fresh_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "no database at all, but long enough to look like one: ".repeat(100)).unwrap();
    let store = open(folder.path());
    assert_eq!(store.trouble(), None);
    keep(&store, served(1));
    assert!(store.flush(LONG));
    assert_eq!(ids(folder.path()), [1]);
    let aside = aside(folder.path());
    assert_eq!(aside.len(), 1);
    assert!(fs::read_to_string(folder.path().join(&aside[0])).unwrap().starts_with("no database at all"));
}

/// Overwrites the file from this page on.
fn damage(dir: &Path, from_page: u64) {
    let file = dir.join(FILE);
    let length = fs::metadata(&file).unwrap().len();
    let mut damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged.seek(SeekFrom::Start(from_page * 4096)).unwrap();
    damaged.write_all(&vec![0xA5; usize::try_from(length - from_page * 4096).unwrap()]).unwrap();
}

#[test]
fn damage_that_shows_only_in_use_is_mended_without_losing_what_waits() {
    // From the second page on the tables themselves are broken; from the twelfth only what is in them.
    for from_page in [1, 11] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        (0..300).for_each(|id| keep(&store, served(id)));
        drop(store);
        damage(folder.path(), from_page);
        let store = open(folder.path());
        (300..310).for_each(|id| keep(&store, served(id)));
        assert!(store.flush(LONG) || store.flush(LONG), "{:?}", store.trouble());
        assert_eq!(ids(folder.path()), (300..310).collect::<Vec<_>>());
        assert_eq!(aside(folder.path()).len(), 1);
    }
}

#[test]
fn several_that_find_the_damage_move_one_file_aside_and_share_the_fresh_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "garbage ".repeat(1000)).unwrap();
    let stores: Vec<Store> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(|| open(folder.path()))).collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (id, store) in stores.iter().enumerate() {
        keep(store, served(id as u64));
    }
    for store in &stores {
        assert!(store.flush(LONG) || store.flush(LONG), "{:?}", store.trouble());
    }
    let mut found = ids(folder.path());
    found.sort_unstable();
    assert_eq!((found, aside(folder.path()).len()), (vec![0, 1, 2, 3], 1));
}

#[test]
fn only_two_damaged_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        fs::write(folder.path().join(FILE), "garbage ".repeat(1000)).unwrap();
        drop(open(folder.path()));
    }
    assert_eq!(aside(folder.path()).len(), 2);
}

#[test]
fn a_file_that_is_deleted_under_it_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    keep(&store, served(1));
    assert!(store.flush(LONG));
    for part in ["", "-wal", "-shm"] {
        fs::remove_file(folder.path().join(format!("{FILE}{part}"))).unwrap();
    }
    keep(&store, served(2));
    assert!(store.flush(LONG) || store.flush(LONG), "{:?}", store.trouble());
    assert_eq!(ids(folder.path()), [2]);
}

/// A file of the first shape, as a version before this one left it.
#[test]
fn an_older_version_s_file_is_read_as_it_is_and_brought_up_to_date_by_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let store = open(folder.path());
    keep(&store, failed_over(1));
    assert!(store.flush(LONG));
    drop(store);
    let older = Connection::open(&file).unwrap();
    older.execute_batch("DROP INDEX attempts_by_cost; PRAGMA user_version = 1").unwrap();
    drop(older);
    let version = || Connection::open(&file).unwrap().query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ids(folder.path()), [1]);
    reader(folder.path()).cost_today("spare").unwrap();
    assert_eq!(version(), 1, "who only looks changes nothing");
    let store = open(folder.path());
    keep(&store, failed_over(2));
    assert!(store.flush(LONG), "{:?}", store.trouble());
    assert_eq!((version(), ids(folder.path())), (2, vec![1, 2]));
}

#[test]
fn a_newer_version_s_file_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let newer = Connection::open(folder.path().join(FILE)).unwrap();
    newer.execute_batch("PRAGMA user_version = 7; PRAGMA journal_mode = DELETE").unwrap();
    drop(newer);
    let before = fs::read(folder.path().join(FILE)).unwrap();
    let store = open(folder.path());
    keep(&store, served(1));
    assert!(!store.flush(LONG));
    assert!(store.trouble().expect("told").words.contains("newer hotspare"));
    assert!(Reader::open(folder.path()).is_err_and(|fault| fault.to_string().contains("newer hotspare")));
    drop(store);
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);
}

#[test]
fn a_record_that_is_far_too_long_is_given_up_and_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut long = served(1);
    long.model = Some("m".repeat(100_000));
    keep(&store, long);
    keep(&store, served(2));
    assert!(store.flush(LONG));
    assert_eq!((ids(folder.path()), store.dropped()), (vec![2], 1));
}

#[test]
fn without_a_ledger_there_is_nothing_to_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Reader::open(folder.path()).unwrap().is_none());
    fs::write(folder.path().join(FILE), "").unwrap();
    assert!(Reader::open(folder.path()).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A power cut may take the end of the write-ahead log. What is left is a beginning of what was written, and everything goes on.
    #[test]
    fn a_log_cut_anywhere_leaves_a_beginning(share in 0.0..1.0_f64) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for id in 0..20 {
            store.record(served(id));
            prop_assert!(store.flush(LONG));
        }
        let cut = tempfile::tempdir().unwrap();
        for part in ["", "-wal"] {
            fs::copy(folder.path().join(format!("{FILE}{part}")), cut.path().join(format!("{FILE}{part}"))).unwrap();
        }
        let log = fs::OpenOptions::new().write(true).open(cut.path().join(format!("{FILE}-wal"))).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a file")]
        log.set_len((log.metadata().unwrap().len() as f64 * share) as u64).unwrap();
        let reopened = open(cut.path());
        keep(&reopened, served(99));
        prop_assert!(reopened.flush(LONG));
        let mut found = ids(cut.path());
        prop_assert_eq!(found.pop(), Some(99));
        let beginning: Vec<u64> = (0..found.len() as u64).collect();
        prop_assert_eq!(found, beginning);
        prop_assert!(aside(cut.path()).is_empty());
    }

    /// Whatever stands in the file's place, opening it is quick and never fails.
    #[test]
    fn any_bytes_in_the_file_s_place_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000), header: bool) {
        let folder = tempfile::tempdir().unwrap();
        let mut content = if header { b"SQLite format 3\0".to_vec() } else { Vec::new() };
        content.extend(&bytes);
        fs::write(folder.path().join(FILE), &content).unwrap();
        let store = open(folder.path());
        keep(&store, served(1));
        prop_assert!(store.flush(LONG) || store.flush(LONG), "{:?}", store.trouble());
        prop_assert_eq!(ids(folder.path()), vec![1]);
    }
}

// Disks that refuse. Each is a child of this test program in a place of its own; the parent says what it ran on.

const PLACE: &str = "HOTSPARE_TEST_PLACE";

/// Runs one of the ignored tests below, behind `wrapper`.
fn child(wrapper: &[&str], test: &str, place: &Path) -> bool {
    let program = std::env::current_exe().unwrap();
    let (first, rest) = wrapper.split_first().unwrap();
    let mut command = Command::new(first);
    command.args(rest).arg(&program).args(["--exact", test, "--ignored", "--nocapture"]).env(PLACE, place);
    command.status().unwrap().success()
}

/// Whether a file system may be mounted here, in a name space of our own.
fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

fn place() -> std::path::PathBuf {
    std::env::var_os(PLACE).expect("run by another test of this file").into()
}

#[test]
fn a_full_disk_fails_nothing_and_is_written_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let full = "mount -t tmpfs -o size=1m,mode=700 none \"$HOTSPARE_TEST_PLACE\" && exec \"$0\" \"$@\"";
    let with_mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", full];
    // Writes over the limit fail with EFBIG where the signal is ignored.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\""];
    if may_mount() {
        println!("a full disk: tmpfs of 1 MiB");
        assert!(child(&with_mount, "on_a_full_disk", folder.path()));
    } else {
        println!("a full disk: no file system can be mounted here, only the limit on a file's size is tried");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(child(&limited, "on_a_disk_where_files_stop_growing", folder.path()));
}

/// Fills the disk with records until the store says so.
fn fill(store: &Store) -> u64 {
    for id in 0..100_000 {
        keep(store, failed_over(id));
        if id % 100 == 0 && !store.flush(LONG) {
            return id;
        }
    }
    panic!("the disk took everything");
}

/// The half of its test that needs a small disk of its own: another test of this file makes one, and starts this program there.
#[test]
#[ignore = "run by another test of this file"]
fn on_a_full_disk() {
    let dir = place();
    // A part of the disk that can be freed later.
    fs::write(dir.join("ballast"), vec![0; 512 * 1024]).unwrap();
    let store = open(&dir);
    let last = fill(&store);
    assert!(store.trouble().expect("told").words.contains("full"), "{:?}", store.trouble());
    (last + 1..last + 10).for_each(|id| keep(&store, served(id)));
    assert!(Reader::open(&dir).unwrap().is_some(), "what was written can be read on a full disk");
    fs::remove_file(dir.join("ballast")).unwrap();
    assert!(store.flush(LONG), "{:?}", store.trouble());
    drop(store);
    drop(open(&dir));
    assert_eq!(ids(&dir), (0..last + 10).collect::<Vec<_>>());
}

/// The half of its test that needs a limit on the size of files: another test of this file sets one, and starts this program under it.
#[test]
#[ignore = "run by another test of this file"]
fn on_a_disk_where_files_stop_growing() {
    let dir = place();
    let store = open(&dir);
    let last = fill(&store);
    assert!(store.trouble().is_some());
    (last + 1..last + 10).for_each(|id| keep(&store, served(id)));
    drop(store);
    let found = ids(&dir);
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "a beginning without gaps");
    drop(open(&dir));
}

#[test]
fn a_read_only_disk_fails_nothing_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    keep(&store, served(1));
    drop(store);
    let wrapper = "mount --bind \"$HOTSPARE_TEST_PLACE\" \"$HOTSPARE_TEST_PLACE\" && \
                   mount -o remount,bind,ro \"$HOTSPARE_TEST_PLACE\" && exec \"$0\" \"$@\"";
    if may_mount() {
        println!("a read-only disk: a bind mount");
        assert!(child(&["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", wrapper], "on_a_read_only_disk", folder.path()));
    } else {
        println!("a read-only disk: no file system can be mounted here, modes are taken away instead");
        fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        let passed = child(&["env"], "on_a_read_only_disk", folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(passed);
    }
}

/// The half of its test that needs a place where nothing can be written: another test of this file makes one, and starts this program there.
#[test]
#[ignore = "run by another test of this file"]
fn on_a_read_only_disk() {
    let dir = place();
    let store = open(&dir);
    keep(&store, served(2));
    store.change("cooldowns", vec![put("a", now_ms() + 60_000)]);
    assert!(!store.flush(LONG));
    let words = store.trouble().expect("told").words;
    assert!(words.contains("only be read") || words.contains("cannot be opened"), "{words}");
    assert_eq!(store.load("cooldowns").len(), 1, "memory goes on");
    assert_eq!(ids(&dir), [1]);
}
