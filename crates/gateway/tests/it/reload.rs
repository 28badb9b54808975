//! A configuration that changes while requests run: nothing is dropped, nothing broken is put in place, what is known of a profile stays.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hotspare_config::{Config, Context, FOLDER_HEADER, Fingerprint, Folders, Locations, folder_to_header};
use hotspare_gateway::{Gateway, Reload, Status};
use hotspare_testkit::answers::text;
use hotspare_testkit::{Gate, Script, Upstream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::client::{Ask, Connection, End};
use crate::proxy::{SPARE_KEY, healthy, options, parse, plays, streamed, wire};

/// A folder beside the file: what is in it has a say too.
const PINS: &str = "pins";

/// A gateway whose configuration is a file.
struct Served {
    folder: tempfile::TempDir,
    gateway: Arc<Gateway>,
    asked: Arc<Notify>,
    /// How often the configuration was read.
    loads: Arc<AtomicUsize>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Served {
    async fn start(config: &Value) -> Self {
        Self::start_while_it_is_saved(config, config).await
    }

    /// The file changes between the reading of it and the beginning of the watch.
    async fn start_while_it_is_saved(config: &Value, next: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.json");
        fs::write(&file, config.to_string()).expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        fs::create_dir(folder.path().join(PINS)).expect("made");
        let seen = Fingerprint::of(&[file.clone(), folder.path().join(PINS)]);
        let gateway = Gateway::new(&read(&file).expect("valid"), &listener, options()).expect("a gateway");
        if next != config {
            fs::write(&file, next.to_string()).expect("written");
        }
        let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending()));
        let watched = vec![file.clone(), folder.path().join(PINS)];
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = loads.clone();
        let load = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            read(&file)
        });
        let reload = Reload::new(gateway.clone(), load, Arc::new(move || watched.clone())).since(seen);
        let asked = Arc::new(Notify::new());
        let watching = tokio::spawn(reload.watch(asked.clone()));
        Self { folder, gateway, asked, loads, tasks: vec![serving.abort_handle(), watching.abort_handle()] }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn addr(&self) -> SocketAddr {
        self.gateway.local()
    }

    /// As editors do: another file takes the name.
    fn save(&self, text: impl AsRef<[u8]>) {
        let next = self.folder.path().join("config.json~");
        fs::write(&next, text).and_then(|()| fs::rename(&next, self.file())).expect("saved");
    }

    async fn status(&self) -> Status {
        let mut connection = Connection::open(self.addr()).await;
        connection.ask(&Ask::new("GET", "/hotspare/status")).await;
        serde_json::from_str(&connection.answer().await.text()).expect("a status")
    }

    /// Asks until it is so; the asking itself gives the watch its time.
    async fn status_when(&self, is_so: impl Fn(&Status) -> bool) -> Status {
        let asking = async {
            loop {
                let status = self.status().await;
                if is_so(&status) {
                    return status;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), asking).await.expect("it never came to be so")
    }
}

fn read(file: &Path) -> Result<Config, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    hotspare_config::parse(&text, file, Path::new("/")).map_err(|errors| errors.render(false))
}

fn lone(name: &str, url: &str) -> Value {
    json!({ "failover_policy": { "primary_profile": name }, "profiles": { name: { "base_url": url } } })
}

fn error_of(status: &Status) -> Option<&str> {
    status.config.as_ref().expect("a configuration").error.as_deref()
}

/// cc-switch #3486, litellm #39144, tale #3398: a target half of which was already the next one.
#[tokio::test]
async fn r47_a_saved_file_is_put_in_place_and_streams_end_on_the_old_one() {
    let gate = Gate::new();
    let events = text("a long answer");
    let (first, rest) = events.split_at(3);
    let old = plays(Script::new().sse().events(first).gate(&gate).events(rest).end()).await;
    let new = healthy("the new one").await;
    let served = Served::start(&lone("old", &old.url())).await;
    let mut running = Connection::open(served.addr()).await;
    running.ask(&Ask::turn()).await;
    running.wait_for("content_block_start").await;

    served.save(lone("new", &new.url()).to_string());
    let status = served.status_when(|status| status.profiles[0].name == "new").await;
    assert_eq!((error_of(&status), status.in_flight), (None, 1));
    assert!(status.config.expect("a configuration").sources[0].ends_with("config.json"));
    let mut next = Connection::open(served.addr()).await;
    next.ask(&Ask::turn().session("session-2")).await;
    assert_eq!(next.answer().await.profile(), Some("new"));

    gate.open();
    let answer = running.answer().await;
    assert_eq!((answer.text(), answer.end, answer.profile()), (wire(&events), End::Whole, Some("old")));
}

