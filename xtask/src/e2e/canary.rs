//! The credentials of the cases, each a secret of this run alone, and the search for them when the cases are over: in every file that is left
//! in the folders of any case, with all that was printed, shown or told to a hook. Never looks into a place that holds one by design, but to
//! see that the search would find it.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::canary::{self, Heap, Needles};

use super::world::{Tools, World};

/// Whose credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    /// The client's own, key or login: it may reach the primary alone.
    Client,
    /// The spare's key: it may reach the spare alone.
    Spare,
    /// The first login of two.
    Work,
    /// The second login.
    Personal,
    /// What renews a login.
    Refresh,
    /// The user at the machine's own proxy.
    Proxy,
}

impl Secret {
    const ALL: [Self; 6] = [Self::Client, Self::Spare, Self::Work, Self::Personal, Self::Refresh, Self::Proxy];

    /// As it stands in its place.
    pub(super) fn text(self) -> &'static str {
        static TEXTS: LazyLock<[String; 6]> = LazyLock::new(|| {
            let seed = RandomState::new().hash_one("hotspare");
            Secret::ALL.map(|secret| format!("{}{}", secret.prefix(), canary::random(&format!("{secret:?}"), seed)))
        });
        &TEXTS[self as usize]
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Work | Self::Personal => "sk-ant-oat01-test-",
            Self::Client | Self::Spare | Self::Refresh | Self::Proxy => "sk-ant-test-",
        }
    }

    fn random(self) -> &'static str {
        &self.text()[self.prefix().len()..]
    }
}

/// Where a secret stands by design, from a case's folder, and why. A folder stands for what is in it.
const OWN_PLACES: [(&str, &str); 6] = [
    ("claude", "the client's own: its login, its approval of the key, and the local token where hotspare is installed"),
    ("logins", "the client's own, of two more logins"),
    ("session.sh", "the case's: it starts the client in a terminal, with its environment"),
    ("state/hotspare/token", "the local token itself, for its owner alone"),
    ("state/hotspare/ca/authority.json", "the key of this machine's authority where full mode is installed, for its owner alone"),
    ("state/hotspare/keychain", "keys that `init` keeps, for their owner alone"),
];

/// What shows something. Each prints whatever it likes at its most talkative.
const COMMANDS: [&[&str]; 7] = [
    &["status"],
    &["status", "--json"],
    &["why"],
    &["why", "--json"],
    &["logs", "--json"],
    &["usage", "--json"],
    &["config", "show", "--origin"],
];

/// What a user would look at when the client is gone.
pub(super) fn look_around(tools: &Tools, world: &World) -> Result<()> {
    for arguments in COMMANDS {
        let mut command = Command::new(&tools.hotspare);
        command.args(arguments).env_clear().envs(world.environment()).env("HOTSPARE_CONFIG", &world.config).env("HOTSPARE_LOG", "trace");
        let output = command.current_dir(world.project()).stdin(Stdio::null()).output().context("hotspare does not start")?;
        world.keep(&arguments.join(" "), &output.stdout)?;
        world.keep(&arguments.join(" "), &output.stderr)?;
    }
    Ok(())
}

/// Everything that is left of the cases.
#[derive(Default)]
struct Remains {
    searched: Heap,
    by_design: Heap,
}

impl Remains {
    fn gather(worlds: &Path) -> Result<Self> {
        let mut remains = Self::default();
        for world in fs::read_dir(worlds)? {
            remains.gather_from(worlds, &world?.path(), "")?;
        }
        Ok(remains)
    }

    /// What lies at `within` of a case's folder. Links are not followed, and sockets hold nothing.
    fn gather_from(&mut self, worlds: &Path, world: &Path, within: &str) -> Result<()> {
        for entry in fs::read_dir(world.join(within))? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let place = path.strip_prefix(world)?.to_string_lossy().into_owned();
            if kind.is_dir() {
                self.gather_from(worlds, world, &place)?;
            } else if kind.is_file() {
                let heap = if is_own_place(&place) { &mut self.by_design } else { &mut self.searched };
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                heap.put(&path.strip_prefix(worlds)?.to_string_lossy(), bytes);
            }
        }
        Ok(())
    }

    /// Those of this run, and the local token of each case that has written one.
    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for secret in Secret::ALL {
            needles.add(&format!("{secret:?}"), secret.random());
        }
        for (place, bytes) in &self.by_design.0 {
            if place.ends_with("state/hotspare/token") {
                let token = String::from_utf8_lossy(bytes);
                needles.add(place, token.trim_end_matches('\0').trim().trim_start_matches("hs-"));
            }
        }
        needles
    }

    /// There is something of every kind to search in.
    fn is_worth_a_search(&self) -> Result<()> {
        for kind in ["ledger.db", "said/hook", "said/why", "said/claude", "said/serve", "said/metrics", "service.log"] {
            let known = self.searched.0.iter().any(|(place, bytes)| place.ends_with(kind) && bytes.len() > 1);
            ensure!(known, "canary: the cases have left nothing in any `{kind}`");
        }
        Ok(())
    }
}

fn is_own_place(place: &str) -> bool {
    OWN_PLACES.iter().any(|(own, _)| is_within(place, own))
}

fn is_within(place: &str, own: &str) -> bool {
    place.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Prints what was searched and how; fails on a hit. `is_whole`: all cases were run.
pub(super) fn search(worlds: &Path, is_whole: bool) -> Result<()> {
    let remains = Remains::gather(worlds)?;
    let needles = remains.needles();
    let hits = remains.searched.hits(&needles);
    println!(
        "canary: {} secrets, {} files, {} bytes, {} hits",
        needles.secrets(),
        remains.searched.0.len(),
        remains.searched.bytes(),
        hits.len()
    );
    let held: BTreeSet<String> = remains.by_design.hits(&needles).into_iter().map(|(_, place)| place).collect();
    for (own, why) in OWN_PLACES {
        let here = |place: &&String| place.split_once('/').is_some_and(|(_, within)| is_within(within, own));
        let (files, with_one) = (remains.by_design.0.keys().filter(here).count(), held.iter().filter(here).count());
        println!("        not searched: {own:<24} {files:>4} files, {with_one:>3} with a secret: {why}");
    }
    for (secret, place) in &hits {
        println!("        LEAKED  {secret} stands in {place}");
    }
    ensure!(hits.is_empty(), "canary: secrets stand where they must not");
    // A filter may have left the cases of the lab alone, which are searched inside it.
    let has_nothing = remains.searched.0.is_empty() && remains.by_design.0.is_empty();
    ensure!(
        !held.is_empty() || has_nothing && !is_whole,
        "canary: no secret was found even where it stands by design: the search is broken"
    );
    if is_whole { remains.is_worth_a_search() } else { Ok(()) }
}
