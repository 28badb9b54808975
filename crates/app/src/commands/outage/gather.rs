//! Looks at everything that can be seen from here, all at the same time and each for three seconds at most: the hosts of the profiles, the
//! status page, a plain request that only a login page would answer, the gateways that run, and the ledger. Never judges.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future;
use hotspare_config::{Config, Locations, Profile};
use hotspare_core::blame::{FailureSeen, HostSeen, Observations, Portal, Reach, Traffic};
use hotspare_core::{AttemptEntry, Endpoint, ExchangeRecord, FailureKind, Platform};
use hotspare_gateway::Status;
use hotspare_gateway::status::ProfileStatus;
use hotspare_store::{Filter, Reader};
use hotspare_upstream::probe::{Address, Probed, probe};
use http::{Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::page::{self, Looked, PageAddress};
use crate::commands;

/// Each probe takes so long at most; all run at the same time.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(3);

/// Real requests of so long are looked at: a provider's trouble of an hour ago is no news.
const LOOK_BACK: Duration = Duration::from_secs(15 * 60);

/// Most exchanges that are looked at.
const EXCHANGES: u32 = 500;

/// Most hosts that are probed; a chain with more has enough of them to compare.
const HOSTS: usize = 8;

/// What was found.
pub(super) struct Gathered {
    pub seen: Observations,
    pub page: Looked,
    /// Profiles behind the first that may be asked now.
    pub spares: Vec<String>,
    /// Profiles behind the first that cannot answer now.
    pub held: Vec<HeldSpare>,
}

/// A spare that cannot stand in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HeldSpare {
    /// The profile.
    pub profile: String,
    /// Why.
    pub why: String,
    /// What it failed with, as the failure table names it; `None` if it is not a failure.
    pub because: Option<FailureKind>,
    /// Seconds until a request may be sent to it again; `None` if time alone does not help.
    pub back_in_s: Option<u64>,
}

pub(super) async fn gather(config: &Config, locations: &Locations, statuses: &[Status], address: Option<&PageAddress>) -> Gathered {
    let profiles = chain(config);
    let targets = targets(&profiles);
    let probes = future::join_all(targets.iter().map(|(address, _)| probe(address.clone(), commands::extra_roots(), PROBE_TIME)));
    let plain = async {
        match plain(&targets) {
            Some(address) => Some((address.host.clone(), probe(address, None, PROBE_TIME).await)),
            None => None,
        }
    };
    let (probed, page, plain) = future::join3(probes, page::look(locations, address), plain).await;
    let mut hosts: Vec<HostSeen> =
        targets.iter().zip(&probed).map(|((address, names), probed)| host_seen(address, names, probed)).collect();
    hosts.extend(page.probed.iter().zip(address).map(|(probed, page)| host_seen(&page.address(), &[], probed)));
    let answers = probed.iter().chain(&page.probed).chain(plain.as_ref().map(|(_, probed)| probed));
    let skews: Vec<i64> = answers.filter_map(|probed| probed.answer.as_ref().ok()?.skew_s).collect();
    let traffic = traffic(&profiles, locations, statuses);
    let is_native = profiles.first().is_some_and(|profile| profile.platform == Platform::Anthropic);
    let seen = Observations {
        hosts,
        portal: plain.as_ref().map_or(Portal::Unknown, |(host, probed)| portal(host, probed)),
        skew_s: median(skews),
        traffic,
        page: address.filter(|address| is_native || address.named).map(|_| page.page.clone()),
    };
    let (spares, held) = spares(&profiles, &seen, statuses);
    Gathered { spares, held, seen, page: page.looked }
}

/// The profiles of the default chain, in its order, each once.
fn chain(config: &Config) -> Vec<&Profile> {
    let entries = config.rules.last().map(|rule| rule.chain.entries.as_slice()).unwrap_or_default();
    let mut profiles: Vec<&Profile> = Vec::new();
    for profile in entries.iter().filter_map(|entry| config.profiles.get(usize::from(entry.profile.0))) {
        if !profiles.iter().any(|known| known.name == profile.name) {
            profiles.push(profile);
        }
    }
    profiles
}

