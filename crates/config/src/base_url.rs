//! Decides which addresses a profile may have. Never resolves a name and never joins paths: what is not a plain address is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Anthropic's own host.
const ANTHROPIC_HOST: &str = "api.anthropic.com";

/// Names under which clouds serve instance credentials. Addresses are judged by number.
const METADATA_NAMES: &[&str] = &["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"];

/// Where a provider's API begins: scheme, host, port and a path prefix, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether TLS is used.
    pub https: bool,
    /// A lower-case DNS name or an IP address; IPv6 without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// `""`, or `/api/anthropic`: starts with a slash, ends without one.
    pub prefix: String,
}

/// Why a text is no usable base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// Not http or https, or no `://`.
    #[error("it must start with `https://` or `http://`")]
    Scheme,
    /// `user@` or `user:password@`.
    #[error("it must not hold a user name or a password")]
    UserInfo,
    /// `?` or `#` and what follows.
    #[error("it must not have a query or a fragment")]
    QueryOrFragment,
    /// The host is missing, or is neither a DNS name nor an IP address in its usual form.
    #[error("its host must be a DNS name or an IP address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("its port must be a number from 1 to 65535")]
    Port,
    /// White space, a backslash, `%`, an empty segment, `.` or `..`.
    #[error("its path must be plain: no spaces, `\\`, `%`, `//`, `.` or `..`")]
    Path,
    /// Link-local, unspecified, multicast, or a cloud's metadata service.
    #[error("no provider can be at this address (link-local, metadata, unspecified or multicast)")]
    Denied,
}

impl BaseUrl {
    /// Anthropic's API.
    pub fn anthropic() -> Self {
        Self { https: true, host: ANTHROPIC_HOST.to_owned(), port: 443, prefix: String::new() }
    }

    /// Reads `https://host[:port][/prefix]`.
    ///
    /// # Errors
    ///
    /// When the text is not of that form, or the address is one where no provider can be. Plain http beyond this machine is not judged
    /// here: see [`BaseUrl::needs_allow_http`].
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BaseUrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        if path.contains(['?', '#']) {
            return Err(BaseUrlError::QueryOrFragment);
        }
        let (host, port) = split_port(authority)?;
        let url = Self {
            https,
            host: parse_host(host)?,
            port: port.map_or(Ok(if https { 443 } else { 80 }), parse_port)?,
            prefix: parse_prefix(path)?,
        };
        if url.is_denied() { Err(BaseUrlError::Denied) } else { Ok(url) }
    }

    /// Whether the host is this machine, told by its name or number alone.
    pub fn is_loopback(&self) -> bool {
        match self.ip() {
            Some(ip) => ip.is_loopback(),
            None => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// Whether it is plain http to another machine, which the user must allow in so many words.
    pub fn needs_allow_http(&self) -> bool {
        !self.https && !self.is_loopback()
    }

    /// Whether it is Anthropic's own API.
    pub fn is_anthropic(&self) -> bool {
        self.https && self.host == ANTHROPIC_HOST && self.port == 443
    }

    /// Whether a request there would come back to our own listener.
    pub fn points_at(&self, listener: SocketAddr) -> bool {
        let same_host = match self.ip() {
            Some(ip) => ip == listener.ip() || listener.ip().is_unspecified() && ip.is_loopback(),
            None => self.is_loopback() && (listener.ip().is_loopback() || listener.ip().is_unspecified()),
        };
        same_host && self.port == listener.port()
    }

    /// `host` or `host:port`, as the Host header has it: IPv6 in brackets, the scheme's own port left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let own_port = if self.https { 443 } else { 80 };
        if self.port == own_port { host } else { format!("{host}:{}", self.port) }
    }

    /// The host as a number; an IPv4 address written as IPv6 is the IPv4 address.
    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
    }

    fn is_denied(&self) -> bool {
        match self.ip() {
            Some(IpAddr::V4(ip)) => {
                ip.is_link_local()
                    || ip.octets()[0] == 0
                    || ip.is_multicast()
                    || ip.is_broadcast()
                    || ip == Ipv4Addr::new(100, 100, 100, 200)
            }
            Some(IpAddr::V6(ip)) => {
                ip.is_unicast_link_local()
                    || ip.is_unspecified()
                    || ip.is_multicast()
                    || ip == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)
            }
            None => METADATA_NAMES.contains(&self.host.as_str()),
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), BaseUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(BaseUrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| BaseUrlError::Host)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(BaseUrlError::Host),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(BaseUrlError::Host),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, BaseUrlError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(BaseUrlError::Port)
}

