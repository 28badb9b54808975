//! Looks whether Claude Code's requests come to hotspare at all, and what else has a say in where they go. Never changes a setting.

mod version;

use std::net::SocketAddr;

use hotspare_config::{Config, Locations};
use hotspare_gateway::Snapshot;

use super::Running;
use super::check::Check;
use super::settings::{Kind, Setup, Source};
use crate::background;
use crate::claude;

pub(super) use version::version;

const BASE_URL: &str = "ANTHROPIC_BASE_URL";
const CUSTOM_HEADERS: &str = "ANTHROPIC_CUSTOM_HEADERS";
const API_KEY: &str = "ANTHROPIC_API_KEY";
const AUTH_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
const OAUTH_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
const TOKEN_HEADER: &str = "x-hotspare-token";

/// Each sends the client to another cloud, past any base URL.
const OTHER_CLOUDS: [&str; 4] = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE"];

/// Plain HTTP goes through the first two, also to this machine (measured).
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Everything about the client but its version.
pub(super) fn checks(setup: &Setup, config: Option<&Config>, running: &[Running], locations: &Locations) -> Vec<Check> {
    let addresses: Vec<SocketAddr> = running.iter().map(|one| one.instance.address).collect();
    let token = std::fs::read_to_string(locations.state_dir.join("token")).ok();
    let listen = config.map(|config| config.server.listen);
    let mut checks = vec![wiring(setup, listen, &addresses, token.as_deref().map(str::trim))];
    checks.extend(setup.broken.iter().map(|file| {
        let cause = "Claude Code and hotspare both leave it out";
        Check::warn("wiring", format!("{} is no JSON object", file.display()), cause, "mend it, or move it away")
    }));
    checks.push(managed(setup));
    checks.push(overrides(setup));
    checks.push(gateway(setup));
    checks.push(key(setup));
    checks.extend(config.and_then(|config| login(setup, Snapshot::compile(config).uses_client_login())));
    checks.push(proxy(setup));
    checks.extend(background(&background::led(&locations.claude_settings), &addresses));
    checks
}

/// Processes for background sessions that were started with an address at which nobody is any more.
fn background(led: &[(i32, SocketAddr)], running: &[SocketAddr]) -> Option<Check> {
    let (process, address) = led.iter().find(|(_, address)| !running.contains(address))?;
    let found = format!("Claude Code's background sessions (process {process}) were started with {address}");
    let cause = "nothing of hotspare listens there: where the settings say nothing else, new ones fail";
    Some(Check::warn("background", found, cause, background::STOP))
}

/// Where sessions go that nobody starts with `run`.
fn wiring(setup: &Setup, listen: Option<SocketAddr>, running: &[SocketAddr], token: Option<&str>) -> Check {
    let Some((source, url)) = setup.value(BASE_URL) else {
        if let Some((source, proxy)) = setup.our_proxy() {
            return by_proxy(source, proxy, running, token);
        }
        return Check::note(
            "wiring",
            "Claude Code is not pointed at hotspare: only sessions under `hotspare run -- claude` are protected, none in the background",
        )
        .with_command("hotspare install claude");
    };
    let place = source.place();
    let headers = setup.value(CUSTOM_HEADERS).map(|(_, headers)| headers).unwrap_or_default();
    let ours = token_in(headers);
    let Some(address) = loopback(url) else {
        let cause = "sessions that nobody starts with `run` go past hotspare";
        return Check::warn("wiring", format!("{place} points Claude Code at {}", shown(url)), cause, "hotspare init");
    };
    let serves = running.contains(&address);
    match ours {
        None if Some(address) != listen && !serves => {
            let cause = "another program on this machine is asked: sessions go past hotspare";
            Check::warn("wiring", format!("{place} points Claude Code at {address}"), cause, "hotspare init")
        }
        None => {
            let cause = "the local token is missing beside it: every request gets 401";
            Check::fail("wiring", format!("{place} points Claude Code at {address}"), cause, "hotspare install claude")
        }
        Some(_) if !serves => {
            let cause = "nothing of hotspare listens there: every session that goes there fails";
            let command = "hotspare service start    (or take it out: hotspare uninstall claude)";
            Check::fail("wiring", format!("{place} points Claude Code at {address}"), cause, command)
        }
        Some(theirs) if token.is_some_and(|token| token != theirs) && listen == Some(address) => {
            let cause = "the local token there is an old one: every request gets 401";
            Check::fail("wiring", format!("{place} points Claude Code at {address}"), cause, "hotspare install claude")
        }
        Some(_) => Check::ok(
            "wiring",
            format!(
                "{place} points Claude Code at {address}, and it is there: every session with these settings is covered, in the background too"
            ),
        ),
    }
}

