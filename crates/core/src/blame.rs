//! Decides whose an outage is: the user's own machine and network, a provider, or the account. Never looks at the world: what was seen is
//! the argument, and status pages only ever break a tie. What happened to real requests outranks what a page says of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::FailureKind;

/// A clock that is off by more than this breaks certificates and signed requests.
pub const SKEW: u64 = 300;

/// A good answer within so many seconds says more than any page.
pub const FRESH: u64 = 600;

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Nothing is wrong that can be seen.
    Nobody,
    /// This machine, its network or its set-up.
    You,
    /// The provider.
    Provider,
    /// The account: a limit, a bill, a login.
    Account,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing.
    AllWell,
    /// Names cannot be looked up.
    Dns,
    /// Nothing can be reached.
    NoNetwork,
    /// A network wants a login first.
    Portal,
    /// TLS is opened on the way by somebody who is not trusted here.
    Interception,
    /// This machine's clock is off.
    Clock,
    /// The way to this one host is closed on this side.
    Blocked,
    /// A server on this machine does not run.
    LocalServer,
    /// Connections break to everybody.
    FlakyNetwork,
    /// This machine has no file descriptors left for connections.
    Descriptors,
    /// A credential cannot be had here.
    SetUp,
    /// The requests themselves are refused.
    Request,
    /// The provider cannot be reached.
    Unreachable,
    /// It answers with errors, or breaks off.
    Errors,
    /// Its capacity is used up.
    Overloaded,
    /// It does not answer, or not on.
    Silent,
    /// Its certificate is not valid.
    Certificate,
    /// Its logins fail.
    LoginOutage,
    /// Its own status page says so, and nothing here says otherwise.
    PageSays,
    /// A usage window or a rate limit.
    Limit,
    /// Credit or a spend cap.
    Billing,
    /// The login or key is refused.
    Login,
    /// The account may not do this.
    Forbidden,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 23] = [
        Self::AllWell,
        Self::Dns,
        Self::NoNetwork,
        Self::Portal,
        Self::Interception,
        Self::Clock,
        Self::Blocked,
        Self::LocalServer,
        Self::FlakyNetwork,
        Self::Descriptors,
        Self::SetUp,
        Self::Request,
        Self::Unreachable,
        Self::Errors,
        Self::Overloaded,
        Self::Silent,
        Self::Certificate,
        Self::LoginOutage,
        Self::PageSays,
        Self::Limit,
        Self::Billing,
        Self::Login,
        Self::Forbidden,
    ];

    /// Whose it is.
    pub fn party(self) -> Party {
        match self {
            Self::AllWell => Party::Nobody,
            Self::Dns
            | Self::NoNetwork
            | Self::Portal
            | Self::Interception
            | Self::Clock
            | Self::Blocked
            | Self::LocalServer
            | Self::FlakyNetwork
            | Self::Descriptors
            | Self::SetUp
            | Self::Request => Party::You,
            Self::Unreachable | Self::Errors | Self::Overloaded | Self::Silent | Self::Certificate | Self::LoginOutage | Self::PageSays => {
                Party::Provider
            }
            Self::Limit | Self::Billing | Self::Login | Self::Forbidden => Party::Account,
        }
    }
}

/// How far a probe of a host came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It answered over HTTP, whatever it said.
    Answered,
    /// Its name is not known.
    Dns,
    /// Nobody listens there.
    Refused,
    /// There is no way there, or the proxy has none.
    Unreachable,
    /// Nothing came back.
    ConnectTimeout,
    /// The TLS handshake broke.
    TlsFailed,
    /// Its certificate is not valid here.
    BadCertificate,
    /// Connected, and then silence or a break.
    NoAnswer,
}

/// What a probe of one host found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSeen {
    /// Its name or address.
    pub host: String,
    /// The profiles that go there; empty: it is only there to be compared with.
    pub profiles: Vec<String>,
    /// Whether it is this machine.
    pub loopback: bool,
    /// How far it was reached.
    pub reach: Reach,
    /// The HTTP status of its answer.
    pub status: Option<u16>,
    /// Who issued its certificate.
    pub issuer: Option<String>,
    /// Whether that is a public authority.
    pub public: Option<bool>,
}