fn parse_host(text: &str) -> Result<String, BaseUrlError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    // `127.1`, `0x7f.0.0.1` and `2130706433` are numbers to some resolvers: only the usual spelling is let in.
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if numeric || text.len() > 253 || !text.split('.').all(is_label) {
        return Err(BaseUrlError::Host);
    }
    Ok(text.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn parse_prefix(path: &str) -> Result<String, BaseUrlError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some(segments) = path.strip_prefix('/') else {
        return if path.is_empty() { Ok(String::new()) } else { Err(BaseUrlError::Path) };
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
    if segments.split('/').all(is_segment) { Ok(path.to_owned()) } else { Err(BaseUrlError::Path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> BaseUrl {
        BaseUrl::parse(text).expect(text)
    }

    #[test]
    fn plain_addresses_are_taken_apart_and_put_together() {
        for (text, shown) in [
            ("https://api.anthropic.com", "https://api.anthropic.com"),
            ("https://api.anthropic.com/", "https://api.anthropic.com"),
            ("HTTPS://API.Example.COM:443/x/", "https://api.example.com/x"),
            ("https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic"),
            ("http://127.0.0.1:1111", "http://127.0.0.1:1111"),
            ("http://localhost:80", "http://localhost"),
            ("https://[2001:db8::1]:8443/p", "https://[2001:db8::1]:8443/p"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://h/a:b@c", "https://h/a:b@c"),
        ] {
            assert_eq!(url(text).to_string(), shown);
            assert_eq!(url(&url(text).to_string()), url(text), "a shown address reads back as itself");
        }
        assert_eq!(url("https://api.anthropic.com"), BaseUrl::anthropic());
        assert!(BaseUrl::anthropic().is_anthropic() && !url("https://api.anthropic.com:444").is_anthropic());
    }

    #[test]
    fn anything_else_is_refused() {
        use BaseUrlError::{Denied, Host, Path, Port, QueryOrFragment, Scheme, UserInfo};
        for (text, error) in [
            ("", Scheme),
            ("api.anthropic.com", Scheme),
            ("ftp://host", Scheme),
            (" https://host", Scheme),
            ("https:/host", Scheme),
            ("https://", Host),
            ("https:///x", Host),
            ("https://user@host", UserInfo),
            ("https://user:pw@host/", UserInfo),
            ("https://host?x=1", QueryOrFragment),
            ("https://host/#x", QueryOrFragment),
            ("https://host:", Port),
            ("https://host:0", Port),
            ("https://host:65536", Port),
            ("https://host:+1", Port),
            ("https://host:8x", Port),
            ("https://ho st", Host),
            ("https://bücher.example", Host),
            ("https://host.", Host),
            ("https://-host", Host),
            ("https://a..b", Host),
            ("https://127.1", Host),
            ("https://2130706433", Host),
            ("https://0x7f.0.0.1", Host),
            ("https://0x7f000001", Host),
            ("https://1.2.3.4.5", Host),
            ("https://[::1", Host),
            ("https://[127.0.0.1]", Host),
            ("https://[::1]x", Host),
            ("https://::1", Host),
            ("https://host\\evil", Path),
            ("https://host/a//b", Path),
            ("https://host//", Path),
            ("https://host/../x", Path),
            ("https://host/./x", Path),
            ("https://host/%2e%2e", Path),
            ("https://host/a b", Path),
            ("https://host/é", Path),
            ("http://169.254.169.254/latest", Denied),
            ("https://[fe80::1]", Denied),
            ("https://[::ffff:169.254.169.254]", Denied),
            ("https://[fd00:ec2::254]", Denied),
            ("http://metadata.google.internal", Denied),
            ("http://0.0.0.0:4117", Denied),
            ("http://[::]:4117", Denied),
            ("http://100.100.100.200", Denied),
            ("https://224.0.0.1", Denied),
            ("https://255.255.255.255", Denied),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn this_machine_is_known_by_name_and_number() {
        for here in ["http://localhost", "http://LOCALHOST:1", "http://a.localhost", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]"]
        {
            assert!(url(here).is_loopback() && !url(here).needs_allow_http(), "{here}");
        }
        assert!(url("http://[::ffff:127.0.0.1]").is_loopback());
        for away in ["http://host", "http://10.0.0.1", "http://localhost.example", "http://notlocalhost"] {
            assert!(url(away).needs_allow_http(), "{away}");
        }
        assert!(!url("https://host").needs_allow_http());
    }

    #[test]
    fn our_own_listener_is_recognised() {
        let listener: SocketAddr = "127.0.0.1:4117".parse().expect("an address");
        for own in ["http://127.0.0.1:4117", "http://localhost:4117/x", "https://127.0.0.1:4117", "http://[::ffff:127.0.0.1]:4117"] {
            assert!(url(own).points_at(listener), "{own}");
        }
        for other in ["http://127.0.0.1:4118", "http://127.0.0.2:4117", "http://[::1]:4117", "http://host:4117"] {
            assert!(!url(other).points_at(listener), "{other}");
        }
    }
}
