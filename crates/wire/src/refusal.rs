//! Reads what a refusal means: names before words, words before the status.
//!
//! The status alone gives the wrong action in 166 of 414 collected refusals, and wordings are an open set. So everything that a body says is
//! collected whatever its shape (`walk`), compared with data (`table`), and only what is left over is judged by its status.

mod table;
pub(crate) mod waits;
mod walk;

use std::time::{Duration, SystemTime};

use hotspare_core::policy::SHORT_THROTTLE;
use hotspare_core::{Endpoint, Failure, FailureKind, Stage};
use http::HeaderMap;

use self::walk::{Evidence, normalised};
use crate::limits;
use crate::repair::Repair;

/// Where one answer differs from another for the classifier.
pub(crate) struct Answer<'a> {
    pub(crate) endpoint: Endpoint,
    /// The status it came with, or the one that it stands for.
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// Its body, unpacked; it may be cut short.
    pub(crate) body: &'a [u8],
    pub(crate) now: SystemTime,
}

/// Shortest wait that is believed of a cause which a person has to mend: relays add `retry-after: 1` to whatever they refuse.
const MIN_BENCH: Duration = Duration::from_secs(60);

/// How long a profile is left alone for a wording that may be about one prompt only.
const AMBIGUOUS_WAIT: Duration = Duration::from_secs(300);

/// How long a profile is left alone for what a 5xx says about accounts or settings: a relay's pool of accounts fills again.
const SERVER_SIDE_WAIT: Duration = Duration::from_secs(300);

/// What decides between several names: the first kind of this list that one of them means.
const RANKS: [FailureKind; 16] = [
    FailureKind::TooLarge,
    FailureKind::ContentPolicy,
    FailureKind::QuotaExhausted,
    FailureKind::SpendCap,
    FailureKind::Forbidden,
    FailureKind::Billing,
    FailureKind::Misconfigured,
    FailureKind::ModelNotFound,
    FailureKind::ResourceNotFound,
    FailureKind::Overloaded,
    FailureKind::ProviderBound,
    FailureKind::ServerError,
    FailureKind::BadRequest,
    FailureKind::Throttled,
    FailureKind::BadGateway,
    FailureKind::Unauthorized,
];

/// What told the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Header,
    Name,
    Words,
    Status,
}

/// A kind, and how it is known.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    kind: FailureKind,
    by: By,
    mends: bool,
}

impl Meaning {
    fn new(kind: FailureKind, by: By) -> Self {
        Self { kind, by, mends: false }
    }
}

/// A refusal as it was read.
pub(crate) struct Refusal<'a> {
    answer: Answer<'a>,
    evidence: Evidence,
    /// The words in lower case, without addresses.
    words: Vec<String>,
    page: bool,
}

impl<'a> Refusal<'a> {
    /// Reads an answer.
    pub(crate) fn read(mut answer: Answer<'a>) -> Self {
        let page = is_page(answer.headers, answer.body);
        let mut evidence = if page { Evidence::default() } else { Evidence::of_body(answer.body) };
        // Bedrock's only code; what stands behind the colon is an address.
        if let Some(name) = limits::text(answer.headers, "x-amzn-errortype").filter(|_| !page) {
            evidence.add_name("errortype", name.split(':').next().unwrap_or_default());
        }
        let words = evidence.words.iter().map(|words| plain(words)).collect();
        answer.now = limits::clock_of(answer.headers, answer.now);
        Self { answer, evidence, words, page }
    }

    /// The type of the error as it was written; empty if there is none.
    pub(crate) fn type_name(&self) -> &str {
        &self.evidence.kind
    }

    /// The status that the body names; `None` if it names none that is an error's.
    pub(crate) fn status_named(&self) -> Option<u16> {
        const FIELDS: [&str; 6] = ["code", "status", "statuscode", "httpcode", "httpstatus", "errorcode"];
        let numbers = self.evidence.names.iter().filter(|(field, _)| FIELDS.contains(&&**field));
        let number = numbers.filter_map(|(_, value)| value.parse().ok()).find(|number| (400..600).contains(number));
        number.or_else(|| self.status_of_type())
    }

