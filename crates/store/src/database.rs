//! Opens the database file and brings it to today's shape. Never deletes one: what cannot be read is moved aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::now_ms;

/// The file's name in the state folder.
pub const FILE: &str = "ledger.db";

/// Held while a damaged file is moved aside, so that two processes never move the same one, or each other's fresh one.
const LOCK_FILE: &str = "ledger.lock";

/// The steps from an empty file to today's shape. A step that was published is never changed; a new one goes to the end.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/1.sql"), include_str!("migrations/2.sql")];

/// The shape that this program knows, as `user_version` counts it.
pub(crate) const SCHEMA_VERSION: i64 = 2;

const _: () = assert!(SCHEMA_VERSION.unsigned_abs() == MIGRATIONS.len() as u64, "each step has a number");

/// Damaged files that are kept beside the good one; older ones are removed, so that they cannot fill the disk.
const KEPT_ASIDE: usize = 2;

/// Most of the file that is kept in memory, in KiB. Rows are appended and rarely read: SQLite's own 2 MiB fill up within minutes with pages
/// that nobody asks for again (measured: a fifth of the whole process).
const PAGE_CACHE_KIB: i64 = 256;

/// Most bytes that the write-ahead log keeps after its content has gone to the database.
const LOG_LEFTOVER: i64 = 4 * 1024 * 1024;

/// The endings of the files that make up one database.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A later version has been here.
    #[error("`{}` was written by a newer hotspare (its shape is {found}, this program knows {SCHEMA_VERSION})", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its `user_version`.
        found: i64,
    },
    /// It is no database, or a broken one.
    #[error("`{}` is damaged", .0.display())]
    Damaged(PathBuf),
    /// Another process holds it for too long.
    #[error("`{}` is locked by another process", .0.display())]
    Locked(PathBuf),
    /// No space is left.
    #[error("`{}` cannot grow: the disk is full", .0.display())]
    Full(PathBuf),
    /// It, its folder or its file system may only be read.
    #[error("`{}` may only be read", .0.display())]
    ReadOnly(PathBuf),
    /// It is gone, or another file has its name.
    #[error("`{}` is no longer the file that was opened", .0.display())]
    Replaced(PathBuf),
    /// The file or its folder cannot be made or opened.
    #[error("`{}` cannot be opened: {source}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error("`{}`: {source}", file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl Fault {
    /// What an error of SQLite means for people.
    pub(crate) fn of(file: &Path, source: rusqlite::Error) -> Self {
        let file = file.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(file),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(file),
            Some(ErrorCode::DiskFull) => Self::Full(file),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly(file),
            _ => Self::Other { file, source },
        }
    }

    fn of_io(file: &Path, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(file),
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(file),
            _ => Self::Unusable { file, source },
        }
    }
}

/// The open file.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    file: PathBuf,
    identity: Option<Identity>,
}

impl Database {
    /// Opens the file in `dir` for writing, makes it where it is missing, and moves a damaged one aside. Waits at most `patience` for
    /// another process.
    pub(crate) fn open(dir: &Path, patience: Duration) -> Result<Self, Fault> {
        let file = dir.join(FILE);
        make_private(dir, &file).map_err(|error| Fault::of_io(&file, error))?;
        // Known before it is opened: what another process puts in its place later is not what was found damaged.
        let identity = Identity::of(&file);
        match Self::open_as_it_is(&file, identity, patience) {
            Err(Fault::Damaged(_)) => {
                move_aside(dir, &file, identity)?;
                make_private(dir, &file).map_err(|error| Fault::of_io(&file, error))?;
                Self::open_as_it_is(&file, Identity::of(&file), patience)
            }
            opened => opened,
        }
    }