/// The same in full mode. The handshake is looked at by itself.
fn by_proxy(source: &Source, proxy: &str, running: &[SocketAddr], token: Option<&str>) -> Check {
    let Some(address) = claude::our_proxy(proxy) else { return Check::note("wiring", "no proxy of hotspare's") };
    let found = format!("{} makes {address} Claude Code's HTTPS proxy", source.place());
    if !running.contains(&address) {
        let cause = "nothing of hotspare listens there: no session gets out";
        return Check::fail("wiring", found, cause, "hotspare service start    (or take it out: hotspare uninstall claude)");
    }
    if token.is_some() && claude::proxy_token(proxy) != token {
        return Check::fail("wiring", found, "the local token there is an old one: every tunnel gets 407", "hotspare install claude");
    }
    Check::ok("wiring", format!("{found}, and it is there: every session with these settings is covered, in the background too"))
}

/// The value of our header among the client's own.
fn token_in(headers: &str) -> Option<&str> {
    let fields = headers.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case(TOKEN_HEADER)).map(|(_, value)| value.trim()).next()
}

/// The address, where it is one of this machine.
fn loopback(url: &str) -> Option<SocketAddr> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let ip = if host == "localhost" { "127.0.0.1" } else { host }.parse::<std::net::IpAddr>().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    ip.is_loopback().then(|| SocketAddr::new(ip, port))
}

/// An address without what may be secret in it.
fn shown(url: &str) -> String {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(ToOwned::to_owned));
    host.unwrap_or_else(|| "an address that cannot be read".to_owned())
}

/// What decides where requests go, and as whom.
fn deciding(setup: &Setup) -> impl Iterator<Item = &'static str> {
    let of_full_mode = [claude::HTTPS_PROXY[0], claude::HTTPS_PROXY[1], claude::EXTRA_CERTIFICATES].into_iter();
    let is_full = setup.proxied();
    [BASE_URL, API_KEY, AUTH_TOKEN, CUSTOM_HEADERS].into_iter().chain(OTHER_CLOUDS).chain(of_full_mode.filter(move |_| is_full))
}

