//! Folders behind one gateway: each session is led by the rules of the folder that it works in, also after a restart; a session whose
//! folder is not known reaches only what every chain allows; and no file that a project brings along loosens anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotspare_config::{Context, Folders, Locations, TrustStore};
use hotspare_gateway::notices::NoticesAnswer;
use hotspare_gateway::session_folder::{FolderStatus, FoldersStatus, SessionAnswer};
use hotspare_gateway::{Gateway, Options, Status};
use hotspare_store::{Filter, Reader, Store};
use hotspare_testkit::{Script, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::client::{Answer, Ask, Connection};
use crate::proxy::{healthy, options, plays};

/// For the store's own thread.
const LONG: Duration = Duration::from_secs(30);

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A home with projects, and the providers `a`, `b` and `c` that its profiles of the same names go to.
struct Home {
    folder: TempDir,
    providers: Vec<Upstream>,
}

/// A gateway that serves it, as a service does.
struct Service {
    gateway: Arc<Gateway>,
    store: Store,
    serving: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
        assert!(self.store.flush(LONG), "{:?}", self.store.trouble());
    }
}

impl Home {
    /// With these chains of folders before `a`, then `b`, then `c`.
    async fn new(chains: &[(&str, &[&str])]) -> Self {
        Self::with_providers(chains, [healthy("from a").await, healthy("from b").await, healthy("from c").await])
    }

    /// The same where `a` is down.
    async fn with_a_down(chains: &[(&str, &[&str])]) -> Self {
        let down = plays(Script::error(503, "api_error", "down")).await;
        Self::with_providers(chains, [down, healthy("from b").await, healthy("from c").await])
    }

    fn with_providers(chains: &[(&str, &[&str])], providers: [Upstream; 3]) -> Self {
        let home = Self { folder: tempfile::tempdir().expect("a temporary folder"), providers: providers.into() };
        home.configure(chains);
        home
    }

    fn configure(&self, chains: &[(&str, &[&str])]) {
        let profile = |name: &str| {
            let place = NAMES.iter().position(|known| *known == name).expect("one of ours");
            json!({ "base_url": self.providers[place].url(), "auth": { "value": format!("sk-ant-test-{name}") } })
        };
        let chains: Vec<Value> =
            chains.iter().map(|(project, profiles)| json!({ "match": { "project": project }, "profiles": profiles })).collect();
        let config = json!({
            "failover_policy": { "primary_profile": "a", "secondary_profile": ["b", "c"], "chains": chains },
            "profiles": { "a": profile("a"), "b": profile("b"), "c": profile("c") },
        });
        self.write(".config/hotspare/config.json", config.to_string());
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("it is there").join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn make(&self, folders: &[&str]) {
        for folder in folders {
            fs::create_dir_all(self.path(folder)).expect("made");
        }
    }

    fn locations(&self) -> Locations {
        let variable = self.folder.path().as_os_str().to_owned();
        let locations = Locations::find(&|name| (name == "HOME").then(|| variable.clone()), None).expect("a home");
        Locations { managed_file: self.path("managed.json"), claude_managed: self.path("managed-settings.json"), ..locations }
    }

    /// Trusts the project files of a folder as they are now.
    fn trust(&self, folder: &str) {
        let context = Context::new(self.path(folder)).trusting_all();
        let store = TrustStore::new(&self.locations().state_dir);
        for project in hotspare_config::load(&self.locations(), &context).expect("valid").projects {
            store.pin(&project.file, &project.digest).expect("pinned");
        }
    }

    async fn serve(&self) -> Service {
        self.serve_in("").await
    }

    /// The same started in a folder, as systemd starts a user's service at home.
    async fn serve_in(&self, folder: &str) -> Service {
        let context = Context::new(self.path(folder));
        let locations = self.locations();
        let config = hotspare_config::load(&locations, &context).expect("valid");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let store = Store::open(&locations.state_dir, hotspare_store::Options::default());
        let gateway = Gateway::new(&config, &listener, Options { store: Some(store.clone()), ..options() }).expect("a gateway");
        gateway.bind_folders(Folders::new(locations, context));
        let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending()));
        Service { gateway, store, serving: serving.abort_handle() }
    }

    /// How many requests each provider got.
    fn asked(&self) -> [usize; 3] {
        std::array::from_fn(|place| self.providers[place].messages().len())
    }
}

impl Service {
    async fn ask(&self, ask: &Ask) -> Answer {
        let mut connection = Connection::open(self.gateway.local()).await;
        connection.ask(ask).await;
        connection.answer().await
    }

    async fn enter(&self, session: &str, folder: &Path) -> SessionAnswer {
        let request = json!({ "session": session, "folder": folder });
        let answer = self.ask(&post(&request.to_string())).await;
        serde_json::from_str(&answer.text()).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
    }

