//! Looks what a fresh connection begins with, where it may begin with something else than a request: a tunnel is asked for (CONNECT), or,
//! within one, another protocol. Never opens anything, and takes nothing away from a connection that begins with a request.

use std::fmt;
use std::net::Ipv6Addr;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{FIELD_CAP, Framing, Guarded, HEAD_CAP, Place, Refusal, State, framing, head_end, host, refuse, target};

/// What a tunnel begins with.
const CONNECT: &[u8] = b"CONNECT ";

/// Longest name of a host (RFC 1035).
const NAME_CAP: usize = 253;

/// What a connection begins with.
#[derive(Debug)]
pub enum Opening {
    /// With a request, or with nothing that may pass: the guard goes on by itself.
    Requests,
    /// It wants a tunnel. What comes behind its head belongs into the tunnel, and can be read from the guard.
    Connect(Connect),
    /// Within a tunnel: it wants another protocol. This is the head as it came; what comes behind it can be read from the guard.
    Upgrade(Bytes),
}

/// A tunnel that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Name or address, in lower case, without brackets and without a dot at its end.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// `Proxy-Authorization` as it came.
    pub authorization: Option<Vec<u8>>,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONNECT {}:{}", self.host, self.port)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Guarded<I> {
    /// What the connection begins with. To be asked before anything is read.
    pub async fn opening(&mut self) -> Opening {
        std::future::poll_fn(|cx| self.poll_opening(cx)).await
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<Opening> {
        loop {
            let State::Head { searched } = self.state else { return Poll::Ready(Opening::Requests) };
            let begun = self.pending.len().min(CONNECT.len());
            if matches!(self.place, Place::Port(_)) && self.pending[..begun] != CONNECT[..begun] {
                return Poll::Ready(Opening::Requests);
            }
            match head_end(&self.pending, searched) {
                Ok(Some(end)) if end <= HEAD_CAP => return Poll::Ready(self.open(end)),
                Ok(None) if self.pending.len() <= HEAD_CAP => self.state = State::Head { searched: self.pending.len() },
                // The guard says so itself, from the start.
                Ok(_) | Err(_) => {
                    self.state = State::Head { searched: 0 };
                    return Poll::Ready(Opening::Requests);
                }
            }
            if ready!(self.poll_head(cx)).is_err() {
                self.state = State::Closed;
            }
        }
    }

    /// Takes the head away if it opens something.
    fn open(&mut self, end: usize) -> Opening {
        let opening = match self.place {
            Place::Port(_) => inspect_connect(&self.pending[..end]).map(|connect| Some(Opening::Connect(connect))),
            Place::Host(_) => {
                let upgrade = is_upgrade(&self.pending[..end], self.place);
                Ok(upgrade.then(|| Opening::Upgrade(Bytes::copy_from_slice(&self.pending[..end]))))
            }
        };
        match opening {
            Ok(Some(opening)) => {
                self.pending.advance(end);
                self.cleared = self.pending.len();
                self.state = State::Opaque;
                self.head_timer = None;
                opening
            }
            Ok(None) => {
                self.state = State::Head { searched: 0 };
                Opening::Requests
            }
            Err(refusal) => {
                self.refuse(&refusal);
                Opening::Requests
            }
        }
    }
}

/// Judges the head of a CONNECT, line ends included. Older programs ask with HTTP/1.0 and without a Host.
pub(crate) fn inspect_connect(head: &[u8]) -> Result<Connect, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_CAP];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(refuse(431, "too many header fields")),
        Ok(httparse::Status::Partial) | Err(_) => return Err(refuse(400, "not a valid HTTP request head")),
    }
    let asked = request.path.unwrap_or_default();
    let (host, port) = authority(asked).ok_or(refuse(400, "a tunnel needs HOST:PORT"))?;
    let mut hosts = values(request.headers, "host");
    match (hosts.next(), hosts.next()) {
        (Some(named), None) if names(named, asked) => {}
        (None, _) if request.version == Some(0) => {}
        (Some(_), None) => return Err(refuse(400, "Host names another place than the tunnel")),
        _ => return Err(refuse(400, "exactly one Host header is needed")),
    }
    if framing(request.headers)? != Framing::Length(0) {
        return Err(refuse(400, "a tunnel is asked for without a body"));
    }
    let mut credentials = values(request.headers, "proxy-authorization");
    let authorization = credentials.next().map(<[u8]>::to_vec);
    if credentials.next().is_some() {
        return Err(refuse(400, "more than one Proxy-Authorization"));
    }
    Ok(Connect { host, port, authorization })
}

fn values<'a>(fields: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Whether a Host header names what a tunnel is asked for, with or without its port.
fn names(host: &[u8], asked: &str) -> bool {
    let without_port = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    host.eq_ignore_ascii_case(asked.as_bytes()) || host.eq_ignore_ascii_case(without_port.as_bytes())
}