    fn open_as_it_is(file: &Path, identity: Option<Identity>, patience: Duration) -> Result<Self, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)
            .and_then(|connection| connection.busy_timeout(patience).map(|()| connection))
            .map_err(|error| Fault::of(file, error))?;
        let mut database = Self { connection, file: file.to_owned(), identity };
        database.prepare()?;
        Ok(database)
    }

    /// Settings and shape. A file that a newer version wrote is left as it is.
    fn prepare(&mut self) -> Result<(), Fault> {
        let found = user_version(&self.connection).map_err(|error| self.fault(error))?;
        if found > SCHEMA_VERSION {
            return Err(Fault::Newer { file: self.file.clone(), found });
        }
        configure(&self.connection).and_then(|()| migrate(&mut self.connection)).map_err(|error| self.fault(error))
    }

    /// Waits at most so long for another process from here on.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<(), Fault> {
        self.connection.busy_timeout(patience).map_err(|error| self.fault(error))
    }

    /// What an error of this file's connection means.
    pub(crate) fn fault(&self, error: rusqlite::Error) -> Fault {
        Fault::of(&self.file, error)
    }

    /// Whether the file's name still leads to the file that was opened: what is written to a deleted file is lost.
    pub(crate) fn check_in_place(&self) -> Result<(), Fault> {
        if Identity::of(&self.file) == self.identity { Ok(()) } else { Err(Fault::Replaced(self.file.clone())) }
    }

    /// Closes the damaged file and moves it aside, unless another process has done so already.
    pub(crate) fn give_up_damaged(self) -> Result<(), Fault> {
        let Self { connection, file, identity } = self;
        // Closing may fail on a damaged file; the descriptors go all the same.
        drop(connection);
        let dir = file.parent().expect("the file was made from a folder and a name").to_owned();
        move_aside(&dir, &file, identity)
    }
}

/// What tells one file from another that has got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(file).ok().map(|found| Self { device: found.dev(), inode: found.ino() })
    }

    #[cfg(not(unix))]
    fn of(_file: &Path) -> Option<Self> {
        None
    }
}

/// Folder and file, for their owner alone, whatever the umask says. SQLite gives its side files the mode of the main one.
fn make_private(dir: &Path, file: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    narrow(dir, 0o700)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?;
    narrow(file, 0o600)
}

/// Takes away what `mode` does not allow; asks for nothing when nothing is to be taken.
#[cfg(unix)]
fn narrow(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let found = fs::metadata(path)?.permissions().mode();
    if found & 0o777 & !mode == 0 { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(found & mode)) }
}

#[cfg(not(unix))]
fn narrow(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// One pragma, whether it answers with a row or with none.
fn set(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    })
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first table, or it has no effect: pruned rows give their space back.
    set(connection, "auto_vacuum", "INCREMENTAL")?;
    // Readers never wait for the writer. Some network file systems refuse it: then readers and the writer take turns.
    set(connection, "journal_mode", "WAL")?;
    // A killed process loses nothing that was committed; only a power cut may take the last moments.
    set(connection, "synchronous", "NORMAL")?;
    set(connection, "foreign_keys", "ON")?;
    set(connection, "trusted_schema", "OFF")?;
    // A negative number counts KiB.
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LEFTOVER, |_| Ok(()))
}

pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    if user_version(connection)? == SCHEMA_VERSION {
        return Ok(());
    }
    // Two processes may get here at once: the second one finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = usize::try_from(user_version(&transaction)?).unwrap_or_default();
    for step in MIGRATIONS.iter().skip(found) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Gives the damaged file another name, if it is still the one that was found damaged.
fn move_aside(dir: &Path, file: &Path, identity: Option<Identity>) -> Result<(), Fault> {
    let lock = OpenOptions::new().append(true).create(true).open(dir.join(LOCK_FILE)).map_err(|error| Fault::of_io(file, error))?;
    if lock.try_lock().is_err() {
        return Err(Fault::Locked(file.to_owned()));
    }
    if Identity::of(file) == identity {
        let aside = format!("{}.broken-{}", file.display(), now_ms());
        tracing::warn!(file = %file.display(), %aside, "the database is damaged: it is kept under another name, and a fresh one is begun");
        // The main file goes last: whoever opens it in between finds it damaged too, and waits for the lock.
        for part in PARTS.iter().rev() {
            match fs::rename(format!("{}{part}", file.display()), format!("{aside}{part}")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::of_io(file, error)),
                _ => {}
            }
        }
        remove_oldest(dir);
    }
    drop::<File>(lock);
    Ok(())
}

/// Best effort: what cannot be removed stays.
fn remove_oldest(dir: &Path) {
    let marker = format!("{FILE}.broken-");
    let Ok(entries) = fs::read_dir(dir) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut aside: Vec<String> =
        names.filter(|name| name.starts_with(&marker) && !PARTS[1..].iter().any(|part| name.ends_with(part))).collect();
    aside.sort_unstable();
    for name in aside.iter().rev().skip(KEPT_ASIDE) {
        for part in PARTS {
            let _ = fs::remove_file(dir.join(format!("{name}{part}")));
        }
    }
}