    fn status_of_type(&self) -> Option<u16> {
        const FIELDS: [&str; 4] = ["type", "errortype", "code", "status"];
        let names = self.evidence.names.iter().filter(|(field, _)| FIELDS.contains(&&**field));
        names.filter_map(|(_, name)| status_of(name)).next_back()
    }

    /// Takes another status for the answer's own.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.answer.status = status;
        self
    }

    /// The failure that the refusal is. `stage` is [`Stage::Head`] for an answer with such a status.
    pub(crate) fn failure(&self, stage: Stage) -> Failure {
        let meaning = self.meaning();
        let (kind, wait) = self.with_wait(meaning);
        let mut failure = Failure::new(kind, stage, self.detail(kind)).with_status(self.answer.status).with_retry_after(wait);
        failure.family_only = self.is_of_family(kind);
        failure.no_retry = limits::forbids_retry(self.answer.headers);
        failure.client_mends = meaning.mends || self.says(&LOGIN_MENDED) && kind == FailureKind::Unauthorized || self.says(&SIZE_MENDED);
        failure
    }

    /// The kind by names and words alone; `None` if neither is known.
    pub(crate) fn kind_told(&self) -> Option<FailureKind> {
        self.by_body().map(|meaning| meaning.kind)
    }

    fn meaning(&self) -> Meaning {
        if let Some(kind) = self.by_header() {
            return Meaning { mends: kind == FailureKind::QuotaExhausted, ..Meaning::new(kind, By::Header) };
        }
        let told = if self.is_silent() { None } else { self.by_body().filter(|meaning| self.is_credible(*meaning)) };
        told.unwrap_or_else(|| self.by_status())
    }

    /// What the headers say whatever the body does.
    fn by_header(&self) -> Option<FailureKind> {
        let headers = self.answer.headers;
        if (300..400).contains(&self.answer.status) {
            return Some(FailureKind::Redirect);
        }
        if headers.contains_key("cf-mitigated") || headers.contains_key("x-vercel-mitigated") {
            return Some(FailureKind::BadGateway);
        }
        if self.answer.status != 429 {
            return None;
        }
        if limits::reading(headers, self.answer.now).is_some_and(|told| told.rejected) {
            return Some(FailureKind::QuotaExhausted);
        }
        limits::forbids_retry(headers).then_some(FailureKind::SpendCap)
    }

    /// Whether the provider's own API does not speak here: a page, nothing, or text where a strict verdict would follow.
    fn is_silent(&self) -> bool {
        let nothing = self.words.is_empty() && self.evidence.names.is_empty();
        let loose_text = !self.evidence.structured && matches!(self.answer.status, 401 | 403 | 404 | 405 | 500..);
        self.page || nothing || loose_text && self.evidence.names.is_empty()
    }

    fn by_body(&self) -> Option<Meaning> {
        let request_status = matches!(self.answer.status, 400 | 413 | 422);
        let mended = table::MENDED.iter().find(|(_, wordings)| self.says(wordings));
        if let Some((kind, _)) = mended.filter(|_| request_status && !self.says(table::NOT_MENDED)) {
            return Some(Meaning { mends: true, ..Meaning::new(*kind, By::Words) });
        }
        if request_status && self.evidence.words.iter().any(|words| Repair::of_message(words).is_some()) {
            return Some(Meaning::new(FailureKind::ProviderBound, By::Words));
        }
        if let Some(kind) = self.by_name() {
            let resets = kind == FailureKind::Billing && self.says(&RESETS);
            let too_large = kind == FailureKind::TooLarge && self.evidence.has_name("requesttoolarge");
            let kind = if resets { FailureKind::QuotaExhausted } else { kind };
            return Some(Meaning { mends: too_large, ..Meaning::new(kind, By::Name) });
        }
        if let Some((kind, _)) = table::WORDS.iter().find(|(_, wordings)| self.says(wordings)) {
            return Some(Meaning::new(*kind, By::Words));
        }
        let names_field = request_status && self.evidence.words.iter().any(|words| begins_with_field(words));
        names_field.then(|| Meaning::new(FailureKind::BadRequest, By::Words))
    }

    fn by_name(&self) -> Option<FailureKind> {
        let names = self.evidence.names.iter().flat_map(|(field, name)| [of_name(name), of_number(field, name)]).flatten();
        let in_words = self.evidence.words.iter().flat_map(|words| {
            let tokens = words.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|token| is_name(token));
            tokens.filter_map(|token| of_name(&normalised(token))).chain(number_in(words))
        });
        let kinds: Vec<FailureKind> = names.chain(in_words).collect();
        // DashScope names its throttle beside a code that OpenAI uses for money (openclaw/openclaw#148275).
        if self.evidence.names.iter().any(|(_, name)| name.starts_with("throttling") && of_name(name).is_some()) {
            return Some(FailureKind::Throttled);
        }
        if self.names_long_quota() {
            return Some(FailureKind::QuotaExhausted);
        }
        RANKS.into_iter().find(|kind| kinds.contains(kind))
    }

    /// Whether a quota is named that is counted in days or longer.
    fn names_long_quota(&self) -> bool {
        let mut ids = self.evidence.names.iter().filter(|(field, _)| &**field == "quotaid");
        ids.any(|(_, id)| table::LONG_QUOTAS.iter().any(|part| id.contains(part)))
    }

    /// Whether a meaning can come with this status.
    fn is_credible(&self, meaning: Meaning) -> bool {
        match (meaning.kind, self.answer.status) {
            (FailureKind::BadRequest | FailureKind::ResourceNotFound, 500..) => false,
            (FailureKind::BadRequest, status) => matches!(status, 400 | 413 | 422),
            // Inside a server's own trouble these words are somebody else's.
            (FailureKind::Unauthorized | FailureKind::Forbidden, 500..) => meaning.by == By::Name,
            // What is not supported there is a login, a country or a model.
            (FailureKind::ProviderBound, 401..=404) => meaning.by == By::Name,
            _ => true,
        }
    }

    fn by_status(&self) -> Meaning {
        let kind = self.kind_of_status();
        let told_by_type = matches!(self.answer.status, 400 | 500) && matches!(kind, FailureKind::Refused | FailureKind::ServerError);
        let other = self.status_of_type().filter(|status| told_by_type && is_sharper(*status, self.answer.status));
        let kind = other.map_or(kind, |status| plain_kind_of(status, self.answer.endpoint));
        Meaning::new(kind, By::Status)
    }

    fn kind_of_status(&self) -> FailureKind {
        let Answer { status, endpoint, .. } = self.answer;
        let structured = self.evidence.structured && !self.page;
        // OpenRouter's own words for a failure behind it, which is not the request's fault.
        let relayed = !self.words.is_empty() && self.words.iter().all(|words| words == "provider returned error");
        match status {
            404 | 405 | 501 if endpoint != Endpoint::Messages => FailureKind::ResourceNotFound,
            // A gateway that knows no key has often no words.
            401 if !self.page => FailureKind::Unauthorized,
            401 | 403..=405 if !structured => FailureKind::BadGateway,
            400 if self.page || relayed => FailureKind::BadGateway,
            410 if self.page => FailureKind::BadGateway,
            500 if self.page => FailureKind::BadGateway,
            500 | 505.. if self.says(table::GATEWAY) && status != 529 => FailureKind::BadGateway,
            _ => plain_kind_of(status, endpoint),
        }
    }

    /// The kind once the wait that was told is known, and that wait.
    fn with_wait(&self, meaning: Meaning) -> (FailureKind, Option<Duration>) {
        use FailureKind as Kind;
        let headers = self.answer.headers;
        let now = self.answer.now;
        let by_body = if self.page { None } else { self.wait_in_body() };
        let wait = limits::retry_after(headers, now).or(by_body).or_else(|| limits::bucket_reset(headers, now));
        let is_short = |wait: Duration| wait <= SHORT_THROTTLE;
        match (meaning.kind, wait) {
            (Kind::QuotaExhausted, _) if meaning.by == By::Header => {
                let told = limits::reading(headers, now).and_then(|told| told.resets_in);
                (Kind::QuotaExhausted, told.or(wait))
            }
            // Seconds beside a quota of a day are a guess of the server's.
            (Kind::QuotaExhausted, wait) if self.names_long_quota() => (Kind::QuotaExhausted, wait.filter(|wait| !is_short(*wait))),
            // Groq's day is a rolling one.
            (Kind::QuotaExhausted, Some(wait)) if is_short(wait) => (Kind::Throttled, Some(wait)),
            (Kind::Throttled | Kind::BareRateLimit, Some(wait)) if !is_short(wait) => (Kind::QuotaExhausted, Some(wait)),
            (Kind::BareRateLimit, Some(wait)) => (Kind::Throttled, Some(wait)),
            (Kind::BareRateLimit, None) if self.answer.status != 429 || limits::minute_limit_reached(headers) => (Kind::Throttled, None),
            // Gemini speaks of billing in each of its limits, and tells beside it when the minute ends.
            (Kind::Billing, Some(wait)) if self.answer.status == 429 && meaning.by == By::Words && by_body.is_some_and(is_short) => {
                (Kind::Throttled, Some(wait))
            }
            (Kind::Billing, Some(wait)) if meaning.by == By::Status => {
                (if is_short(wait) { Kind::Throttled } else { Kind::QuotaExhausted }, Some(wait))
            }
            (Kind::Billing, _) if self.says(table::AMBIGUOUS) => (Kind::Billing, Some(AMBIGUOUS_WAIT)),
            (Kind::Billing | Kind::SpendCap | Kind::Misconfigured | Kind::Forbidden | Kind::ModelNotFound, wait) => {
                let wait = wait.filter(|wait| *wait >= MIN_BENCH);
                (meaning.kind, wait.or_else(|| (self.answer.status >= 500).then_some(SERVER_SIDE_WAIT)))
            }
            (kind, wait) => (kind, wait),
        }
    }

    fn wait_in_body(&self) -> Option<Duration> {
        let now = self.answer.now;
        let fields = self.evidence.times.iter().filter_map(|(field, value)| waits::of_field(field, value, now));
        let chinese = self.words.iter().any(|words| words.chars().any(is_han));
        let beijing = chinese || self.evidence.names.iter().any(|(field, name)| of_number(field, name).is_some());
        let words = self.words.iter().filter_map(|words| waits::of_words(words, beijing, now));
        fields.chain(words).max()
    }

    fn is_of_family(&self, kind: FailureKind) -> bool {
        let claim = || limits::reading(self.answer.headers, self.answer.now).is_some_and(|told| told.rejected && told.family_only);
        match kind {
            FailureKind::Throttled => true,
            FailureKind::QuotaExhausted
            | FailureKind::Billing
            | FailureKind::SpendCap
            | FailureKind::Forbidden
            | FailureKind::Misconfigured => claim() || self.says(table::OF_MODEL),
            _ => false,
        }
    }

    fn says(&self, wordings: &[&str]) -> bool {
        self.words.iter().any(|words| wordings.iter().any(|wording| fits(words, wording)))
    }

    /// The status and what it stands for. A provider may put anything into its words, also the credential that it was told: none is shown.
    fn detail(&self, kind: FailureKind) -> String {
        let status = self.answer.status;
        let plain = plain_kind_of(status, self.answer.endpoint);
        match kind {
            FailureKind::QuotaExhausted => format!("{status} usage limit reached"),
            FailureKind::SpendCap => format!("{status} spend limit reached"),
            FailureKind::Throttled | FailureKind::BareRateLimit => format!("{status} rate limited"),
            FailureKind::Billing
            | FailureKind::Forbidden
            | FailureKind::Unauthorized
            | FailureKind::Misconfigured
            | FailureKind::ModelNotFound
            | FailureKind::ContentPolicy
            | FailureKind::Overloaded
                if kind != plain =>
            {
                format!("{status} {}", kind.word().replace('_', " "))
            }
            _ => crate::failure::described(status, self.type_name()),
        }
    }
}