/// What a plain request found that no login page may answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Portal {
    /// Nothing could be found out.
    #[default]
    Unknown,
    /// Nobody is in the way.
    Clear,
    /// Somebody else answered.
    Found,
}

/// One class of failure at one profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureSeen {
    /// The class.
    pub class: FailureKind,
    /// How often in the last minutes.
    pub count: u32,
    /// Seconds since the last one.
    pub ago_s: u64,
}

/// What real requests met at one profile in the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Its name.
    pub profile: String,
    /// Seconds since its last good answer.
    pub good_ago_s: Option<u64>,
    /// Its failures, the last one first.
    pub failures: Vec<FailureSeen>,
    /// Why it is not asked at all now.
    pub blocked: Option<FailureKind>,
}

impl Traffic {
    /// What it fails with now: why it is blocked, else its last failure when nothing good has come since.
    pub fn failing(&self) -> Option<FailureKind> {
        let last = self.failures.iter().min_by_key(|failure| failure.ago_s);
        let now = last.filter(|failure| self.good_ago_s.is_none_or(|good| failure.ago_s < good)).map(|failure| failure.class);
        self.blocked.or(now)
    }

    fn is_fresh(&self) -> bool {
        self.good_ago_s.is_some_and(|ago| ago <= FRESH)
    }
}

/// How a status page says something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Well, or not on the page.
    #[default]
    Operational,
    /// Announced work.
    Maintenance,
    /// Slower or with some errors.
    Degraded,
    /// Out for some.
    Partial,
    /// Out.
    Major,
}

/// What a provider's status page says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// It could not be had.
    Unreachable,
    /// What came is no such page.
    Wrong,
    /// It says so.
    Says {
        /// Of the API.
        api: Level,
        /// Of logins.
        login: Level,
    },
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observations {
    /// The hosts that were probed: those of the profiles in the chain's order, then those to compare with.
    pub hosts: Vec<HostSeen>,
    /// Whether a network wants a login first.
    pub portal: Portal,
    /// How many seconds this machine's clock is ahead of the servers'; negative: behind.
    pub skew_s: Option<i64>,
    /// What real requests met, in the chain's order.
    pub traffic: Vec<Traffic>,
    /// What the primary's provider says of itself; none: it has no page that is known.
    pub page: Option<Page>,
}

/// Whose it is, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong.
    pub cause: Cause,
    /// Whether what was seen leaves no other reading.
    pub sure: bool,
}

impl Verdict {
    /// Whose it is.
    pub fn party(self) -> Party {
        self.cause.party()
    }
}

fn surely(cause: Cause) -> Verdict {
    Verdict { cause, sure: true }
}

fn likely(cause: Cause) -> Verdict {
    Verdict { cause, sure: false }
}

/// Whose an outage is. From what is nearest outward: this machine, its network, the way to the provider, what real requests met, what
/// the page says.
pub fn verdict(seen: &Observations) -> Verdict {
    near(seen)
        .or_else(|| everybody(seen))
        .or_else(|| the_way(seen))
        .or_else(|| requests(seen))
        .or_else(|| page(seen))
        .unwrap_or(surely(Cause::AllWell))
}

/// A login page in the way, or a clock that is off.
fn near(seen: &Observations) -> Option<Verdict> {
    if seen.portal == Portal::Found {
        return Some(surely(Cause::Portal));
    }
    let off = seen.skew_s.is_some_and(|skew| skew.unsigned_abs() >= SKEW);
    let certificates = seen.hosts.iter().any(|host| matches!(host.reach, Reach::BadCertificate | Reach::TlsFailed));
    // A signed request is refused as forbidden, a short-lived token as unauthorized.
    let refused = matches!(failing(seen), Some(FailureKind::Forbidden | FailureKind::Unauthorized | FailureKind::TlsCertificate));
    if off && (certificates || refused) { Some(surely(Cause::Clock)) } else { None }
}