/// `HOST:PORT`, where the host is a name or an address and nothing that two readers could understand differently.
fn authority(asked: &str) -> Option<(String, u16)> {
    let (host, digits) = asked.rsplit_once(':')?;
    let port = digits.parse().ok().filter(|port| *port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some((address.parse::<Ipv6Addr>().ok()?.to_string(), port));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let good = !host.is_empty() && host.len() <= NAME_CAP && host.bytes().all(is_plain) && !host.contains("..") && !host.starts_with('.');
    good.then(|| (host.to_ascii_lowercase(), port))
}

/// Whether a head asks for another protocol (`Upgrade`) and is valid apart from that.
fn is_upgrade(head: &[u8], place: Place) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; FIELD_CAP];
    let mut request = httparse::Request::new(&mut fields);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) || request.version != Some(1) || request.method != Some("GET") {
        return false;
    }
    let upgrades = values(request.headers, "upgrade").count() == 1;
    let has_body = ["content-length", "transfer-encoding"].into_iter().any(|name| values(request.headers, name).next().is_some());
    upgrades && !has_body && target(request.path.unwrap_or_default(), place).is_ok() && host(request.headers, place).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(lines: &[&str]) -> Vec<u8> {
        format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }

    #[track_caller]
    fn check(lines: &[&str], expected: Result<(&str, u16), u16>) {
        let seen = inspect_connect(&head(lines)).map(|connect| (connect.host, connect.port)).map_err(|refusal| refusal.status);
        assert_eq!(seen, expected.map(|(host, port)| (host.to_owned(), port)), "{lines:?}");
    }

    #[test]
    fn what_programs_really_ask_passes() {
        check(&["CONNECT api.anthropic.com:443 HTTP/1.1", "Host: api.anthropic.com:443"], Ok(("api.anthropic.com", 443)));
        check(&["CONNECT API.Anthropic.com.:443 HTTP/1.1", "Host: API.Anthropic.com."], Ok(("api.anthropic.com", 443)));
        check(&["CONNECT pypi.org:443 HTTP/1.0"], Ok(("pypi.org", 443)));
        check(&["CONNECT pypi.org:443 HTTP/1.0", "Host: pypi.org"], Ok(("pypi.org", 443)));
        check(&["CONNECT [2001:DB8::1]:8443 HTTP/1.1", "Host: [2001:DB8::1]:8443"], Ok(("2001:db8::1", 8443)));
        check(&["CONNECT a_b-c.example:1 HTTP/1.1", "Host: a_b-c.example:1", "Content-Length: 0"], Ok(("a_b-c.example", 1)));
    }

    #[test]
    fn t12_a_tunnel_s_head_that_two_readers_could_take_differently_is_refused() {
        let host = "Host: a.example:443";
        for target in [
            "a.example",
            "a.example:",
            "a.example:0",
            "a.example:65536",
            "a.example:+443",
            "a.example:443:443",
            ":443",
            "/",
            "*",
            "https://a.example:443",
            "user@a.example:443",
            "a.example/:443",
            "a..example:443",
            ".example:443",
            "a%2eexample:443",
            "[::1:443",
            "::1:443",
            "[a]:443",
            "[fe80::1%25eth0]:443",
            "a.example\\:443",
            "a.example#:443",
            "..:443",
            ".:443",
            "a,b:443",
        ] {
            check(&[&format!("CONNECT {target} HTTP/1.1"), &format!("Host: {target}")], Err(400));
        }
        let connect = "CONNECT a.example:443 HTTP/1.1";
        check(&[connect], Err(400));
        check(&[connect, host, host], Err(400));
        check(&[connect, "Host: b.example:443"], Err(400));
        check(&[connect, "Host: a.example:80"], Err(400));
        check(&["CONNECT a.example:443 HTTP/1.0", host, host], Err(400));
        check(&["CONNECT a.example:443 HTTP/1.0", "Host: b.example:443"], Err(400));
        check(&[connect, host, "Content-Length: 5"], Err(400));
        check(&[connect, host, "Content-Length: 0", "Content-Length: 0"], Err(400));
        check(&[connect, host, "Transfer-Encoding: chunked"], Err(400));
        check(&[connect, host, "Transfer-Encoding: gzip"], Err(501));
        check(&[connect, host, "Upgrade: websocket"], Err(501));
        check(&[connect, host, "Proxy-Authorization: Basic a", "proxy-authorization: Basic b"], Err(400));
        check(&[connect, host, "Bad Name: x"], Err(400));
        check(&[&format!("CONNECT {}:443 HTTP/1.0", "a".repeat(254))], Err(400));
    }

    #[test]
    fn t11_a_credential_is_not_shown() {
        let connect = inspect_connect(&head(&["CONNECT a:1 HTTP/1.1", "Host: a:1", "Proxy-Authorization: Basic c2VjcmV0"])).unwrap();
        assert_eq!(connect.authorization.as_deref(), Some(&b"Basic c2VjcmV0"[..]));
        assert_eq!(format!("{connect:?}"), "CONNECT a:1");
    }

    #[test]
    fn another_protocol_is_asked_for_by_a_whole_get_alone() {
        let place = Place::Host("api.anthropic.com");
        let host = "Host: api.anthropic.com";
        let upgrade = "Upgrade: websocket";
        assert!(is_upgrade(&head(&["GET /v1/x?a=%2Fb HTTP/1.1", host, "Connection: Upgrade", upgrade]), place));
        for lines in [
            &["GET /v1/x HTTP/1.1", host][..],
            &["POST /v1/x HTTP/1.1", host, upgrade],
            &["GET /v1/x HTTP/1.0", host, upgrade],
            &["GET /v1/x HTTP/1.1", "Host: evil.example", upgrade],
            &["GET /v1/x HTTP/1.1", host, upgrade, upgrade],
            &["GET /v1/x HTTP/1.1", host, upgrade, "Content-Length: 3"],
            &["GET http://evil.example/ HTTP/1.1", host, upgrade],
        ] {
            assert!(!is_upgrade(&head(lines), place), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_head_is_too_odd_and_what_passes_is_one_plain_place(target in "[a-zA-Z0-9.:@/%\\[\\]_-]{0,24}", more in "[ -~]{0,30}") {
            let head = head(&[&format!("CONNECT {target} HTTP/1.1"), &format!("Host: {target}"), &format!("X: {more}")]);
            if let Ok(connect) = inspect_connect(&head) {
                let bare = connect.host.parse::<Ipv6Addr>().is_ok()
                    || connect.host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
                prop_assert!(bare && connect.port > 0 && !connect.host.is_empty(), "{connect:?}");
            }
        }
    }
}