/// Each address once, with the profiles that go there.
fn targets(profiles: &[&Profile]) -> Vec<(Address, Vec<String>)> {
    let mut targets: Vec<(Address, Vec<String>)> = Vec::new();
    for profile in profiles {
        let url = &profile.base_url;
        match targets.iter().position(|(address, _)| address.host == url.host && address.port == url.port) {
            Some(place) => targets[place].1.push(profile.name.to_string()),
            None if targets.len() < HOSTS => {
                let address =
                    Address { https: url.https, host: url.host.clone(), port: url.port, path: "/".to_owned(), method: Method::HEAD };
                targets.push((address, vec![profile.name.to_string()]));
            }
            None => {}
        }
    }
    targets
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host_seen(address: &Address, names: &[String], probed: &Probed) -> HostSeen {
    HostSeen {
        host: address.host.clone(),
        profiles: names.to_vec(),
        loopback: is_loopback(&address.host),
        reach: reach(probed),
        status: probed.answer.as_ref().ok().map(|head| head.status),
        issuer: probed.issuer.as_ref().map(|issuer| issuer.name.clone()),
        public: probed.issuer.as_ref().map(|issuer| issuer.public),
    }
}

fn reach(probed: &Probed) -> Reach {
    let Err(failure) = &probed.answer else { return Reach::Answered };
    match failure.kind {
        FailureKind::Dns => Reach::Dns,
        FailureKind::ConnectRefused => Reach::Refused,
        FailureKind::ConnectTimeout => Reach::ConnectTimeout,
        FailureKind::TlsHandshake => Reach::TlsFailed,
        FailureKind::TlsCertificate => Reach::BadCertificate,
        FailureKind::Unreachable => Reach::Unreachable,
        // The limit is that of the whole probe: with a certificate seen it was connected.
        FailureKind::HeadTimeout if probed.issuer.is_none() => Reach::ConnectTimeout,
        _ => Reach::NoAnswer,
    }
}

/// A plain request to a host that only ever redirects those to TLS. Whoever answers otherwise stands in the way. With a proxy there is no
/// such way to look at.
fn plain(targets: &[(Address, Vec<String>)]) -> Option<Address> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].into_iter().any(set) {
        return None;
    }
    let (address, _) = targets.iter().find(|(address, _)| address.https && address.port == 443 && !is_loopback(&address.host))?;
    Some(Address { https: false, port: 80, path: "/".to_owned(), method: Method::GET, ..address.clone() })
}

fn portal(host: &str, probed: &Probed) -> Portal {
    let Ok(head) = &probed.answer else { return Portal::Unknown };
    match head.status {
        // RFC 6585: a network wants a login.
        511 => Portal::Found,
        300..400 => {
            let to = head.headers.get(header::LOCATION).and_then(|location| location.to_str().ok()?.parse::<http::Uri>().ok());
            match to.as_ref().and_then(http::Uri::host) {
                Some(to) if !to.eq_ignore_ascii_case(host) && !to.to_ascii_lowercase().ends_with(&domain(host)) => Portal::Found,
                _ => Portal::Clear,
            }
        }
        _ => Portal::Clear,
    }
}

/// `.anthropic.com` of `api.anthropic.com`.
fn domain(host: &str) -> String {
    let mut labels: Vec<&str> = host.rsplit('.').take(2).collect();
    labels.reverse();
    format!(".{}", labels.join(".").to_ascii_lowercase())
}

/// One server with a wrong clock is outvoted.
fn median(mut skews: Vec<i64>) -> Option<i64> {
    skews.sort_unstable();
    skews.get(skews.len() / 2).copied()
}

/// What real requests met, and who is blocked in what runs.
fn traffic(profiles: &[&Profile], locations: &Locations, statuses: &[Status]) -> Vec<Traffic> {
    let ledger = Reader::open(&locations.state_dir).ok().flatten();
    let filter = Filter { since_ms: commands::ms_ago(LOOK_BACK), failovers: false, after: None, limit: EXCHANGES };
    let rows = ledger.and_then(|ledger| ledger.list(&filter).ok()).unwrap_or_default().rows;
    let real: Vec<&ExchangeRecord> =
        rows.iter().map(|row| &row.record).filter(|record| record.drill.is_none() && record.endpoint == Endpoint::Messages).collect();
    let now_ms = commands::ms_ago(Duration::ZERO);
    let of = |profile: &&Profile| {
        let mut traffic = of_profile(&profile.name, &real, now_ms, blocked(&profile.name, statuses));
        if traffic.failures.is_empty() {
            traffic.failures.extend(failure_by_status(&profile.name, statuses));
        }
        traffic
    };
    profiles.iter().map(of).collect()
}

/// The last failure of a profile that cools down. A request that has just ended may not be in the ledger yet.
fn failure_by_status(name: &str, statuses: &[Status]) -> Option<FailureSeen> {
    let is_cooling = |profile: &&ProfileStatus| profile.name == name && matches!(profile.state.as_str(), "cooling" | "open");
    let status = statuses.iter().flat_map(|status| &status.profiles).find(is_cooling)?;
    let class = FailureKind::ALL.into_iter().find(|kind| Some(kind.word()) == status.because.as_deref())?;
    Some(FailureSeen { class, count: 1, ago_s: status.last_failure_ago_s? })
}