/// Words on a login that the client renews by itself (2.1.330).
const LOGIN_MENDED: [&str; 4] =
    ["oauth token has been revoked", "oauth token has expired", "oauth access token has been revoked", "oauth access token has expired"];

/// Words under any status on which the client compacts (2.1.330).
const SIZE_MENDED: [&str; 2] = ["extra usage is required for long context", "usage credits are required for long context"];

/// Words that make a window of what a name calls money.
const RESETS: [&str; 4] = ["resets at", "resets in", "will reset", "be refreshed"];

/// Whether a status says more than the one that the answer came with.
fn is_sharper(status: u16, than: u16) -> bool {
    match than {
        400 => matches!(status, 401..=404 | 413 | 429 | 529),
        _ => matches!(status, 401..=403 | 429 | 503 | 504 | 529),
    }
}

/// What a status means where nothing else is known.
fn plain_kind_of(status: u16, endpoint: Endpoint) -> FailureKind {
    match status {
        300..=399 => FailureKind::Redirect,
        401 => FailureKind::Unauthorized,
        402 => FailureKind::Billing,
        403 => FailureKind::Forbidden,
        404 | 410 if endpoint == Endpoint::Messages => FailureKind::ModelNotFound,
        404 | 410 => FailureKind::ResourceNotFound,
        407 => FailureKind::Misconfigured,
        408 | 502..=504 | 520..=527 | 530 => FailureKind::BadGateway,
        413 => FailureKind::TooLarge,
        429 => FailureKind::BareRateLimit,
        529 => FailureKind::Overloaded,
        500.. => FailureKind::ServerError,
        _ => FailureKind::Refused,
    }
}

