//! Renewals by scripts that stand for Claude Code: each does to the credentials file what the client was measured to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

use secrecy::ExposeSecret;

use super::super::{Credential, CredentialError, Presence, Source};
use super::*;

/// A folder with a login, and a script that plays the client.
struct Lab {
    root: tempfile::TempDir,
}

/// The token that a renewal brings.
const RENEWED: &str = "authorization: Bearer sk-ant-oat01-test-renewed";

fn millis(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

impl Lab {
    /// The login ran out this long ago; the script does `act` when it is run for the login, with the folder as `$D`.
    fn new(ran_out: Duration, act: &str) -> Self {
        let lab = Self { root: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(lab.folder()).expect("made");
        lab.write_login("sk-ant-oat01-test-old", SystemTime::now() - ran_out);
        let hour = millis(SystemTime::now() + Duration::from_secs(3600));
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$1\" = --version ]; then echo v >> '{root}/versions'; echo '2.1.332 (Claude Code)'; exit; fi\n\
             echo \"$*\" >> '{root}/runs'\n\
             env > '{root}/env'; pwd > '{root}/pwd'\n\
             D=$CLAUDE_CONFIG_DIR\n\
             renew() {{ printf '%s' '{{\"claudeAiOauth\":{{\"accessToken\":\"sk-ant-oat01-test-renewed\",\"refreshToken\":\"r\",\"expiresAt\":{hour}}}}}' > $D/new; \
             chmod 600 $D/new; mv $D/new $D/.credentials.json; }}\n\
             {act}\n",
            root = lab.root.path().display(),
        );
        lab.write_client(&script);
        lab
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("login")
    }

    fn client(&self) -> PathBuf {
        self.root.path().join("claude")
    }

    fn write_client(&self, script: &str) {
        fs::write(self.client(), script).expect("written");
        fs::set_permissions(self.client(), fs::Permissions::from_mode(0o755)).expect("mode set");
    }

    fn write_login(&self, token: &str, expires: SystemTime) {
        let login = format!(
            r#"{{"claudeAiOauth":{{"accessToken":"{token}","refreshToken":"sk-ant-ort01-test","expiresAt":{}}}}}"#,
            millis(expires)
        );
        self.write_private(".credentials.json", &login);
    }

    fn write_private(&self, name: &str, text: &str) {
        let file = self.folder().join(name);
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode set");
    }

    fn renewals(&self) -> Arc<Renewals> {
        Renewals::by(ClaudeClient::at([self.client()]).through([("HTTPS_PROXY", "http://corp:3128".to_owned())]))
    }

    fn credential(&self) -> Credential {
        Credential::own(Source::ClaudeConfigDir(self.folder()), None).renewed_by(self.renewals())
    }

    /// How often the script was run for the login.
    fn runs(&self) -> usize {
        self.read("runs").lines().count()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap_or_default()
    }
}

const A_DAY: Duration = Duration::from_secs(86_400);

async fn header(credential: &Credential) -> Result<String, CredentialError> {
    let (name, value) = credential.header_renewed().await?.expect("an own credential has a header");
    Ok(format!("{name}: {}", value.to_str().expect("ASCII")))
}

#[tokio::test]
async fn expired_login_is_renewed_by_its_client() {
    let lab = Lab::new(A_DAY, "renew");
    let credential = lab.credential();
    assert_eq!(credential.presence().await, Presence::Renewable);
    assert_eq!(lab.runs(), 0, "whether it can be renewed is known without a run");
    assert_eq!(header(&credential).await.as_deref(), Ok(RENEWED));
    assert_eq!(header(&credential).await.as_deref(), Ok(RENEWED));
    assert_eq!((lab.runs(), lab.read("runs").trim()), (1, "--setting-sources  auth status --json"));
    assert!(credential.renewed().expect("renewable").at.is_some());
    assert_eq!(credential.presence().await, Presence::There);
}

#[tokio::test]
async fn expired_login_stays_expired_where_renewal_is_off() {
    let lab = Lab::new(A_DAY, "renew");
    let credential = Credential::own(Source::ClaudeConfigDir(lab.folder()), None);
    assert!(matches!(header(&credential).await, Err(CredentialError::LoginExpired { .. })));
    assert!(matches!(credential.presence().await, Presence::Missing(CredentialError::LoginExpired { .. })));
    assert_eq!(lab.runs(), 0);
}

#[tokio::test]
async fn login_that_lives_is_not_renewed() {
    let lab = Lab::new(Duration::ZERO, "renew");
    for (lives, runs, token) in [(120, 0, "sk-ant-oat01-test-old"), (30, 1, "sk-ant-oat01-test-renewed")] {
        lab.write_login("sk-ant-oat01-test-old", SystemTime::now() + Duration::from_secs(lives));
        assert_eq!(header(&lab.credential()).await, Ok(format!("authorization: Bearer {token}")), "{lives} s");
        assert_eq!(lab.runs(), runs, "{lives} s");
    }
    lab.write_client("#!/bin/sh\nexit 1\n");
    lab.write_login("sk-ant-oat01-test-last", SystemTime::now() + Duration::from_secs(30));
    let last = header(&lab.credential()).await;
    assert_eq!(last.as_deref(), Ok("authorization: Bearer sk-ant-oat01-test-last"), "good for 30 s more, renewed or not");
}

#[test]
fn renewal_counts_only_if_the_token_lives_longer() {
    let lives = |seconds| Standing::Lives(Some(Duration::from_secs(seconds)));
    assert!(!is_renewed(lives(200), lives(199)), "a run ahead of need that changed nothing");
    assert!(is_renewed(lives(200), lives(28_800)));
    assert!(is_renewed(Standing::RanOut(A_DAY), lives(28_800)));
    assert!(!is_renewed(Standing::RanOut(A_DAY), Standing::RanOut(A_DAY)));
    assert!(!is_renewed(lives(200), Standing::NoLogin), "the file is gone");
}

#[tokio::test]
async fn ten_attempts_at_once_are_one_renewal() {
    let lab = Lab::new(A_DAY, "sleep 0.2; renew");
    let credential = Arc::new(lab.credential());
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let credential = credential.clone();
        attempts.spawn(async move { header(&credential).await });
    }
    for one in attempts.join_all().await {
        assert_eq!(one.as_deref(), Ok(RENEWED));
    }
    assert_eq!((lab.runs(), lab.read("versions").lines().count()), (1, 1));
}

