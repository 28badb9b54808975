//! Watches the configuration's files and puts a new configuration in place, whole or not at all. Never stops serving: whatever is wrong
//! with the new one, the last good one goes on, and `status` says so (security.md T28).
//!
//! Exchanges that run keep the snapshot they began with. What is bound to the process, its address and its connections, stays as it was
//! started; a change of it is told and waits for the next start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotspare_config::{Config, Fingerprint};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use crate::server::Gateway;

/// Editors write in several steps: so long must the files have been quiet.
const QUIET: Duration = Duration::from_millis(150);

/// Longest that a change waits for quiet: another program may write in the same folder all the time.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Between two looks where the system cannot tell of changes (no watches left, a network's file system).
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the configuration anew; the error is for people, already drawn.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Names every file that may have a say, whether it exists or not.
pub type Files = Arc<dyn Fn() -> Vec<PathBuf> + Send + Sync>;

/// Keeps a gateway's configuration up to date.
pub struct Reload {
    gateway: Arc<Gateway>,
    load: Load,
    files: Files,
    seen: Fingerprint,
}

impl Reload {
    /// For a gateway that was started with what `load` gave.
    pub fn new(gateway: Arc<Gateway>, load: Load, files: Files) -> Self {
        let seen = Fingerprint::of(&files());
        Self { gateway, load, files, seen }
    }

    /// What is not as it was then counts as changed: taken before the configuration was read for the start, it misses nothing.
    #[must_use]
    pub fn since(mut self, seen: Fingerprint) -> Self {
        self.seen = seen;
        self
    }

    /// Watches until it is dropped; a notice on `asked` (SIGHUP) reads anew whatever has changed.
    pub async fn watch(mut self, asked: Arc<Notify>) {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watch = Watch::new(changed);
        loop {
            let follows_all = watch.follow(&(self.files)());
            // Between the last look and the watch something may have changed.
            let is_asked = if Fingerprint::of(&(self.files)()) == self.seen {
                // Cancel-safe: a notice and a change that were not taken stay where they are.
                tokio::select! {
                    () = asked.notified() => true,
                    Some(()) = changes.recv() => false,
                    () = tokio::time::sleep(LOOK_EVERY), if !follows_all => false,
                }
            } else {
                false
            };
            if !is_asked {
                quiet(&mut changes).await;
            }
            let found = Fingerprint::of(&(self.files)());
            if is_asked || found != self.seen {
                self.seen = found;
                self.now().await;
            }
        }
    }

    /// Reads the configuration anew; whether it is in place.
    pub async fn now(&self) -> bool {
        let outcome = self.fresh().await;
        if let Err(error) = &outcome {
            tracing::warn!("the new configuration is not used, the last good one goes on:\n{error}");
        } else {
            tracing::info!("the configuration was read anew");
        }
        let is_good = outcome.is_ok();
        self.gateway.note_config(outcome);
        is_good
    }

    async fn fresh(&self) -> Result<Config, String> {
        let load = self.load.clone();
        // A file may lie on a slow network: nobody waits for it.
        let config =
            tokio::task::spawn_blocking(move || load()).await.map_err(|_| "hotspare: a bug of ours while reading".to_owned())??;
        let snapshot = self.gateway.compile(&config).map_err(|error| error.to_string())?;
        if let Some((name, error)) = snapshot.missing_credentials().await.lasting.first() {
            return Err(format!("profile `{name}` has no credential: {error}"));
        }
        self.gateway.replace(snapshot);
        Ok(config)
    }
}

/// Waits until no change has come for a while. Looks once in that while and not at every change: in a folder where a log is written there are thousands
/// a second.
async fn quiet(changes: &mut mpsc::Receiver<()>) {
    let settled = async {
        loop {
            tokio::time::sleep(QUIET).await;
            if changes.try_recv().is_err() {
                break;
            }
        }
    };
    // Cancel-safe: what is lost are changes that are looked at next anyway.
    let _ = tokio::time::timeout(LONGEST_WAIT, settled).await;
}

/// The folders that are watched. Folders, because a file is replaced by another of its name when it is saved.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    fn new(changed: mpsc::Sender<()>) -> Self {
        let tell = move |event: notify::Result<notify::Event>| {
            let is_change = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if is_change {
                // Full: one is waiting already, and it will look at everything.
                let _ = changed.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::info!(%error, "the system does not tell of changes: files are looked at every few seconds"))
            .ok();
        Self { watcher, folders: BTreeSet::new() }
    }

    /// Watches what these files need now; whether all of it can be watched.
    fn follow(&mut self, files: &[PathBuf]) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted: BTreeSet<PathBuf> = files.iter().flat_map(|file| folders(file)).collect();
        for gone in self.folders.difference(&wanted) {
            // It may be gone from the disk too.
            let _ = watcher.unwatch(gone);
        }
        self.folders.retain(|folder| wanted.contains(folder));
        for folder in wanted {
            // A folder that was removed and made again needs a new watch: asking twice does no harm.
            if watcher.watch(&folder, RecursiveMode::NonRecursive).is_err() {
                return false;
            }
            self.folders.insert(folder);
        }
        true
    }
}

/// The folder that a file stands in, or the nearest one that exists, so that its making is seen; and where links to it lead. What is a folder itself is
/// watched for what is in it.
fn folders(file: &Path) -> Vec<PathBuf> {
    let nearest = |file: &Path| file.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned);
    let real = file.canonicalize().ok().and_then(|real| nearest(&real));
    nearest(file).into_iter().chain(real).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::{Future, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_is_written_to_all_the_time_is_looked_at_now_and_then() {
        let (changed, mut changes) = mpsc::channel(1);
        let looks = Arc::new(AtomicUsize::new(0));
        let counter = looks.clone();
        let waiting = tokio::spawn(async move {
            let mut waiting = Box::pin(quiet(&mut changes));
            poll_fn(|context| {
                counter.fetch_add(1, Ordering::Relaxed);
                waiting.as_mut().poll(context)
            })
            .await;
        });
        let begun = tokio::time::Instant::now();
        while !waiting.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _ = changed.try_send(());
        }
        assert!(begun.elapsed() <= LONGEST_WAIT + QUIET, "{:?}", begun.elapsed());
        let looks = looks.load(Ordering::Relaxed);
        assert!(looks < 30, "{looks} looks in {:?}", begun.elapsed());
    }

    #[test]
    fn the_nearest_folder_is_watched_and_the_one_behind_a_link() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = |path: &str| root.path().canonicalize().expect("it is there").join(path);
        assert_eq!(folders(&path("a/b/config.json")), [path("")]);
        fs::create_dir_all(path("a/b")).expect("made");
        assert_eq!(folders(&path("a/b/config.json")), [path("a/b")]);
        assert_eq!(folders(&path("a/b"))[0], path("a/b"), "what comes into a folder is seen there alone");
        fs::create_dir_all(path("dotfiles")).expect("made");
        fs::write(path("dotfiles/config.json"), "{}").expect("written");
        std::os::unix::fs::symlink(path("dotfiles/config.json"), path("a/b/config.json")).expect("linked");
        assert_eq!(folders(&path("a/b/config.json")), [path("a/b"), path("dotfiles")]);
    }
}
