//! Which raw heads pass and which are refused, byte for byte. Never opens a socket.

use super::*;
use proptest::prelude::*;

fn local() -> Place {
    Place::Port("127.0.0.1:4117".parse().unwrap())
}

fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

#[track_caller]
fn check(lines: &[&str], expected: Result<Framing, u16>) {
    assert_eq!(inspect(&head(lines), local()).map_err(|refusal| refusal.status), expected, "{lines:?}");
}

const HOST: &str = "Host: 127.0.0.1:4117";

#[test]
fn ordinary_heads_pass() {
    check(&["POST /v1/messages?beta=true HTTP/1.1", HOST, "Content-Length: 12"], Ok(Framing::Length(12)));
    check(&["GET /v1/models HTTP/1.1", "host: LOCALHOST:4117"], Ok(Framing::Length(0)));
    check(&["POST /v1/messages HTTP/1.1", "Host: [::1]:4117", "Transfer-Encoding: Chunked"], Ok(Framing::Chunked));
    check(&["HEAD / HTTP/1.1", HOST], Ok(Framing::Length(0)));
}

#[test]
fn t1_only_our_own_host_is_served() {
    for host in [
        "evil.example",
        "evil.example:4117",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:4118",
        "localhost",
        "localhost.:4117",
        "127.0.0.2:4117",
        "0.0.0.0:4117",
        "127.1:4117",
        "[::]:4117",
        "127.0.0.1:4117:4117",
        "user@127.0.0.1:4117",
        "127.0.0.1:04117x",
        "[::ffff:127.0.0.1]:4117",
        "",
        "127.0.0.1:",
        "localhost:4117.evil.example",
    ] {
        check(&["GET / HTTP/1.1", &format!("Host: {host}")], Err(421));
    }
    check(&["GET / HTTP/1.1"], Err(400));
    check(&["GET / HTTP/1.1", HOST, HOST], Err(400));
    check(&["GET / HTTP/1.1", HOST, "host: evil.example"], Err(400));
}

#[test]
fn t7_a_path_that_two_readers_could_take_differently_is_refused() {
    for path in [
        "//evil.example/v1",
        "/v1//messages",
        "/..",
        "/v1/../x",
        "/v1/./x",
        "/%2e%2e/x",
        "/%2E./x",
        "/.%2e",
        "/v1/%2fmessages",
        "/v1%5Cx",
        "/\\evil",
        "/v1/%00",
        "/v1#x",
        "/v1/%252e%252e/x",
        "/v1/m\u{e9}",
        "http://evil.example/v1",
        "http://127.0.0.1:4117/v1/messages",
        "*",
        "v1/messages",
        "/x%0d%0aHost:evil",
        "evil.example:443",
    ] {
        check(&[&format!("POST {path} HTTP/1.1"), HOST], Err(400));
    }
    check(&["POST /v1/messages?redirect=https://x/..//y HTTP/1.1", HOST], Ok(Framing::Length(0)));
}

/// Page tokens of the files and batches endpoints are base64 with padding, slashes and line ends, percent-encoded.
#[test]
fn field_17_encoded_bytes_in_a_query_pass() {
    for query in ["page=a%2Fb%3D", "page=%5C", "after_id=x%0Ay", "page=%0D%0A", "x=%00", "page=%252F"] {
        check(&[&format!("GET /v1/files?{query} HTTP/1.1"), HOST], Ok(Framing::Length(0)));
    }
    check(&["GET /v1/files%2Fx?page=a%2Fb HTTP/1.1", HOST], Err(400));
}

#[test]
fn t12_smuggling_forms_are_refused() {
    let post = "POST /v1/messages HTTP/1.1";
    for (lines, status) in [
        (&["Content-Length: 3", "Content-Length: 3"][..], 400),
        (&["Content-Length: 3", "Content-Length: 4"], 400),
        (&["Content-Length: 3, 3"], 400),
        (&["Content-Length: +3"], 400),
        (&["Content-Length: 0x3"], 400),
        (&["Content-Length:"], 400),
        (&["Content-Length: 99999999999999999999999"], 400),
        (&["Content-Length: 3", "Transfer-Encoding: chunked"], 400),
        (&["Transfer-Encoding: gzip, chunked"], 501),
        (&["Transfer-Encoding: chunked, identity"], 501),
        (&["Transfer-Encoding: identity"], 501),
        (&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 501),
        (&["Transfer-Encoding: xchunked"], 501),
        (&["Transfer-Encoding : chunked"], 400),
        (&["Upgrade: h2c", "Connection: upgrade"], 501),
        (&["X: a\u{0}b"], 400),
        (&["X Y: 1"], 400),
        (&[" folded: 1"], 400),
    ] {
        let mut all = vec![post, HOST];
        all.extend(lines);
        check(&all, Err(status));
    }
    for method in ["CONNECT 127.0.0.1:443", "TRACE /", "CONNECT /"] {
        check(&[&format!("{method} HTTP/1.1"), HOST], Err(405));
    }
    check(&["GET / HTTP/1.0", HOST], Err(400));
    check(&["GET / HTTP/2.0", HOST], Err(400));
    check(&["GET /"], Err(400));
}

#[test]
fn t12_line_ends_are_crlf_or_nothing() {
    for bytes in [
        &b"GET / HTTP/1.1\nHost: 127.0.0.1:4117\n\n"[..],
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:4117\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1:4117\r\n\r\n",
        b"\n",
    ] {
        assert_eq!(head_end(bytes, 0).map_err(|refusal| refusal.status), Err(400));
    }
    let good = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:4117\r\n\r\nbody\n";
    assert_eq!(head_end(good, 0), Ok(Some(good.len() - 5)));
    assert_eq!(head_end(&good[..20], 0), Ok(None));
}

#[test]
fn too_many_fields_are_refused() {
    let fields: Vec<String> = (0..120).map(|number| format!("x-{number}: 1")).collect();
    let mut lines = vec!["GET / HTTP/1.1", HOST];
    lines.extend(fields.iter().map(String::as_str));
    check(&lines, Err(431));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic_and_alike_however_they_come(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let whole = head_end(&bytes, 0);
        let cut = cut.min(bytes.len());
        let split = match head_end(&bytes[..cut], 0) {
            Ok(None) => head_end(&bytes, cut),
            early => early,
        };
        prop_assert_eq!(whole, split);
        let _ = inspect(&bytes, local());
    }

    #[test]
    fn whatever_passes_names_us_and_an_origin_form_path(path in "[/a-z.%0-9\\\\#?]{0,20}", host in "[a-z0-9.:\\[\\]]{0,20}") {
        let head = head(&[&format!("POST {path} HTTP/1.1"), &format!("Host: {host}")]);
        if inspect(&head, local()).is_ok() {
            prop_assert!(path.starts_with('/') && !path.contains("/../") && !path.split('?').next().is_some_and(|path| path.contains("//")));
            prop_assert!(["127.0.0.1:4117", "localhost:4117", "[::1]:4117"].contains(&host.as_str()));
        }
    }
}