/// The status that a type stands for: Anthropic's, then OpenRouter's, then Google's. `name` is normalised.
pub(crate) fn status_of(name: &str) -> Option<u16> {
    Some(match name {
        "invalidrequesterror" | "contextlengthexceeded" => 400,
        "authenticationerror" | "autherror" | "unauthenticated" => 401,
        "billingerror" | "paymentrequired" => 402,
        "permissionerror" | "permissiondenied" | "forbidden" => 403,
        "notfounderror" => 404,
        "requesttoolarge" => 413,
        "ratelimiterror" | "ratelimitexceeded" | "resourceexhausted" | "toomanyrequests" => 429,
        "providerunavailable" | "unavailable" => 503,
        "timeouterror" | "deadlineexceeded" => 504,
        "overloadederror" | "provideroverloaded" => 529,
        _ => return None,
    })
}

/// The kind that a normalised name stands for.
fn of_name(name: &str) -> Option<FailureKind> {
    table::NAMES.iter().flat_map(|group| group.names).find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Whether a name decides by itself.
pub(crate) fn is_known_name(name: &str) -> bool {
    let name = normalised(name);
    of_name(&name).is_some() || of_number("code", &name).is_some()
}

/// The kind that a number under this field stands for: z.ai's under `code` and `type`, MiniMax's under `status_code`.
fn of_number(field: &str, number: &str) -> Option<FailureKind> {
    let known = match field {
        "code" | "type" | "errorcode" => table::ZHIPU,
        "statuscode" => table::MINIMAX,
        _ => return None,
    };
    known.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
}

/// The same in words: `[1113][…]` is z.ai's, `… (1008)` is MiniMax's.
fn number_in(words: &str) -> Option<FailureKind> {
    let in_brackets = words.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(number, _)| of_number("code", number));
    let at_end = || words.trim_end().strip_suffix(')')?.rsplit_once('(').and_then(|(_, number)| of_number("statuscode", number));
    in_brackets.or_else(at_end)
}