/// A client that is killed between the endpoint's answer and its own write loses the login.
#[tokio::test]
async fn renewal_goes_on_when_its_exchange_is_gone() {
    let lab = Lab::new(A_DAY, "while [ ! -e $D/../go ]; do sleep 0.01; done; renew");
    let credential = lab.credential();
    let mut first = Box::pin(header(&credential));
    while lab.runs() == 0 {
        tokio::select! {
            ended = &mut first => panic!("it waits for the script: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    drop(first);
    fs::write(lab.root.path().join("go"), "").expect("written");
    assert_eq!(header(&credential).await.as_deref(), Ok(RENEWED));
    assert_eq!(lab.runs(), 1, "the second attempt has joined the first one's run");
}

#[tokio::test]
async fn failed_renewal_is_not_repeated_until_the_file_changes() {
    for (act, said) in [("exit 3", "exit status: 3"), ("exit 0", "could not renew"), ("yes | head -c 9000000; kill $$", "ended with")] {
        let lab = Lab::new(A_DAY, act);
        let credential = lab.credential();
        for _ in 0..3 {
            let error = header(&credential).await.expect_err("not renewed");
            assert!(matches!(error, CredentialError::LoginNotRenewed { .. }), "{error:?}");
            assert!(error.to_string().contains(said) && error.to_string().contains("24 h ago"), "{act}: {error}");
        }
        assert_eq!(lab.runs(), 1, "{act}");
        assert!(matches!(credential.presence().await, Presence::Missing(CredentialError::LoginNotRenewed { .. })));
        lab.write_login("sk-ant-oat01-test-older", SystemTime::now() - 2 * A_DAY);
        assert!(header(&credential).await.is_err());
        assert_eq!(lab.runs(), 2, "{act}: another file is another chance");
    }
}

#[tokio::test]
async fn dead_refresh_token_asks_for_a_login() {
    let emptied = r#"{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}"#;
    let lab = Lab::new(A_DAY, &format!("printf '%s' '{emptied}' > $D/.credentials.json"));
    let credential = lab.credential();
    for _ in 0..2 {
        let error = header(&credential).await.expect_err("it is dead");
        assert_eq!(error, CredentialError::LoginEnded { folder: lab.folder() });
    }
    assert_eq!((lab.runs(), credential.ended().is_some()), (1, true));
    let renewals = lab.renewals();
    assert_eq!(renewals.take_ended(), Vec::<PathBuf>::new());
    renewals.note_ended(&lab.folder());
    renewals.note_ended(&lab.folder());
    assert_eq!((renewals.take_ended(), renewals.take_ended()), (vec![lab.folder()], Vec::new()), "reported once");
    lab.write_login("sk-ant-oat01-test-again", SystemTime::now() + A_DAY);
    assert_eq!(header(&credential).await.as_deref(), Ok("authorization: Bearer sk-ant-oat01-test-again"));
    assert!(credential.ended().is_none());
}

#[tokio::test]
async fn client_that_hangs_is_not_waited_for_and_killed_later() {
    let lab = Lab::new(A_DAY, "echo $$ > $D/../pid; while :; do sleep 1; done");
    let mut client = ClaudeClient::at([lab.client()]);
    client.run_timeout = Duration::from_secs(1);
    let renewals = Arc::new(Renewals { client, wait: Duration::from_millis(200), folders: Mutex::default() });
    let credential = Credential::own(Source::ClaudeConfigDir(lab.folder()), None).renewed_by(renewals);
    let error = header(&credential).await.expect_err("late");
    assert!(matches!(error, CredentialError::LoginNotRenewed { why: NotRenewed::Late, .. }), "{error}");
    while credential.renewed().expect("renewable").failed.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = header(&credential).await.expect_err("killed").to_string();
    assert!(error.contains("did not end within 1 s"), "{error}");
    let pid = lab.read("pid").trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("the script's number");
    while rustix::process::test_kill_process(pid).is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(lab.runs(), 1);
}

#[tokio::test]
async fn client_that_others_may_replace_is_not_run() {
    let lab = Lab::new(A_DAY, "renew");
    for (mode, said) in [(0o757, "others may write"), (0o775, "others may write"), (0o644, "not executable")] {
        fs::set_permissions(lab.client(), fs::Permissions::from_mode(mode)).expect("mode set");
        let error = header(&lab.credential()).await.expect_err("not run").to_string();
        assert!(error.contains(said), "{mode:o}: {error}");
        assert!(matches!(lab.credential().presence().await, Presence::Missing(_)), "{mode:o}");
    }
    fs::remove_file(lab.client()).expect("removed");
    assert!(header(&lab.credential()).await.expect_err("none").to_string().contains("not found"));
    assert_eq!((lab.runs(), lab.read("versions").as_str()), (0, ""));
    let project = std::env::current_dir().expect("a working directory").join("Cargo.toml");
    let own = ClaudeClient::at([project]).find().expect_err("not run");
    assert!(own.contains("not executable") || own.contains("started in"), "{own}");
}

#[tokio::test]
async fn client_of_an_unknown_or_old_version_is_not_run() {
    let lab = Lab::new(A_DAY, "renew");
    let cases = [
        ("echo 2.1.40", "older than 2.1.237"),
        ("echo claude", "names no version"),
        ("yes", "names no version"),
        ("exit 1", "names no version"),
    ];
    for (version, said) in cases {
        lab.write_client(&format!("#!/bin/sh\n[ \"$1\" = --version ] || echo x >> '{}/runs'\n{version}\n", lab.root.path().display()));
        let error = header(&lab.credential()).await.expect_err("not run").to_string();
        assert!(error.contains(said), "{version}: {error}");
    }
    assert_eq!(lab.runs(), 0);
}

#[tokio::test]
async fn client_runs_in_a_clean_environment_and_a_neutral_folder() {
    let lab = Lab::new(A_DAY, "renew");
    lab.write_private(
        "settings.json",
        r#"{"env":{"NODE_EXTRA_CA_CERTS":"/corp.pem","HTTPS_PROXY":"http://hotspare:hs-1@127.0.0.1:4117","ANTHROPIC_BASE_URL":"http://127.0.0.1:4117","no_proxy":7}}"#,
    );
    assert_eq!(header(&lab.credential()).await.as_deref(), Ok(RENEWED));
    let environment = lab.read("env");
    let has = |line: String| environment.lines().any(|known| known == line);
    assert!(has(format!("CLAUDE_CONFIG_DIR={}", lab.folder().display())) && has("NODE_EXTRA_CA_CERTS=/corp.pem".into()), "{environment}");
    assert!(has("HTTPS_PROXY=http://corp:3128".into()), "not through hotspare: {environment}");
    assert!(has("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1".into()) && has("DISABLE_TELEMETRY=1".into()), "{environment}");
    let allowed = ["PATH", "HOME", "LANG", "LC_ALL", "LOGNAME", "TMPDIR", "TZ", "USER", "PWD", "OLDPWD", "SHLVL", "_"];
    let allowed = [&allowed[..], &["CLAUDE_CONFIG_DIR", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]];
    let allowed = [&allowed.concat()[..], &["DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING"]].concat();
    // The certificates of this machine are the client's too, where the machine names any.
    let allowed = [&allowed[..], &["SSL_CERT_FILE", "SSL_CERT_DIR"]].concat();
    let foreign: Vec<&str> = environment.lines().filter(|line| !allowed.contains(&line.split('=').next().unwrap_or_default())).collect();
    assert_eq!(foreign, Vec::<&str>::new());
    assert_eq!(lab.read("pwd").trim(), "/");
}

#[tokio::test]
async fn login_is_renewed_ahead_only_where_it_runs_out_within_minutes() {
    for (lives, renewed) in [(600, false), (200, true)] {
        let lab = Lab::new(Duration::ZERO, "renew");
        lab.write_login("sk-ant-oat01-test-old", SystemTime::now() + Duration::from_secs(lives));
        let credential = lab.credential();
        credential.renew_ahead(Duration::from_millis(1));
        if renewed {
            while credential.renewed().expect("renewable").at.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(lab.runs(), usize::from(renewed), "{lives} s");
        let expected = if renewed { RENEWED } else { "authorization: Bearer sk-ant-oat01-test-old" };
        assert_eq!(header(&credential).await.as_deref(), Ok(expected), "{lives} s");
    }
}

/// hotspare has both spellings of a proxy's variable, and the client prefers the small one.
#[tokio::test]
async fn proxy_of_the_folder_replaces_both_spellings() {
    let lab = Lab::new(A_DAY, "renew");
    lab.write_private("settings.json", r#"{"env":{"HTTPS_PROXY":"http://folder:3128"}}"#);
    let both = ["HTTPS_PROXY", "https_proxy"].map(|name| (name, "http://corp:3128".to_owned()));
    let renewals = Renewals::by(ClaudeClient::at([lab.client()]).through(both));
    let credential = Credential::own(Source::ClaudeConfigDir(lab.folder()), None).renewed_by(renewals);
    assert_eq!(header(&credential).await.as_deref(), Ok(RENEWED));
    let environment = lab.read("env");
    let proxies: Vec<&str> = environment.lines().filter(|line| line.to_ascii_lowercase().starts_with("https_proxy=")).collect();
    assert_eq!(proxies, ["HTTPS_PROXY=http://folder:3128"]);
}

/// What leaves the file through here is the access token alone.
#[tokio::test]
async fn refresh_token_is_not_kept() {
    let lab = Lab::new(A_DAY, "renew");
    lab.write_login("sk-ant-oat01-test", SystemTime::now() + A_DAY);
    let Ok(claude_dir::Kept::Login(token, Some(_))) = claude_dir::read(&lab.folder(), SystemTime::now()) else { panic!("a login") };
    assert_eq!(token.expose_secret(), "sk-ant-oat01-test");
}

/// `run` and the service each have their own renewals. A refresh token is for single use, so the second of two runs would end the login.
#[tokio::test]
async fn login_is_renewed_by_one_process_at_a_time() {
    let lab = Lab::new(Duration::from_secs(60), "renew");
    let other = fs::File::open(lab.folder()).expect("opened");
    other.lock().expect("locked");
    let renewals = lab.renewals();
    let folder = lab.folder();
    let renewing = tokio::spawn(async move { renewals.renew(&folder).await });
    // The version is asked for before the lock is waited for.
    while lab.read("versions").is_empty() {
        tokio::task::yield_now().await;
    }
    lab.write_login("sk-ant-oat01-test-renewed", SystemTime::now() + Duration::from_secs(3600));
    drop(other);
    assert_eq!(renewing.await.expect("no panic"), Ok(()));
    assert_eq!(lab.runs(), 0, "the other process has renewed it");
}