/// What of it the settings of one kind say, with the file that does.
fn said(setup: &Setup, kind: Kind) -> Option<(String, String)> {
    let named = |name: &'static str| setup.all(kind, name).map(move |(source, _)| (source.place(), name));
    let helpers = setup.sources.iter().filter(|source| source.kind == kind && source.helper).map(|source| (source.place(), "apiKeyHelper"));
    let found: Vec<(String, &str)> = deciding(setup).flat_map(named).chain(helpers).collect();
    let (place, _) = found.first()?;
    Some((place.clone(), found.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")))
}

/// An administrator's word stands above all: neither `run` nor `install` can move it.
fn managed(setup: &Setup) -> Check {
    let Some((place, names)) = said(setup, Kind::Managed) else {
        return Check::ok("managed", "no administrator's settings say where requests go");
    };
    let whither = setup.all(Kind::Managed, BASE_URL).next().map_or_else(String::new, |(_, url)| format!(", to {}", shown(url)));
    let cause = "an administrator's settings stand above all others: hotspare cannot take these sessions";
    Check::fail("managed", format!("{place} sets {names}{whither}"), cause, format!("ask whoever keeps {place}"))
}

/// A project's settings outrank the user's own and the shell: they took the traffic and the credential with it (measured).
fn overrides(setup: &Setup) -> Check {
    let Some((place, names)) = said(setup, Kind::Project) else {
        return Check::ok("override", "this folder's settings do not say where requests go, or as whom");
    };
    let cause = "settings of a project outrank your own: requests and credentials go where they say";
    Check::fail("override", format!("{place} sets {names}"), cause, "hotspare run -- claude    (pins them for one session)")
}

/// Another gateway or another cloud, by the user's own word.
fn gateway(setup: &Setup) -> Check {
    let on = |value: &str| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off");
    if let Some((source, name)) =
        OTHER_CLOUDS.into_iter().find_map(|name| Some((setup.value(name).filter(|(_, value)| on(value))?.0, name)))
    {
        let cause = "Claude Code speaks to that cloud itself: no base URL, and so no hotspare, stands between";
        return Check::warn("gateway", format!("{} sets {name}", source.place()), cause, "make that cloud a profile: hotspare profile add");
    }
    // The shell's word, where a settings file outranks it.
    let shell = setup.all(Kind::Shell, BASE_URL).next().filter(|(_, url)| loopback(url).is_none());
    match (shell, setup.value(BASE_URL)) {
        (Some((_, url)), Some((source, _))) if source.kind != Kind::Shell => {
            let cause = format!("{} outranks it in Claude Code; other programs go there", source.place());
            Check::note("gateway", format!("the environment names {} too: {cause}", shown(url)))
        }
        _ => Check::ok("gateway", "no other gateway or cloud is switched on"),
    }
}

/// A key hides a login: the subscription is paid and not used.
fn key(setup: &Setup) -> Check {
    let found = [API_KEY, AUTH_TOKEN].into_iter().find_map(|name| Some((setup.value(name)?.0, name)));
    let helper = setup.sources.iter().find(|source| source.helper);
    match (found, helper) {
        (Some((source, name)), _) if setup.login => hides(source, name),
        (None, Some(source)) if setup.login => hides(source, "apiKeyHelper"),
        (Some((source, name)), _) => Check::ok("key", format!("{} sets {name}, and there is no login that it would hide", source.place())),
        _ => Check::ok("key", "no key hides a login"),
    }
}

fn hides(source: &Source, name: &str) -> Check {
    let cause = "Claude Code then uses the key, which is billed, and not the login of your subscription";
    let command = if source.kind == Kind::Shell { format!("unset {name}") } else { format!("take {name} out of {}", source.place()) };
    Check::warn("key", format!("{} sets {name}, and there is a login", source.place()), cause, command)
}

/// A profile that passes the client's own login on is none without one. Where the login is kept in a keychain nobody can look.
fn login(setup: &Setup, wanted: bool) -> Option<Check> {
    let key = [API_KEY, AUTH_TOKEN, OAUTH_TOKEN].into_iter().any(|name| setup.value(name).is_some());
    if !wanted || setup.login || key || setup.sources.iter().any(|source| source.helper) || cfg!(target_os = "macos") {
        return None;
    }
    let cause = "a profile passes the client's own login on, and there is neither a login nor a key";
    Some(Check::warn("login", "Claude Code is not logged in", cause, "claude    (then /login)"))
}

/// The way to this machine must not lead through a proxy.
fn proxy(setup: &Setup) -> Check {
    let Some((source, name)) = PROXIES.into_iter().find_map(|name| Some((setup.value(name)?.0, name))) else {
        return Check::ok("proxy", "no proxy stands between Claude Code and this machine");
    };
    let exempt = ["no_proxy", "NO_PROXY"]
        .into_iter()
        .filter_map(|name| setup.value(name))
        .any(|(_, value)| value.split([',', ' ']).any(|entry| matches!(entry.trim(), "127.0.0.1" | "localhost" | "*" | "127.0.0.0/8")));
    if exempt {
        return Check::ok("proxy", format!("{} sets {name}, and this machine is exempt", source.place()));
    }
    let cause =
        "Claude Code would send its requests to hotspare, credential and all, through that proxy; `hotspare run` sets the exemption";
    Check::warn(
        "proxy",
        format!("{} sets {name} without an exemption for this machine", source.place()),
        cause,
        "export NO_PROXY=127.0.0.1,localhost",
    )
}

#[cfg(test)]
mod tests;