/// Whether a token of a sentence can be a name of the tables: `insufficient_user_quota`, `ContextWindowExceededError`.
fn is_name(token: &str) -> bool {
    token.len() >= 8 && (token.contains('_') || token.get(1..).is_some_and(|rest| rest.contains(char::is_uppercase)))
}

/// Lower case, plain apostrophes, and no addresses: what they are called says nothing.
fn plain(words: &str) -> String {
    let lower = words.to_lowercase().replace(['\u{2019}', '\u{2018}'], "'");
    let mut text = String::with_capacity(lower.len());
    let mut rest = &*lower;
    while let Some(place) = rest.find("http") {
        text.push_str(&rest[..place]);
        rest = &rest[place..];
        let address = rest.starts_with("https://") || rest.starts_with("http://");
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | ')' | '>' | ',');
        let end = if address { rest.find(ends).unwrap_or(rest.len()) } else { 4 };
        text.push_str(if address { "" } else { &rest[..end] });
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

/// Whether the words hold the wording; `*` in it stands for up to [`table::GAP`] bytes.
fn fits(words: &str, wording: &str) -> bool {
    let mut parts = wording.split('*');
    let Some(first) = parts.next() else { return false };
    let rest: Vec<&str> = parts.collect();
    let follows = |mut from: usize| {
        rest.iter().all(|part| {
            let to = words.floor_char_boundary((from + table::GAP + part.len()).min(words.len()));
            words[from..to].find(part).map(|place| from += place + part.len()).is_some()
        })
    };
    words.match_indices(first).any(|(place, part)| follows(place + part.len()))
}

/// Whether words begin with the path of a field: `messages.12: …`, `max_tokens: …`, `Invalid 'temperature': …`.
fn begins_with_field(words: &str) -> bool {
    const TOP: [&str; 14] = [
        "messages",
        "max_tokens",
        "system",
        "tools",
        "tool_choice",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "thinking",
        "stream",
        "output_config",
        "context_management",
    ];
    let words = words.trim_start().trim_start_matches("Invalid ").trim_start_matches(['\'', '`', '"']);
    let Some((path, _)) = words.split_once(':') else { return false };
    let path = path.trim_end_matches(['\'', '`', '"']);
    let top = path.split(['.', '[']).next().unwrap_or_default();
    TOP.contains(&top) && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'[' | b']'))
}

fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let html = limits::text(headers, "content-type").is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
    html && !looks_like_json(body) || body.trim_ascii_start().first() == Some(&b'<')
}

/// Some relays label their JSON as a page.
fn looks_like_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn is_han(letter: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&letter)
}

/// Every wording of a refusal, as it was written.
pub(crate) fn words_of(body: &[u8]) -> String {
    Evidence::of_body(body).words.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_with_a_gap_fits_within_its_bound() {
        assert!(fits("the model `x` does not exist", "model *does not exist"));
        assert!(fits("model model does not exist", "model *does not exist"));
        assert!(!fits("does not exist: model", "model *does not exist"));
        let far = format!("model {}does not exist", "x".repeat(table::GAP + 1));
        assert!(!fits(&far, "model *does not exist"));
        assert!(fits("模型 gpt-5 不存在", "模型*不存在"));
    }

    #[test]
    fn addresses_are_no_words() {
        assert_eq!(plain("See https://x.example/billing, or http: it isn\u{2019}t"), "see , or http: it isn't");
    }

    #[test]
    fn path_of_a_field_is_known_at_the_beginning_only() {
        for words in ["messages.12: x", "max_tokens: 1 > 0", "Invalid 'temperature': x", "tools[0].name: x", "messages: at least one"] {
            assert!(begins_with_field(words), "{words}");
        }
        for words in ["Error: messages", "model: x", "the messages: x", "messages and tools: x"] {
            assert!(!begins_with_field(words), "{words}");
        }
    }
}