#[tokio::test]
async fn a_file_that_is_saved_during_the_start_is_put_in_place_too() {
    let provider = healthy("here").await;
    let served = Served::start_while_it_is_saved(&lone("old", &provider.url()), &lone("the-new-one", &provider.url())).await;
    served.status_when(|status| status.profiles[0].name == "the-new-one").await;
}

/// The folder above was watched instead, where nothing is to be seen of it.
#[tokio::test]
async fn what_comes_into_a_folder_that_has_a_say_is_seen() {
    let provider = healthy("here").await;
    let served = Served::start(&lone("work", &provider.url())).await;
    served.save(lone("watched", &provider.url()).to_string());
    served.status_when(|status| status.profiles[0].name == "watched").await;
    let loads = served.loads();
    fs::write(served.folder.path().join(PINS).join("one.json"), "{}").expect("written");
    served.status_when(|_| served.loads() > loads).await;
}

#[tokio::test]
async fn t28_a_broken_file_keeps_the_last_good_one_and_is_said() {
    let provider = healthy("still here").await;
    let served = Served::start(&lone("work", &provider.url())).await;
    let loaded_at = served.status().await.config.expect("a configuration").loaded_at;
    served.save(lone("work", &provider.url()).to_string().replace("primary_profile", "primary_profil"));
    let status = served.status_when(|status| error_of(status).is_some()).await;
    let error = error_of(&status).expect("an error");
    assert!(error.contains("HS0101") && error.contains("did you mean `primary_profile`") && error.contains("config.json:1:"), "{error}");
    assert_eq!((&*status.profiles[0].name, status.config.as_ref().expect("one").loaded_at), ("work", loaded_at));
    let mut client = Connection::open(served.addr()).await;
    client.ask(&Ask::turn()).await;
    assert_eq!(client.answer().await.profile(), Some("work"));
    // Gone is not good either: it was there, and it was named.
    fs::remove_file(served.file()).expect("removed");
    served.status_when(|status| error_of(status).is_some_and(|error| error.contains("No such file"))).await;
    served.save(lone("mended", &provider.url()).to_string());
    let status = served.status_when(|status| error_of(status).is_none()).await;
    assert_eq!(status.profiles[0].name, "mended");
}

