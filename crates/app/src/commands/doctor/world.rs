//! Looks at what lies beyond this set-up: whether the providers are reached, through whom, and whether the clock is right. The same look as
//! `outage` takes; never a credential, three seconds at most.

use hotspare_config::{Config, Locations};
use hotspare_core::blame::{HostSeen, Portal, Reach, SKEW};
use hotspare_gateway::Status;

use super::check::Check;
use crate::commands::outage;
use crate::words;

pub(super) async fn checks(config: &Config, locations: &Locations, statuses: &[Status]) -> Vec<Check> {
    let seen = outage::seen(config, locations, statuses).await;
    let mut checks: Vec<Check> = seen.hosts.iter().filter(|host| !host.profiles.is_empty()).map(reached).collect();
    if seen.portal == Portal::Found {
        let cause = "this network wants a login first";
        checks.push(Check::fail("reach", "somebody else answers plain requests", cause, "open a web page and log in to the network"));
    }
    checks.push(match seen.skew_s {
        None => Check::note("clock", "nobody told the time"),
        Some(skew) if skew.unsigned_abs() < SKEW => Check::ok("clock", "right"),
        Some(skew) => {
            let way = if skew < 0 { "behind" } else { "ahead" };
            let cause = "certificates look invalid, signed requests are refused, and waits end at the wrong time";
            Check::fail("clock", format!("{} {way}", words::span(skew.unsigned_abs())), cause, "timedatectl set-ntp true")
        }
    });
    checks
}

fn reached(host: &HostSeen) -> Check {
    let name = format!("{} ({})", host.host, host.profiles.join(", "));
    let whose = if host.loopback { "start that server" } else { "hotspare outage" };
    let fail = |what: &str| Check::fail("reach", name.clone(), what, whose);
    match host.reach {
        Reach::Answered => match (&host.issuer, host.public) {
            (Some(issuer), Some(false)) => Check::warn(
                "reach",
                format!("{name}: its certificate is by {issuer}"),
                "that is no public authority: a proxy that is trusted here reads all that is sent",
                "hotspare outage",
            ),
            _ => Check::ok("reach", name),
        },
        Reach::Dns => fail("its name is not known"),
        Reach::Refused => fail("nobody listens there"),
        Reach::Unreachable => fail("no route there"),
        Reach::ConnectTimeout => fail("no connection within 3 s"),
        Reach::TlsFailed => fail("TLS breaks on the way"),
        Reach::BadCertificate => fail("its certificate is refused: TLS may be opened on the way"),
        Reach::NoAnswer => fail("connected, and then silence"),
    }
}