    /// The name of the provider that answered a turn of this session, or the status of a refusal.
    async fn turn(&self, session: &str) -> String {
        let answer = self.ask(&Ask::turn().session(session)).await;
        answer.profile().filter(|_| answer.status == 200).map_or_else(|| answer.status.to_string(), str::to_owned)
    }

    async fn folders(&self) -> FoldersStatus {
        let status = self.ask(&Ask::new("GET", "/hotspare/status")).await.text();
        serde_json::from_str::<Status>(&status).expect("a status").folders.expect("folders are bound")
    }

    async fn notices(&self) -> Vec<String> {
        let answer = self.ask(&Ask::new("GET", "/hotspare/notices")).await.text();
        serde_json::from_str::<NoticesAnswer>(&answer).expect("notices").notices.into_iter().map(|told| told.text).collect()
    }

    /// Has every folder's files looked at again, as a changed configuration does.
    fn look_again(&self) {
        self.gateway.replace(self.gateway.snapshot());
    }

    fn last_record(&self, home: &Home) -> hotspare_core::ExchangeRecord {
        assert!(self.store.flush(LONG), "{:?}", self.store.trouble());
        let reader = Reader::open(&home.locations().state_dir).expect("readable").expect("a ledger");
        let filter = Filter { since_ms: 0, failovers: false, after: None, limit: 100 };
        reader.list(&filter).expect("a list").rows.into_iter().max_by_key(|row| row.seq).expect("a record").record
    }
}

fn post(body: &str) -> Ask {
    Ask::new("POST", "/hotspare/session").header("Content-Type", "application/json").body(body.to_owned())
}

fn led(answer: &SessionAnswer) -> (&str, Vec<&str>) {
    let folder = answer.folder.as_ref().expect("known");
    (&folder.chain, folder.profiles.iter().map(String::as_str).collect())
}

const THREE: [(&str, &[&str]); 3] = [("~/one/**", &["a"]), ("~/two/**", &["b"]), ("~/three/**", &["c"])];

#[tokio::test]
async fn sessions_of_three_folders_keep_their_own_chains() {
    let home = Home::new(&THREE).await;
    home.make(&["one", "two/deep", "three"]);
    let service = home.serve().await;
    for (session, folder) in [("s1", "one"), ("s2", "two/deep"), ("s3", "three")] {
        service.enter(session, &home.path(folder)).await;
    }
    for _ in 0..3 {
        let turns = futures_util::future::join3(service.turn("s1"), service.turn("s2"), service.turn("s3")).await;
        assert_eq!(turns, ("a".to_owned(), "b".to_owned(), "c".to_owned()));
    }
    // A sub-agent's requests name their session too.
    let agent = service.ask(&Ask::turn().session("s2").header("x-claude-code-agent-id", "agent-1")).await;
    assert_eq!(agent.profile(), Some("b"));
    assert_eq!(home.asked(), [3, 4, 3]);
    let status = service.folders().await;
    assert_eq!((status.has_rules, status.sessions, status.unknown_requests), (true, 3, 0));
    let shown: Vec<(String, &str, &[String])> =
        status.folders.iter().map(|folder| (folder.folder.clone(), folder.chain.as_str(), folder.profiles.as_slice())).collect();
    assert_eq!(shown[0], (home.path("three").display().to_string(), "chains[2]", &["c".to_owned()][..]));
}

#[tokio::test]
async fn sessions_are_known_after_a_restart() {
    let home = Home::new(&THREE).await;
    home.make(&["one", "two", "three"]);
    let service = home.serve().await;
    service.enter("s2", &home.path("two")).await;
    service.enter("s3", &home.path("three")).await;
    drop(service);
    let service = home.serve().await;
    assert_eq!((service.turn("s2").await, service.turn("s3").await), ("b".to_owned(), "c".to_owned()));
    // A fork has a name of its own, which the hook tells before its first request.
    service.enter("fork-of-s3", &home.path("three")).await;
    assert_eq!(service.turn("fork-of-s3").await, "c");
    assert_eq!(service.folders().await.unknown_requests, 0);
}

#[tokio::test]
async fn unknown_session_reaches_only_what_all_chains_allow() {
    let chains: [(&str, &[&str]); 2] = [("~/bank/**", &["a"]), ("~/shop/**", &["b", "a"])];
    let home = Home::with_a_down(&chains).await;
    home.make(&["bank", "shop", "elsewhere"]);
    let service = home.serve().await;
    assert_eq!(service.turn("nobody-knows").await, "503");
    assert_eq!((home.asked()[1], home.asked()[2]), (0, 0), "neither may have what could be the bank's");
    let notices = service.notices().await;
    assert!(notices.iter().any(|text| text.contains("folder is not known") && text.contains("hotspare status")), "{notices:?}");
    assert_eq!(service.folders().await.unknown_requests, 1);
    service.enter("nobody-knows", &home.path("elsewhere")).await;
    assert_eq!(service.turn("nobody-knows").await, "b");
}