/// Nobody at all can be reached, or only through somebody who opens TLS.
fn everybody(seen: &Observations) -> Option<Verdict> {
    let far: Vec<&HostSeen> = seen.hosts.iter().filter(|host| !host.loopback).collect();
    if far.is_empty() || far.iter().any(|host| host.reach == Reach::Answered) {
        return None;
    }
    let all = |reaches: &[Reach]| far.iter().all(|host| reaches.contains(&host.reach));
    // One host alone could also be that host's own fault.
    let sure = far.len() > 1;
    let cause = if all(&[Reach::Dns]) {
        Cause::Dns
    } else if all(&[Reach::TlsFailed, Reach::BadCertificate]) {
        Cause::Interception
    } else if all(&[Reach::NoAnswer]) && !sure {
        return None;
    } else {
        Cause::NoNetwork
    };
    // Where real requests got through a moment ago, one silent host says little about the network.
    if !sure && primary(seen).is_some_and(Traffic::is_fresh) {
        return None;
    }
    Some(Verdict { cause, sure })
}

/// Others can be reached, but not the host that is asked first.
fn the_way(seen: &Observations) -> Option<Verdict> {
    let first = seen.hosts.iter().find(|host| !host.profiles.is_empty())?;
    if first.loopback {
        return if first.reach == Reach::Answered { None } else { Some(surely(Cause::LocalServer)) };
    }
    let page_is_bad = matches!(seen.page, Some(Page::Says { api: Level::Partial | Level::Major, .. }));
    // It worked a moment ago: what closes a way on this side is seldom new.
    let worked = primary(seen).is_some_and(Traffic::is_fresh);
    match first.reach {
        Reach::Answered => first.status.filter(|status| *status >= 500).and_then(|_| {
            // Behind a login wall `/` says little, but a 5xx is nobody's refusal.
            Some(likely(Cause::Errors)).filter(|_| !worked || failing(seen).is_some_and(is_providers))
        }),
        Reach::BadCertificate if first.public == Some(true) => Some(surely(Cause::Certificate)),
        Reach::BadCertificate => Some(Verdict { cause: Cause::Interception, sure: first.public == Some(false) }),
        Reach::NoAnswer => Some(likely(Cause::Silent)),
        Reach::Dns | Reach::Refused | Reach::Unreachable | Reach::ConnectTimeout | Reach::TlsFailed if page_is_bad || worked => {
            Some(Verdict { cause: Cause::Unreachable, sure: page_is_bad })
        }
        Reach::Dns | Reach::Refused | Reach::Unreachable | Reach::ConnectTimeout | Reach::TlsFailed => Some(likely(Cause::Blocked)),
    }
}