#[tokio::test]
async fn t28_the_address_and_the_connections_wait_for_a_restart() {
    let provider = healthy("hi").await;
    let served = Served::start(&lone("work", &provider.url())).await;
    let mut config = lone("work", &provider.url());
    config["server"] = json!({ "listen": "127.0.0.1:1", "max_connections": 3, "max_body": "64KiB" });
    served.save(config.to_string());
    let status = served.status_when(|status| status.config.as_ref().is_some_and(|config| config.needs_restart.is_some())).await;
    assert_eq!(status.config.expect("one").needs_restart.as_deref(), Some("`server.listen`, `server.max_connections`"));
    assert_eq!(status.address, format!("http://{}", served.addr()));
    // What belongs to requests holds at once.
    let mut client = Connection::open(served.addr()).await;
    client.ask(&Ask::turn().body(vec![b' '; 65 * 1024])).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_notice_reads_anew_whatever_has_changed() {
    let provider = healthy("hi").await;
    let served = Served::start(&lone("work", &provider.url())).await;
    fs::remove_file(served.file()).expect("removed");
    served.asked.notify_one();
    served.status_when(|status| error_of(status).is_some()).await;
}

#[tokio::test]
async fn what_is_known_of_a_profile_outlives_the_configuration() {
    let broken = plays(Script::error(500, "api_error", "broken")).await;
    let well = healthy("hi").await;
    let config = |order: &[&str], spares: &[&str]| {
        let mut profiles = serde_json::Map::new();
        for name in order {
            let url = if *name == "broken" { broken.url() } else { well.url() };
            profiles.insert((*name).to_owned(), json!({ "base_url": url, "auth": { "value": SPARE_KEY } }));
        }
        json!({ "failover_policy": { "primary_profile": "broken", "secondary_profile": spares }, "profiles": profiles })
    };
    let served = Served::start(&config(&["broken", "well"], &["well"])).await;
    let mut client = Connection::open(served.addr()).await;
    client.ask(&Ask::turn()).await;
    assert_eq!(client.answer().await.profile(), Some("well"));
    let state = |status: &Status, name: &str| {
        status.profiles.iter().find(|profile| profile.name == name).map(|profile| (profile.state.clone(), profile.last_failure.is_some()))
    };
    let before = served.status().await;
    // Other places in the list, and one more in front.
    served.save(config(&["new", "well", "broken"], &["well", "new"]).to_string());
    let after = served.status_when(|status| status.profiles.len() == 3).await;
    for status in [&before, &after] {
        assert_eq!(state(status, "broken"), Some(("cooling".to_owned(), true)));
        assert_eq!(state(status, "well"), Some(("serving".to_owned(), false)));
    }
}

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// One to three places of the text changed.
fn mutated(text: &str, dice: &mut Dice) -> String {
    const PUTS: [&str; 16] = ["", "{", "}", "[", "]", ",", ":", "\"", "null", "5", "\"5s\"", "-1", "//", "é", "\u{0}", "\"work\""];
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(3) {
        let at = dice.below(chars.len() + 1);
        let end = (at + dice.below(4)).min(chars.len());
        let put = PUTS[dice.below(PUTS.len())];
        chars.splice(at..end, put.chars());
    }
    chars.into_iter().collect()
}

/// Whether a changed text that is still valid leads to the same two providers: any other is a wish, not a fault.
fn leads_to(config: &Config, urls: &[String]) -> bool {
    let clocks = config.policy.clocks;
    let patient = clocks.head.as_secs() >= 20 && clocks.connect.as_secs() >= 2;
    patient
        && config.policy.enabled
        && config.profiles.iter().all(|profile| urls.contains(&profile.base_url.to_string()) && profile.models.is_empty())
}

#[tokio::test]
async fn t28_five_hundred_mutated_configurations_under_load_drop_no_stream() {
    const MUTATED: usize = 500;
    const CLIENTS: usize = 8;
    let events = text("an answer that must come whole, whatever happens to the configuration");
    let expected = wire(&events);
    let providers: Vec<Upstream> = vec![plays(streamed(&events)).await, plays(streamed(&events)).await];
    let urls: Vec<String> = providers.iter().map(Upstream::url).collect();
    let text = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": ["spare"], "triggers": ["5xx", 429], "max_failover_attempts": 1,
            "clocks": { "head": "60s", "content_idle": "240s" } },
        "profiles": { "work": { "base_url": urls[0] }, "spare": { "base_url": urls[1], "auth": { "value": SPARE_KEY } } },
        "server": { "max_body": "32MiB" },
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gateway = Gateway::new(&parse(&text), &listener, options()).expect("a gateway");
    let addr = gateway.local();
    let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending()));
    let current = Arc::new(Mutex::new(text.to_string()));
    let load = {
        let current = current.clone();
        move || {
            let text = current.lock().expect("not poisoned").clone();
            hotspare_config::parse(&text, Path::new("config.json"), Path::new("/")).map_err(|errors| errors.render(false))
        }
    };
    let reload = Reload::new(gateway.clone(), Arc::new(load), Arc::new(Vec::new));

    let (stop, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, whole, expected) = (stop.clone(), whole.clone(), expected.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(addr).await;
                while !stop.load(Ordering::Relaxed) {
                    connection.ask(&Ask::turn().session(&format!("session-{number}"))).await;
                    let answer = connection.answer().await;
                    assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.text());
                    assert_eq!(answer.text(), expected);
                    whole.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let mut dice = Dice(20_261_125);
    let (mut tried, mut kept) = (0, 0);
    while tried < MUTATED {
        let next = mutated(&text.to_string(), &mut dice);
        let parsed = hotspare_config::parse(&next, Path::new("config.json"), Path::new("/"));
        if parsed.as_ref().is_ok_and(|config| !leads_to(config, &urls)) {
            continue;
        }
        tried += 1;
        *current.lock().expect("not poisoned") = next;
        let before = gateway.snapshot();
        let in_place = reload.now().await;
        // A mutated name may leave a profile without its credential: then nothing is put in place either.
        kept += usize::from(!in_place);
        assert_eq!(Arc::ptr_eq(&before, &gateway.snapshot()), !in_place, "what is not good is not put in place");
        // Most of them are refused: a good one between two makes sure that something is swapped.
        let mut good = text.clone();
        good["failover_policy"]["clocks"]["head"] = json!(format!("{}s", 30 + tried % 30));
        *current.lock().expect("not poisoned") = good.to_string();
        assert!(reload.now().await, "a good one is put in place");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no stream was dropped");
    }
    serving.abort();
    let whole = whole.load(Ordering::Relaxed);
    println!(
        "reload: {tried} mutated configurations, {kept} of them refused, and as many good ones, under {whole} streams of {CLIENTS} clients: 0 dropped"
    );
    assert!(whole >= CLIENTS && kept > MUTATED / 2 && kept < MUTATED, "{whole} streams, {kept} of {tried} refused");
}