#[tokio::test]
async fn folder_of_the_service_is_not_that_of_a_session() {
    let home = Home::new(&[("~/**", &["c", "b"])]).await;
    home.make(&["x"]);
    let service = home.serve_in("").await;
    assert_eq!(service.turn("unknown").await, "c", "of `c` and `b` at home and `a`, `b`, `c` elsewhere");
    let home = Home::new(&[("~/one/**", &["c"]), ("~/**", &["b"])]).await;
    let service = home.serve_in("one").await;
    assert_eq!(service.turn("unknown").await, "424");
}

#[tokio::test]
async fn request_ahead_of_its_session_s_name_waits_for_it() {
    let home = Home::new(&THREE).await;
    home.make(&["two"]);
    let service = home.serve().await;
    let mut ahead = Connection::open(service.gateway.local()).await;
    ahead.ask(&Ask::turn().session("s")).await;
    // Each connection of the one thread that serves is looked at in its turn: what was sent before this is taken before it.
    service.ask(&Ask::new("GET", "/hotspare/status")).await;
    service.enter("s", &home.path("two")).await;
    let turn = ahead.answer().await.profile().map(str::to_owned);
    assert_eq!((turn.as_deref(), service.folders().await.unknown_requests), (Some("b"), 0));
}

#[tokio::test]
async fn unknown_session_without_folder_rules_changes_nothing() {
    let home = Home::with_a_down(&[]).await;
    home.make(&["elsewhere"]);
    let service = home.serve().await;
    service.enter("known", &home.path("elsewhere")).await;
    assert_eq!((service.turn("unknown").await, service.turn("known").await), ("b".to_owned(), "b".to_owned()));
    let status = service.folders().await;
    assert_eq!((status.has_rules, status.unknown_requests), (false, 0));
    assert!(service.notices().await.iter().all(|text| !text.contains("folder")));
}

#[tokio::test]
async fn unknown_session_that_no_profile_may_serve_is_refused() {
    let home = Home::new(&THREE).await;
    let service = home.serve().await;
    let answer = service.ask(&Ask::turn().session("unknown")).await;
    assert_eq!((answer.status, home.asked()), (424, [0, 0, 0]));
    assert!(answer.text().contains("folder is not known") && answer.text().contains("hotspare install"), "{}", answer.text());
    let nameless = service.ask(&Ask::turn().with("X-Claude-Code-Session-Id", None)).await;
    assert_eq!((nameless.status, home.asked()), (424, [0, 0, 0]));
    let status = service.folders().await;
    assert_eq!((status.unknown_requests, status.refused_requests), (2, 2));
}

#[tokio::test]
async fn session_that_leaves_a_ruled_folder_keeps_its_rules() {
    let chains: [(&str, &[&str]); 3] = [("~/bank/**", &["c"]), ("~/shop/**", &["b", "c"]), ("~/toys/**", &["b"])];
    let home = Home::new(&chains).await;
    home.make(&["bank", "shop", "toys", "elsewhere"]);
    let service = home.serve().await;
    service.enter("s", &home.path("elsewhere")).await;
    assert_eq!(service.turn("s").await, "a");
    service.enter("s", &home.path("bank")).await;
    assert_eq!(service.turn("s").await, "c");
    service.enter("s", &home.path("elsewhere")).await;
    assert_eq!(service.turn("s").await, "c", "what was read in the bank's folder is still in the conversation");
    service.enter("s", &home.path("shop")).await;
    assert_eq!(service.turn("s").await, "c", "of the shop's chain, what the bank's allows");
    service.enter("s", &home.path("toys")).await;
    let refused = service.ask(&Ask::turn().session("s")).await;
    assert!(refused.status == 424 && refused.text().contains("begin a new session"), "{}", refused.text());
    service.enter("new", &home.path("toys")).await;
    assert_eq!(service.turn("new").await, "b");
}

#[tokio::test]
async fn session_in_many_subfolders_stays_in_its_project() {
    let home = Home::new(&THREE).await;
    let service = home.serve().await;
    for number in 0..40 {
        let folder = home.path(&format!("two/{number}"));
        fs::create_dir_all(&folder).expect("made");
        service.enter("s", &folder).await;
    }
    assert_eq!(service.turn("s").await, "b");
}