/// What real requests met at the profile that is asked first.
fn requests(seen: &Observations) -> Option<Verdict> {
    let class = failing(seen)?;
    let login = matches!(seen.page, Some(Page::Says { login: Level::Partial | Level::Major, .. }));
    let elsewhere = seen.traffic.iter().skip(1).filter(|traffic| traffic.failing().is_some_and(|other| alike(class, other))).count();
    // Several that have little in common but this machine's network.
    let everywhere = elsewhere > 0 && elsewhere + 1 == seen.traffic.iter().filter(|traffic| !is_silent(traffic)).count() && hosts(seen) > 1;
    match class {
        FailureKind::QuotaExhausted | FailureKind::Throttled => Some(surely(Cause::Limit)),
        FailureKind::BareRateLimit if page_is_down(seen) => Some(likely(Cause::Overloaded)),
        FailureKind::BareRateLimit => Some(likely(Cause::Limit)),
        FailureKind::SpendCap | FailureKind::Billing => Some(surely(Cause::Billing)),
        FailureKind::Unauthorized if login || page_is_down(seen) => Some(Verdict { cause: Cause::LoginOutage, sure: login }),
        FailureKind::Unauthorized => Some(surely(Cause::Login)),
        FailureKind::Forbidden if login => Some(likely(Cause::LoginOutage)),
        FailureKind::Forbidden => Some(surely(Cause::Forbidden)),
        FailureKind::OutOfDescriptors => Some(surely(Cause::Descriptors)),
        FailureKind::NoCredential => Some(surely(Cause::SetUp)),
        FailureKind::ModelNotFound => Some(surely(Cause::Request)),
        FailureKind::Misconfigured => Some(likely(Cause::SetUp)),
        FailureKind::BadRequest
        | FailureKind::TooLarge
        | FailureKind::Refused
        | FailureKind::ContentPolicy
        | FailureKind::ResourceNotFound
        | FailureKind::ProviderBound
        | FailureKind::Redirect
        | FailureKind::CannotReplay => Some(likely(Cause::Request)),
        FailureKind::Overloaded => Some(surely(Cause::Overloaded)),
        FailureKind::ServerError => Some(surely(Cause::Errors)),
        FailureKind::HeadTimeout | FailureKind::Stalled if everywhere => Some(likely(Cause::FlakyNetwork)),
        FailureKind::HeadTimeout | FailureKind::Stalled => Some(likely(Cause::Silent)),
        FailureKind::BadGateway
        | FailureKind::ClosedBeforeHead
        | FailureKind::StreamDied
        | FailureKind::StaleConnection
        | FailureKind::BadHead
        | FailureKind::WrongContent
        | FailureKind::Malformed
            if everywhere =>
        {
            Some(likely(Cause::FlakyNetwork))
        }
        FailureKind::BadGateway => Some(surely(Cause::Errors)),
        FailureKind::ClosedBeforeHead
        | FailureKind::StreamDied
        | FailureKind::StaleConnection
        | FailureKind::BadHead
        | FailureKind::WrongContent
        | FailureKind::Malformed => Some(likely(Cause::Errors)),
        // The way is open again: the probes came after it.
        FailureKind::ConnectRefused
        | FailureKind::Unreachable
        | FailureKind::Dns
        | FailureKind::ConnectTimeout
        | FailureKind::TlsHandshake
        | FailureKind::TlsCertificate => None,
    }
}

/// Nothing here says that anything is wrong. A page may, where no good answer contradicts it.
fn page(seen: &Observations) -> Option<Verdict> {
    let Some(Page::Says { api, login }) = seen.page else { return None };
    if primary(seen).is_some_and(Traffic::is_fresh) {
        return None;
    }
    if api >= Level::Partial {
        Some(likely(Cause::PageSays))
    } else if login >= Level::Partial {
        Some(likely(Cause::LoginOutage))
    } else {
        None
    }
}

fn primary(seen: &Observations) -> Option<&Traffic> {
    seen.traffic.first()
}

/// What the profile that is asked first fails with now.
fn failing(seen: &Observations) -> Option<FailureKind> {
    primary(seen).and_then(Traffic::failing)
}

fn page_is_down(seen: &Observations) -> bool {
    matches!(seen.page, Some(Page::Says { api: Level::Partial | Level::Major, .. }))
}

fn is_silent(traffic: &Traffic) -> bool {
    traffic.failures.is_empty() && traffic.good_ago_s.is_none() && traffic.blocked.is_none()
}

/// Different hosts that profiles go to.
fn hosts(seen: &Observations) -> usize {
    seen.hosts.iter().filter(|host| !host.profiles.is_empty() && !host.loopback).count()
}

/// Breaks of connections are alike, whatever they look like.
fn alike(one: FailureKind, other: FailureKind) -> bool {
    let breaks = |kind: FailureKind| {
        matches!(
            kind,
            FailureKind::StreamDied
                | FailureKind::Stalled
                | FailureKind::ClosedBeforeHead
                | FailureKind::HeadTimeout
                | FailureKind::StaleConnection
                | FailureKind::ConnectTimeout
                | FailureKind::TlsHandshake
        )
    };
    one == other || breaks(one) && breaks(other)
}

fn is_providers(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ServerError
            | FailureKind::BadGateway
            | FailureKind::Overloaded
            | FailureKind::HeadTimeout
            | FailureKind::Stalled
            | FailureKind::StreamDied
            | FailureKind::WrongContent
    )
}
