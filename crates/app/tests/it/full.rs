//! `hotspare run --mode full` and `server.mode`: the client of one run trusts one authority for one host, and goes on as it did. Another
//! implementation of TLS, the `openssl` command, is the client.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hotspare_testkit::answers::text;
use hotspare_testkit::{Script, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::user::{Ended, User, ended, wait_for};

const BODY: &str = r#"{"model":"claude-opus-5-5","max_tokens":9,"messages":[],"stream":true}"#;

/// Where the client was led: the proxy's address and its token.
pub(crate) fn led(user: &User) -> (SocketAddr, String) {
    let settings = user.settings();
    let proxy = settings["env"]["HTTPS_PROXY"].as_str().expect("a proxy").to_owned();
    let (token, address) =
        proxy.strip_prefix("http://hotspare:").and_then(|rest| rest.split_once('@')).unwrap_or_else(|| panic!("{proxy}"));
    (address.parse().expect("an address"), token.to_owned())
}

pub(crate) async fn starts(user: &User, arguments: &[&str]) -> Child {
    let child = user.starts(arguments);
    user.wait_for("report/started").await;
    child
}

pub(crate) async fn ends(mut child: Child) -> Ended {
    child.stdin.take().expect("piped").write_all(b"go\n").await.expect("sent");
    ended(child).await
}

/// What `openssl` says of a connection through the proxy, and what comes back for this request.
pub(crate) async fn openssl(proxy: SocketAddr, token: &str, host: &str, certificates: Option<&Path>, request: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-proxy", &proxy.to_string(), "-proxy_user", "hotspare", "-proxy_pass", &format!("pass:{token}")]);
    command.args(["-connect", &format!("{host}:443"), "-servername", host, "-verify_hostname", host, "-verify_return_error", "-ign_eof"]);
    match certificates {
        Some(file) => command.arg("-CAfile").arg(file).arg("-no-CApath").arg("-no-CAstore"),
        None => command.args(["-no-CAfile", "-no-CApath", "-no-CAstore"]),
    };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("openssl is there");
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended already, without a handshake.
    let _ = stdin.write_all(request.as_bytes()).await;
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await.expect("it ends").expect("it ran");
    drop(stdin);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn question(headers: &str) -> String {
    asking(headers, BODY)
}

/// What the client sends that asks this.
pub(crate) fn asking(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: api.anthropic.com\r\n{headers}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn in_full_mode_the_client_asks_its_own_host_and_the_spare_answers_in_an_outage() {
    let primary = Upstream::sequence(vec![Script::error(529, "overloaded_error", "Overloaded")]).await.expect("started");
    let spare = Upstream::sequence(vec![Script::new().sse().events(&text("from the spare")).end()]).await.expect("started");
    let user = User::new().pair(&primary.url(), &spare.url()).env("WAIT", "1").env("ANTHROPIC_API_KEY", "sk-ant-test-client");
    let child = starts(&user, &["run", "--mode", "full", "--", "claude", "-p", "hi"]).await;
    let (proxy, token) = led(&user);
    let env = &user.settings()["env"];
    assert_eq!(env["ANTHROPIC_BASE_URL"], "https://api.anthropic.com");
    let certificates = env["NODE_EXTRA_CA_CERTS"].as_str().expect("a file").to_owned();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let file = Path::new(&certificates);
    assert_eq!((mode(file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    assert!(!std::fs::read_to_string(file).expect("read").contains("PRIVATE"), "the key is never written");
    for report in ["argv", "parent", "env"] {
        assert!(!user.report(report).contains(&token), "the token is in {report}");
    }
    assert!(user.report("env").contains(&format!("NODE_EXTRA_CA_CERTS={certificates}")), "before the client reads any settings");
    let said = openssl(proxy, &token, "api.anthropic.com", Some(file), &question("x-api-key: sk-ant-test-client")).await;
    for words in
        ["Verification: OK", "Verified peername: api.anthropic.com", "HTTP/1.1 200 OK", "x-hotspare-profile: backup", "event: message_stop"]
    {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    assert_eq!(primary.messages()[0].header("x-api-key"), Some("sk-ant-test-client"));
    assert_eq!(spare.messages()[0].header("x-api-key"), Some("sk-ant-test-backup"));
    // A second process without the certificate is refused, by its own TLS; one without the token by us.
    let stranger = openssl(proxy, &token, "api.anthropic.com", None, &question("x-api-key: sk-ant-test-stranger")).await;
    assert!(stranger.contains("verify error") && !stranger.contains("HTTP/1.1 200"), "{stranger}");
    let guess = openssl(proxy, "hs-guess", "api.anthropic.com", Some(file), &question("x-api-key: sk-ant-test-stranger")).await;
    assert!(guess.contains("407") && !guess.contains("HTTP/1.1 200"), "{guess}");
    assert_eq!(primary.messages().len() + spare.messages().len(), 2, "nothing of theirs was asked");
    assert_eq!(ends(child).await.code, Some(0));
    let left: Vec<_> = user.everything().into_keys().filter(|path| !path.starts_with(user.path("home/.config"))).collect();
    let foreign: Vec<_> =
        left.iter().filter(|path| path.to_string_lossy().contains("ca") && path.to_string_lossy().contains(".pem")).collect();
    assert!(foreign.is_empty(), "{left:?}");
}

/// A company's proxy: tunnels go through it with its own credentials, and it never hears of ours.
#[tokio::test]
async fn other_hosts_go_through_the_company_s_proxy_which_never_sees_our_token() {
    let company = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = company.local_addr().expect("bound");
    let seen = tokio::spawn(async move {
        let (mut stream, _) = company.accept().await.expect("a connection");
        let head = wait_for(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("sent");
        let said = wait_for(&mut stream, "bytes").await;
        stream.write_all(b"back").await.expect("sent");
        (head, said)
    });
    let user =
        User::new().env("WAIT", "1").env("HTTPS_PROXY", &format!("http://corp:secret@{address}")).env("ANTHROPIC_API_KEY", "sk-ant-test");
    let child = starts(&user, &["run", "--mode", "full", "--", "claude"]).await;
    let (proxy, token) = led(&user);
    let mut stream = TcpStream::connect(proxy).await.expect("it listens");
    let mut basic = String::new();
    let encoded = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut encoded = encoded.expect("base64 is there");
    encoded.stdin.take().expect("piped").write_all(format!("hotspare:{token}").as_bytes()).await.expect("sent");
    encoded.stdout.take().expect("piped").read_to_string(&mut basic).await.expect("read");
    let head = format!("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nProxy-Authorization: Basic {basic}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    wait_for(&mut stream, "\r\n\r\n").await;
    stream.write_all(b"blind bytes").await.expect("sent");
    assert_eq!(wait_for(&mut stream, "back").await, "back");
    let (head, said) = seen.await.expect("ended");
    assert_eq!(said, "blind bytes");
    assert!(head.starts_with("CONNECT other.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Basic Y29ycDpzZWNyZXQ=") && !head.contains(basic.as_str()) && !head.contains(&token), "{head}");
    assert_eq!(ends(child).await.code, Some(0));
}

#[tokio::test]
async fn the_user_s_own_certificates_stay_trusted_and_a_gateway_of_the_user_s_own_is_led_by_its_base_url() {
    let user = User::new().file("corp.pem", "# the company's own\n").env("WAIT", "1");
    let own = user.path("corp.pem").display().to_string();
    let user = user.env("NODE_EXTRA_CA_CERTS", &own);
    let child = starts(&user, &["run", "--set", "server.mode=full", "--", "claude"]).await;
    let bundle = user.settings()["env"]["NODE_EXTRA_CA_CERTS"].as_str().expect("a file").to_owned();
    let bundle = std::fs::read_to_string(bundle).expect("read");
    assert!(bundle.starts_with("-----BEGIN CERTIFICATE-----") && bundle.ends_with("# the company's own\n"), "{bundle}");
    assert_eq!(ends(child).await.code, Some(0));
    let user = User::new().env("ANTHROPIC_BASE_URL", "https://gateway.example").env("ANTHROPIC_API_KEY", "sk-ant-test");
    let ended = user.runs(&["run", "--mode", "full", "--", "claude"]).await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("`ANTHROPIC_BASE_URL` is set, so this run goes by base URL"), "{}", ended.stderr);
    assert!(user.settings()["env"]["ANTHROPIC_BASE_URL"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")));
}

#[tokio::test]
async fn by_base_url_what_it_switches_off_is_switched_on_again() {
    let levers = ["ENABLE_TOOL_SEARCH", "CLAUDE_CODE_ENABLE_FINE_GRAINED_TOOL_STREAMING", "CLAUDE_CODE_PROPAGATE_TRACEPARENT"];
    let user = User::new();
    for mode in [&["--mode", "base"][..], &["--mode", "auto"], &[]] {
        user.runs(&[&["run"], mode, &["--", "claude"]].concat()).await;
        let env = user.settings()["env"].clone();
        assert!(levers.iter().all(|name| env[name].is_string()), "{mode:?}: {env}");
        assert!(env["ANTHROPIC_BASE_URL"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{mode:?}");
    }
}

#[tokio::test]
async fn serve_in_full_mode_says_how_and_keeps_this_machine_s_authority_to_its_owner() {
    let user = User::new().pair("https://primary.example", "https://spare.example");
    let mut child = user.starts(&["serve", "--set", "server.mode=full"]);
    let mut stderr = child.stderr.take().expect("piped");
    let said = wait_for(&mut stderr, "ca.pem").await;
    assert!(said.contains("HTTPS_PROXY=\"http://hotspare:$(cat ") && !said.contains("hs-"), "{said}");
    let ca = user.everything().into_keys().find(|path| path.ends_with("ca/ca.pem")).expect("the certificate");
    let key = ca.with_file_name("authority.json");
    let mode = std::fs::metadata(&key).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&ca).output().await.expect("openssl is there");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for words in ["CA:TRUE, pathlen:0", "X509v3 Name Constraints: critical", "DNS:api.anthropic.com", "IP:0.0.0.0/0.0.0.0"] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    child.kill().await.expect("ended");
    // Whoever has stolen the key signs for one name, and openssl takes no other.
    for (name, verdict) in
        [("api.anthropic.com", ": OK"), ("other.example", "permitted subtree violation"), ("10.0.0.7", "excluded subtree")]
    {
        let said = signed_for(name, &ca, &key).await;
        assert!(said.contains(verdict), "{name}: {said}");
    }
}

/// What `openssl` says of a certificate for this name that it has signed with the authority's own key.
async fn signed_for(name: &str, ca: &Path, key: &Path) -> String {
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(key).expect("read")).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |file: &str| folder.path().join(file);
    std::fs::write(place("ca.key"), kept["key"].as_str().expect("PEM")).expect("written");
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    let mut sign = Command::new("openssl");
    sign.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=somebody", "-days", "1"]);
    sign.args(["-addext", &format!("subjectAltName={kind}:{name}"), "-addext", "basicConstraints=critical,CA:FALSE"]);
    sign.arg("-CA").arg(ca).arg("-CAkey").arg(place("ca.key")).arg("-keyout").arg(place("leaf.key")).arg("-out").arg(place("leaf.pem"));
    let signed = sign.output().await.expect("openssl is there");
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let verify = Command::new("openssl").args(["verify", "-no-CApath", "-CAfile"]).arg(ca).arg(place("leaf.pem")).output();
    let verify = verify.await.expect("openssl is there");
    String::from_utf8_lossy(&[verify.stdout, verify.stderr].concat()).into_owned()
}

/// Nobody's trust store but the client's own: the authority is not made before somebody needs it.
#[tokio::test]
async fn t20_without_full_mode_no_authority_is_made() {
    let user = User::new().pair("https://primary.example", "https://spare.example");
    for mode in ["auto", "base"] {
        let mut child = user.starts(&["serve", "--set", &format!("server.mode={mode}")]);
        let mut stderr = child.stderr.take().expect("piped");
        wait_for(&mut stderr, "client ANTHROPIC_BASE_URL").await;
        child.kill().await.expect("ended");
    }
    assert!(user.everything().keys().all(|path| !path.to_string_lossy().contains("/ca/")));
}
