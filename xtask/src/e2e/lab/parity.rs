//! Four ways to the same provider while all is well. What it gets, what runs and what is left on disk equals direct, but for the differences
//! that are named here with their reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hotspare_testkit::{Received, Script, answers};

use super::super::cases::Mode;
use super::super::faults::{self, FIRST, SECOND};
use super::super::world::Tools;
use super::differences::Call;
use super::provider::{self, Purpose};
use super::user::{Account, Lab, PERMISSIONS, Way, turn};

pub(super) const NAME: &str = "parity: direct, run, run in full mode, installed";

/// The tool call: which names the environment has inside the Bash tool.
const CALL: (&str, &str) = ("Bash", r#"{"command":"env | cut -d= -f1 | sort > environment.txt","description":"Lists names"}"#);

/// What an organisation manages: full mode passes it through.
const MANAGED: [&str; 2] = ["GET /api/claude_code/settings", "GET /api/claude_code/policy_limits"];

/// The prompt of the second turn.
const AGAIN: &str = "Once more.";

const ENVIRONMENT: &str = "environment.txt";

/// A difference that is known: the ways in which it shows, how its place begins, and its reason.
struct Named {
    ways: &'static [Way],
    place: &'static str,
    why: &'static str,
}

const fn named(ways: &'static [Way], place: &'static str, why: &'static str) -> Named {
    Named { ways, place, why }
}

const BASE: &[Way] = &[Way::Run, Way::Installed];
const RUN: &[Way] = &[Way::Run, Way::Full];
const FULL: &[Way] = &[Way::Full];
const ALL: &[Way] = &[Way::Run, Way::Full, Way::Installed];

const VIA: &str = "hotspare names itself and takes answers uncompressed";
const NO_BACKGROUND: &str = "`run` switches background agents off, and with them the agent `claude`";
const BEHIND_URL: &str = "the client sends less behind a base URL: betas, request classes, cache scope, diagnostics";
const FIRST_PARTY: &str = "the client asks this of its provider's own host alone";
const ARTIFACTS: &str = "artifacts are off behind a base URL";
const STREAMED_TOOLS: &str = "hotspare switches fine-grained tool streaming on";
const ONE_MODEL: &str = "behind a base URL side requests go to the main model, not to Haiku";
const TIMED: &str = "background work of the client may be over or not";

/// Measured with Claude Code 2.1.332.
const NAMED: [Named; 29] = [
    named(ALL, "Main header accept-encoding", VIA),
    named(ALL, "Main header connection", VIA),
    named(ALL, "Main header via", VIA),
    named(ALL, "Title header accept-encoding", VIA),
    named(ALL, "Title header connection", VIA),
    named(ALL, "Title header via", VIA),
    named(ALL, "Quota header accept-encoding", VIA),
    named(ALL, "Quota header connection", VIA),
    named(ALL, "Quota header via", VIA),
    named(RUN, "Main body.messages.*.text: - claude: ", NO_BACKGROUND),
    named(BASE, "Main beta ", BEHIND_URL),
    named(BASE, "Title beta ", BEHIND_URL),
    named(BASE, "Quota beta ", BEHIND_URL),
    named(BASE, "Main header x-cl", BEHIND_URL),
    named(BASE, "Title header x-cl", BEHIND_URL),
    named(BASE, "Quota header x-cl", BEHIND_URL),
    named(BASE, "Main body.diagnostics", BEHIND_URL),
    named(BASE, "Main body.system", BEHIND_URL),
    named(BASE, "Title body.system", BEHIND_URL),
    named(BASE, "Main body.tools.*.eager_input_streaming", STREAMED_TOOLS),
    named(BASE, "Main body.tools.Artifact", ARTIFACTS),
    named(BASE, "Main body.messages.*.text: - artifact-", ARTIFACTS),
    named(BASE, "Title body.model", ONE_MODEL),
    named(BASE, "Quota body.model", ONE_MODEL),
    named(BASE, "request ", FIRST_PARTY),
    named(FULL, "request ", TIMED),
    named(ALL, "Main body.messages.*.text: The following MCP servers are still connecting", TIMED),
    named(ALL, "Main body.messages.*.text: claude-artifacts", TIMED),
    named(ALL, "Main body.messages.*.text: If the user's request might be served by one", TIMED),
];

/// What one way showed.
struct Seen {
    calls: BTreeMap<Purpose, Vec<Call>>,
    /// Method and path of the other requests to the provider.
    side: BTreeSet<String>,
    /// Names in the environment of the Bash tool.
    environment: BTreeSet<String>,
    /// Files at home and in the project.
    files: BTreeSet<String>,
}

fn play(request: &Received) -> Script {
    provider::model(request, || {
        let body = request.json();
        let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let said = |part: &str| messages.iter().any(|message| message.to_string().contains(part));
        match (said(AGAIN), said("tool_result")) {
            (true, _) => faults::healthy(SECOND),
            (false, true) => faults::healthy(FIRST),
            (false, false) => Script::new().sse().events(&answers::tool(CALL.0, CALL.1)).end(),
        }
    })
}

pub(super) async fn run(tools: &Tools, mode: Mode) -> Result<()> {
    let account = if mode == Mode::Print { Account::Key } else { Account::Max };
    let direct = seen(tools, mode, account, Way::Direct).await.context("direct")?;
    let mut unnamed = Vec::new();
    for way in ALL {
        let other = seen(tools, mode, account, *way).await.with_context(|| format!("{way:?}"))?;
        let lost: Vec<&&str> = MANAGED.iter().filter(|line| direct.side.contains(**line) && !other.side.contains(**line)).collect();
        ensure!(*way != Way::Full || lost.is_empty(), "full mode lost {lost:?}");
        let mut reasons = BTreeSet::new();
        for place in direct.differences(&other) {
            match NAMED.iter().find(|named| named.ways.contains(way) && place.starts_with(named.place)) {
                Some(named) => drop(reasons.insert(named.why)),
                None => unnamed.push(format!("{way:?}: {place}")),
            }
        }
        println!("        {way:?} differs from direct: {}", reasons.into_iter().collect::<Vec<_>>().join("; "));
    }
    ensure!(unnamed.is_empty(), "differences from direct that no table names: {unnamed:#?}");
    Ok(())
}

async fn seen(tools: &Tools, mode: Mode, account: Account, way: Way) -> Result<Seen> {
    let lab = Lab::open(tools, account, play, &[]).await?;
    let turns = [turn("Say something.", FIRST), turn(AGAIN, SECOND)];
    let talk = lab.talk_with(mode, way, &PERMISSIONS, &turns, |_| ());
    let talked = if way == Way::Installed { lab.while_installed(&[], talk).await } else { talk.await };
    lab.look_around()?;
    talked?;
    let folder = lab.world.project().parent().context("the project is in the case's folder")?.to_owned();
    let mut calls: BTreeMap<Purpose, Vec<Call>> = BTreeMap::new();
    let mut side = BTreeSet::new();
    for request in lab.provider.requests() {
        match provider::purpose(&request) {
            Some(purpose) => calls.entry(purpose).or_default().push(Call::new(&request, &folder)),
            None => drop(side.insert(format!("{} {}", request.method, request.path()))),
        }
    }
    let environment = fs::read_to_string(lab.world.project().join(ENVIRONMENT)).context("the Bash tool did not run")?;
    let mut files = BTreeSet::new();
    for name in ["home", "project"] {
        list(&folder, name, &mut files)?;
    }
    Ok(Seen { calls, side, environment: environment.lines().map(str::to_owned).collect(), files })
}

/// The client's own cache, with times in its names.
const CACHE: &str = "home/.cache";

/// Every file below `name`, by its path from `folder`.
fn list(folder: &Path, name: &str, files: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder.join(name))? {
        let entry = entry?;
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if path == CACHE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(folder, &path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

impl Seen {
    fn differences(&self, other: &Self) -> BTreeSet<String> {
        let mut places = BTreeSet::new();
        for purpose in self.calls.keys().chain(other.calls.keys()) {
            let [one, two] = [self, other].map(|seen| seen.calls.get(purpose).map(Vec::as_slice).unwrap_or_default());
            if one.len() != two.len() {
                places.insert(format!("{purpose:?} calls: {} instead of {}", two.len(), one.len()));
            }
            for (one, two) in one.iter().zip(two) {
                places.extend(one.differences(two).into_iter().map(|place| format!("{purpose:?} {place}")));
            }
        }
        let sets = [
            ("request", &self.side, &other.side),
            ("environment", &self.environment, &other.environment),
            ("file", &self.files, &other.files),
        ];
        for (what, one, two) in sets {
            places.extend(one.symmetric_difference(two).map(|name| format!("{what} {name}")));
        }
        places
    }
}