#[tokio::test]
async fn broken_project_file_keeps_the_folder_on_its_chain() {
    let home = Home::new(&THREE).await;
    home.write("two/.hotspare/config.json", "{\n  broken");
    let service = home.serve().await;
    let entered = service.enter("s", &home.path("two")).await;
    assert_eq!(led(&entered), ("chains[1]", vec!["b"]));
    let problems = &entered.folder.as_ref().expect("known").problems;
    let file = home.path("two/.hotspare/config.json").display().to_string();
    assert!(problems.len() == 1 && problems[0].starts_with(&format!("{file}:2:")), "{problems:?}");
    assert_eq!(service.turn("s").await, "b");
    assert_eq!(service.folders().await.folders[0].problems, *problems);
    home.write("two/.hotspare/config.json", "{}");
    service.look_again();
    assert_eq!(service.turn("s").await, "b");
    assert_eq!(service.folders().await.folders[0].problems, Vec::<String>::new());
}

#[tokio::test]
async fn project_file_counts_and_keeps_its_last_good_text() {
    let home = Home::with_a_down(&[]).await;
    home.write("p/.hotspare/config.json", r#"{ "profiles": { "b": null } }"#);
    let service = home.serve().await;
    service.enter("s", &home.path("p")).await;
    assert_eq!(service.turn("s").await, "c");
    home.write("p/.hotspare/config.json", "{");
    service.look_again();
    assert_eq!(service.turn("s").await, "c");
    let FolderStatus { problems, .. } = service.folders().await.folders.remove(0);
    assert!(problems[0].contains("last good text holds"), "{problems:?}");
}

#[tokio::test]
async fn changed_configuration_counts_with_the_next_request() {
    let home = Home::new(&[]).await;
    home.make(&["two"]);
    let service = home.serve().await;
    service.enter("s", &home.path("two")).await;
    assert_eq!(service.turn("s").await, "a");
    home.configure(&[("~/two/**", &["b"])]);
    service.look_again();
    assert_eq!(service.turn("s").await, "b");
}

#[tokio::test]
async fn hostile_project_file_stops_no_other_session() {
    let home = Home::with_a_down(&[]).await;
    home.write("evil/.hotspare/config.json", r#"{ "profiles": { "a": null, "b": null } }"#);
    home.write("mine/.hotspare/config.json", r#"{ "profiles": { "c": null } }"#);
    home.trust("mine");
    let service = home.serve().await;
    service.enter("in-mine", &home.path("mine")).await;
    service.enter("in-evil", &home.path("evil")).await;
    assert_eq!((service.turn("in-mine").await, service.turn("in-evil").await), ("b".to_owned(), "c".to_owned()));
    // The user's own file limits the unknown; the stranger's would leave nothing, and does not count.
    assert_eq!(service.turn("unknown").await, "b");
}

#[tokio::test]
async fn hostile_folder_names_bind_nothing_or_what_they_are() {
    let home = Home::new(&THREE).await;
    home.make(&["two/\u{1b}]0;evil\u{7}\n", "one", "two/x"]);
    let service = home.serve().await;
    for (session, folder) in [
        ("s", "relative"),
        ("s", ""),
        ("s", "/a\u{0}b"),
        ("", "/a"),
        ("two words", "/a"),
        (&"x".repeat(65), "/a"),
        ("s", &format!("/{}", "x".repeat(5000))),
    ] {
        let answer = service.ask(&post(&json!({ "session": session, "folder": folder }).to_string())).await;
        assert_eq!(answer.status, 400, "{session:?} {folder:?}");
    }
    let body = json!({ "session": "s", "folder": home.path("one") }).to_string();
    assert_eq!(service.ask(&post(&body).with("x-hotspare-token", None)).await.status, 401);
    assert_eq!(service.ask(&post(&body).header("Origin", "http://evil.example")).await.status, 403);
    assert_eq!(service.ask(&post(&body).with("Content-Type", Some("text/plain"))).await.status, 415);
    assert_eq!(service.ask(&post("{")).await.status, 400);
    assert_eq!(service.folders().await.sessions, 0);
    service.enter("escape", &home.path("two/\u{1b}]0;evil\u{7}\n")).await;
    service.enter("dots", &home.path("one/../two/x/..")).await;
    service.enter("gone", &home.path("two/gone")).await;
    for session in ["escape", "dots", "gone"] {
        assert_eq!(service.turn(session).await, "b", "{session}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(home.path("two"), home.path("one/link")).expect("linked");
        service.enter("link", &home.path("one/link")).await;
        assert_eq!(service.turn("link").await, "b", "a link is what it leads to");
    }
}

#[tokio::test]
async fn record_names_folder_and_limit() {
    let home = Home::new(&[("~/bank/**", &["a"])]).await;
    home.make(&["bank"]);
    let service = home.serve().await;
    service.enter("s", &home.path("bank")).await;
    service.turn("s").await;
    let record = service.last_record(&home);
    assert_eq!((record.folder, record.limited), (Some(home.path("bank").display().to_string()), None));
    service.turn("unknown").await;
    let record = service.last_record(&home);
    assert_eq!(record.folder, None);
    assert!(record.limited.is_some_and(|why| why.contains("folder is not known")));
}