fn of_profile(name: &str, records: &[&ExchangeRecord], now_ms: u64, blocked: Option<FailureKind>) -> Traffic {
    let ago_s = |record: &ExchangeRecord, attempt: &AttemptEntry| {
        let at_ms = record.at_ms.saturating_add(attempt.ended_us.unwrap_or(attempt.started_us) / 1000);
        now_ms.saturating_sub(at_ms) / 1000
    };
    let mut traffic = Traffic { profile: name.to_owned(), blocked, ..Traffic::default() };
    let mut failures: BTreeMap<&str, FailureSeen> = BTreeMap::new();
    for record in records {
        for attempt in record.attempts.iter().filter(|attempt| attempt.profile == name) {
            let ago_s = ago_s(record, attempt);
            if let Some(class) = attempt.class {
                let seen = failures.entry(class.word()).or_insert(FailureSeen { class, count: 0, ago_s });
                seen.count += 1;
                seen.ago_s = seen.ago_s.min(ago_s);
            } else if attempt.first_content_us.is_some() || attempt.status.is_some_and(|status| status < 300) {
                traffic.good_ago_s = Some(traffic.good_ago_s.map_or(ago_s, |known| known.min(ago_s)));
            }
        }
    }
    traffic.failures = failures.into_values().collect();
    traffic.failures.sort_by_key(|failure| failure.ago_s);
    traffic
}

/// Why a running gateway does not ask a profile at all.
fn blocked(name: &str, statuses: &[Status]) -> Option<FailureKind> {
    let of_name = statuses.iter().flat_map(|status| &status.profiles).find(|profile| profile.name == name && profile.state == "blocked")?;
    let word = of_name.because.as_deref()?;
    FailureKind::ALL.into_iter().find(|kind| kind.word() == word)
}

/// Splits the profiles behind the first into those that can answer now and those that cannot: by what runs, else by the last requests.
fn spares(profiles: &[&Profile], seen: &Observations, statuses: &[Status]) -> (Vec<String>, Vec<HeldSpare>) {
    let (mut ready, mut held) = (Vec::new(), Vec::new());
    for profile in profiles.iter().skip(1).map(|profile| &*profile.name) {
        let status = statuses.iter().flat_map(|status| &status.profiles).find(|status| status.name == profile);
        match status.and_then(held_by_status).or_else(|| held_by_traffic(profile, seen, status.is_some())) {
            Some(spare) => held.push(spare),
            None => ready.push(profile.to_owned()),
        }
    }
    (ready, held)
}

/// Why a running gateway does not send requests to the profile.
fn held_by_status(status: &ProfileStatus) -> Option<HeldSpare> {
    let is_usable = matches!(status.state.as_str(), "serving" | "ready" | "half_open") && status.left_out.is_none();
    if is_usable {
        return None;
    }
    let failed = status.last_failure.clone().filter(|_| matches!(status.state.as_str(), "cooling" | "open" | "blocked"));
    let because = status.because.as_deref().and_then(|word| FailureKind::ALL.into_iter().find(|kind| kind.word() == word));
    let word = || because.map_or_else(|| status.state.replace('_', " "), |because| because.word().replace('_', " "));
    Some(HeldSpare {
        profile: status.name.clone(),
        why: status.left_out.clone().or(failed).unwrap_or_else(word),
        because,
        back_in_s: status.next_look_in_s.or(status.back_in_s).filter(|_| status.left_out.is_none()),
    })
}

/// Why the profile would fail, by what its host and its last requests say.
fn held_by_traffic(profile: &str, seen: &Observations, runs: bool) -> Option<HeldSpare> {
    let held = |why: String, because| Some(HeldSpare { profile: profile.to_owned(), why, because, back_in_s: None });
    let host = seen.hosts.iter().find(|host| host.profiles.iter().any(|name| name == profile));
    if let Some(host) = host.filter(|host| !matches!(host.reach, Reach::Answered | Reach::NoAnswer)) {
        return held(format!("{}: {}", host.host, super::draw::reached(host.reach)), None);
    }
    // What runs knows better whether a failure of some minutes ago still counts.
    let failing = seen.traffic.iter().find(|traffic| traffic.profile == profile).filter(|_| !runs)?.failing()?;
    held(failing.word().replace('_', " "), Some(failing))
}

#[cfg(test)]
mod tests;