#[tokio::test]
async fn a_request_that_names_its_folder_has_that_folder_s_configuration() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    let (work, spare) = (healthy("from work").await, healthy("from the spare").await);
    let config = json!({
        "failover_policy": { "primary_profile": "work", "secondary_profile": "spare" },
        "profiles": { "work": { "base_url": work.url() }, "spare": { "base_url": spare.url(), "auth": { "value": SPARE_KEY } } },
    });
    write(".config/hotspare/config.json", &config.to_string());
    write("bank/.hotspare/config.json", r#"{ "failover_policy": { "primary_profile": "spare", "secondary_profile": [] } }"#);
    write("broken/.hotspare/config.json", "{");
    let variable = home.path().as_os_str().to_owned();
    let mut locations = Locations::find(&|name| (name == "HOME").then(|| variable.clone()), None).expect("a home");
    locations.managed_file = home.path().join("managed.json");
    locations.claude_managed = home.path().join("managed-settings.json");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gateway = Gateway::new(&parse(&config), &listener, options()).expect("a gateway");
    let addr = gateway.local();
    let headers_of = |folder: Option<PathBuf>| {
        let named = folder.map(|folder| (FOLDER_HEADER, folder_to_header(&folder)));
        http::HeaderMap::from_iter(
            named.map(|(name, value)| (name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value"))),
        )
    };
    let primary = async |folder: Option<&str>| {
        let headers = headers_of(folder.map(|folder| home.path().join(folder)));
        gateway.look_at_folders(&headers).await;
        let snapshot = gateway.snapshot_for(&headers);
        let entries = &snapshot.rules.last().expect("a chain").chain.entries;
        (snapshot.name(entries[0].profile).to_owned(), entries.len())
    };
    assert_eq!(primary(Some("bank")).await, ("work".to_owned(), 2), "folders are not bound yet");
    gateway.bind_folders(Folders::new(locations, Context::default()));
    assert_eq!(primary(Some("bank")).await, ("spare".to_owned(), 1));
    assert_eq!(primary(Some("elsewhere")).await, ("work".to_owned(), 2));
    assert_eq!(primary(Some("broken")).await, ("work".to_owned(), 2), "a broken one stops nobody");
    assert_eq!(primary(None).await, ("work".to_owned(), 2));
    // Compiled once.
    let bank = headers_of(Some(home.path().join("bank")));
    assert!(Arc::ptr_eq(&gateway.snapshot_for(&bank), &gateway.snapshot_for(&bank)));
    let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending()));
    let mut client = Connection::open(addr).await;
    client.ask(&Ask::turn().header(FOLDER_HEADER, &folder_to_header(&home.path().join("bank")))).await;
    assert_eq!(client.answer().await.status, 200);
    let seen = work.messages().into_iter().chain(spare.messages()).find(|request| request.header(FOLDER_HEADER).is_some());
    assert!(seen.is_none(), "the folder is nobody else's business");
    serving.abort();
}
