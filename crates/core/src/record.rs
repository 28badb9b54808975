//! The one record of an exchange: what is kept, shown and counted of it. Plain data; never holds a prompt, an answer's text or a
//! credential.
//!
//! Records outlive the program that wrote them. A field that comes later has a serde default, so that older records stay readable; a field
//! that changes its meaning raises [`RECORD_VERSION`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attempt::AttemptKind;
use crate::drill::DrillMark;
use crate::exchange::Outcome;
use crate::facts::{ClientKind, Endpoint};
use crate::failure::{FailureKind, Stage};
use crate::hook::HookEvent;
use crate::models::is_served_as_asked;

/// The version of this shape.
pub const RECORD_VERSION: u32 = 1;

/// Most characters of a client's own session or agent id.
pub const SESSION_ID_CAP: usize = 64;

/// Most characters of a failure's or a decision's words.
pub const WORDS_CAP: usize = 200;

/// How one exchange went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExchangeRecord {
    /// The shape's version.
    pub version: u32,
    /// The exchange's id, as clients see it: `hs_` and sixteen hexadecimal digits.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub id: u64,
    /// When it began, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Where the request went.
    pub endpoint: Endpoint,
    /// Who asked.
    pub client: ClientKind,
    /// The client's own session id, as sent; at most 64 visible ASCII characters.
    pub session: Option<String>,
    /// The client's own agent id, for a sub-agent; at most 64 visible ASCII characters.
    pub agent: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The name of the chain it followed.
    pub chain: String,
    /// The file and line that the chain comes from, where that is known.
    pub rule: Option<String>,
    /// The folder whose rules held, where the client's folder is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Why it could not reach every profile of its chain, in words; `None` if it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status that the client got; none: it got nothing.
    pub status: Option<u16>,
    /// The profile whose answer the client got.
    pub served_by: Option<String>,
    /// Whether that was another profile than the chain's first.
    pub on_spare: bool,
    /// The profile whose refusal was relayed; `None` if the client got an answer, or an error of hotspare's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<String>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body that the client was sent.
    pub response_bytes: u64,
    /// What was changed in the request for the profile that served it, in words.
    pub changed: Vec<String>,
    /// Profiles of the chain that were not asked.
    pub skipped: Vec<SkippedEntry>,
    /// Tokens of context that a change of profile had to read without a prompt cache.
    pub cold_prefix_tokens: Option<u64>,
    /// The estimated cost of all attempts in millionths of a US dollar; none: no price is known.
    pub est_cost_micro_usd: Option<u64>,
    /// A drill had a hand in it; none: all of it was real.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillMark>,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptEntry>,
    /// What the user's hooks said, in order; those that a request waited for.
    #[serde(default)]
    pub rulings: Vec<RulingEntry>,
}

/// The word of a user's hook on one retry or move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulingEntry {
    /// What it was asked before.
    pub event: HookEvent,
    /// Who failed, or would have been asked first.
    pub from: String,
    /// Who was to be asked next.
    pub to: String,
    /// The hook: its program, or where it was posted to.
    pub hook: String,
    /// What it said.
    pub word: HookWord,
    /// The profile that it named, where it named one.
    pub profile: Option<String>,
    /// Why, in its own words; where it said nothing that counts, what was wrong.
    pub reason: Option<String>,
    /// When it was asked, in microseconds since the exchange began.
    pub asked_us: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// What a hook said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HookWord {
    /// Go on.
    Allow,
    /// Not this retry, or not this profile.
    Block,
    /// Another profile.
    Use,
    /// Nothing that counts: it failed, took too long, or named nobody that may be asked.
    Nothing,
}

impl HookWord {
    /// The word that stands for it in records and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Use => "use",
            Self::Nothing => "nothing",
        }
    }
}

/// What a request came to, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception<'a> {
    /// This profile answered, at least in part.
    Answered(&'a str),
    /// This profile refused the request itself; another one would have had the same to read.
    Refused(&'a str),
    /// No profile answered, whatever the client was sent.
    Unanswered,
    /// The client went away first.
    Abandoned,
}

/// A profile that was not asked, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedEntry {
    /// Its name.
    pub profile: String,
    /// Why, in words.
    pub reason: String,
}

/// One try at one profile. Times are microseconds since the exchange began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptEntry {
    /// The profile's name.
    pub profile: String,
    /// The model that it was asked for, where one is named.
    pub model: Option<String>,
    /// Why it was asked.
    pub kind: AttemptKind,
    /// When the attempt began.
    pub started_us: u64,
    /// When the connection stood; for a kept-alive one that is when the attempt began.
    pub connect_us: Option<u64>,
    /// When the answer's head came.
    pub head_us: Option<u64>,
    /// When the first content came.
    pub first_content_us: Option<u64>,
    /// When it ended.
    pub ended_us: Option<u64>,
    /// The answer's HTTP status, or the one that an in-stream error stands for.
    pub status: Option<u16>,
    /// What it failed with; none: it did not fail.
    pub class: Option<FailureKind>,
    /// How far it had come when it failed.
    pub stage: Option<Stage>,
    /// The failure in short words.
    pub detail: Option<String>,
    /// What was done next.
    pub decision: Decision,
    /// Why, in short words.
    pub reason: Option<String>,
    /// Tokens, as the provider counted them.
    pub tokens: Tokens,
    /// Bytes of the request's body that went up.
    pub bytes_up: u64,
    /// Bytes of the answer's body that came down.
    pub bytes_down: u64,
    /// Whether its answer was thrown away although it was paid for.
    pub wasted: bool,
    /// Whether the provider may bill it although no usage was seen.
    pub maybe_billed: bool,
    /// Its estimated cost in millionths of a US dollar; none: nothing was counted, no price is known, or a plan pays for it.
    #[serde(default)]
    pub cost_micro_usd: Option<u64>,
    /// Whether a subscription's login was used, whose plan pays for it.
    #[serde(default)]
    pub on_plan: bool,
}

/// Tokens, as a provider counted them; none: it did not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Input without what the cache held.
    pub input: Option<u64>,
    /// Output.
    pub output: Option<u64>,
    /// Input read from the prompt cache.
    pub cache_read: Option<u64>,
    /// Input written to the prompt cache.
    pub cache_write: Option<u64>,
    /// Of that, what was written for an hour, which costs more than five minutes.
    #[serde(default)]
    pub cache_write_1h: Option<u64>,
}

/// What was done after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The client gets its answer.
    Commit,
    /// The same profile again.
    Retry,
    /// The next profile.
    NextProfile,
    /// Another profile goes on with the broken answer.
    Resume,
    /// The broken answer is cut.
    Cut,
    /// The broken answer is ended so that the client asks for the rest.
    HandBack,
    /// The client gets the refusal as the profile gave it.
    Relay,
    /// No profile is left: the client gets words of ours.
    GiveUp,
    /// Nothing: the attempt was dropped, since the client went away or another attempt was faster.
    Drop,
}

impl Decision {
    /// Every decision.
    pub const ALL: [Self; 9] =
        [Self::Commit, Self::Retry, Self::NextProfile, Self::Resume, Self::Cut, Self::HandBack, Self::Relay, Self::GiveUp, Self::Drop];

    /// The word that stands for it in records, metrics and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Retry => "retry",
            Self::NextProfile => "next_profile",
            Self::Resume => "resume",
            Self::Cut => "cut",
            Self::HandBack => "hand_back",
            Self::Relay => "relay",
            Self::GiveUp => "give_up",
            Self::Drop => "drop",
        }
    }
}

impl ExchangeRecord {
    /// Whether nothing of it was real: a drill's own request, answered by nobody. It is no usage and says nothing of a profile.
    pub fn is_simulated(&self) -> bool {
        self.drill.is_some_and(|drill| !drill.live)
    }

    /// What the request came to. A relayed refusal is one only where it is about the request; a relayed 529 means that no profile answered.
    pub fn reception(&self) -> Reception<'_> {
        match (self.outcome, self.served_by.as_deref()) {
            (Outcome::Relayed, _) => self.relayed(),
            (Outcome::Cancelled, None) => Reception::Abandoned,
            (Outcome::Exhausted, _) | (_, None) => Reception::Unanswered,
            (_, Some(profile)) => Reception::Answered(profile),
        }
    }

    fn relayed(&self) -> Reception<'_> {
        let relayed = self.attempts.iter().find(|attempt| attempt.decision == Decision::Relay);
        match relayed {
            // A refusal that stands within a stream is no failure of the profile.
            Some(attempt) if attempt.class.is_none_or(|class| class.is_refusal() || class == FailureKind::ModelNotFound) => {
                Reception::Refused(&attempt.profile)
            }
            Some(_) | None => Reception::Unanswered,
        }
    }

    /// The profile whose refusal was relayed. Older records do not name it, but the attempt does.
    pub fn refuser(&self) -> Option<&str> {
        let relayed = || self.attempts.iter().find(|attempt| self.outcome == Outcome::Relayed && attempt.decision == Decision::Relay);
        self.refused_by.as_deref().or_else(|| relayed().map(|attempt| attempt.profile.as_str()))
    }

    /// The profiles of the chain that are known to this record, without duplicates: those that were tried, then those that were skipped.
    pub fn profiles(&self) -> Vec<&str> {
        let tried = self.attempts.iter().map(|attempt| attempt.profile.as_str());
        let mut profiles: Vec<&str> = Vec::new();
        for profile in tried.chain(self.skipped.iter().map(|skipped| skipped.profile.as_str())) {
            if !profiles.contains(&profile) {
                profiles.push(profile);
            }
        }
        profiles
    }

    /// Why each profile of the chain did not answer: `work (529 overloaded), backup (401 authentication)`.
    pub fn failures(&self) -> String {
        let why = |profile: &&str| {
            let failed = self.attempts.iter().rev().find(|attempt| attempt.profile == **profile).and_then(|attempt| attempt.detail.clone());
            let skipped = || self.skipped.iter().find(|skipped| skipped.profile == **profile).map(|skipped| skipped.reason.clone());
            format!("{profile} ({})", failed.or_else(skipped).unwrap_or_else(|| "no answer".to_owned()))
        };
        words(&self.profiles().iter().map(why).collect::<Vec<_>>().join(", "))
    }

    /// What this profile was asked for last, where that is another model than the client's own.
    pub fn other_model(&self, profile: &str) -> Option<&str> {
        self.other_model_of(self.attempts.iter().rev().find(|attempt| attempt.profile == profile)?)
    }

    /// What this attempt asked for, where that is another model than the client's own.
    pub fn other_model_of<'a>(&self, attempt: &'a AttemptEntry) -> Option<&'a str> {
        let (asked, sent) = (self.model.as_deref()?, attempt.model.as_deref()?);
        (!is_served_as_asked(asked, sent)).then_some(sent)
    }

    /// Whether another profile than the first was asked.
    pub fn is_failover(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.kind, AttemptKind::Failover | AttemptKind::Resume))
    }
}

/// An exchange's id as clients and people see it.
pub fn id_text(id: u64) -> String {
    format!("hs_{id:016x}")
}

/// The id that [`id_text`] wrote.
pub fn parse_id(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("hs_").filter(|digits| digits.len() == 16 && !digits.contains('+'))?;
    u64::from_str_radix(digits, 16).ok()
}

/// The client's own id, cut to what a record may hold: visible ASCII, at most [`SESSION_ID_CAP`] characters; none when nothing is left.
pub fn client_id(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(SESSION_ID_CAP).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Words cut to what a record may hold: one line without control characters, at most [`WORDS_CAP`] characters.
pub fn words(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(WORDS_CAP).collect()
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::id_text(*id))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_id(&text).ok_or_else(|| D::Error::custom("not an exchange's id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The word of an enum's variant, as serde writes it.
    fn written(value: impl Serialize) -> String {
        serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn words_are_what_serde_writes() {
        for kind in FailureKind::ALL {
            assert_eq!(written(kind), kind.word());
        }
        for decision in Decision::ALL {
            assert_eq!(written(decision), decision.word());
        }
        for outcome in Outcome::ALL {
            assert_eq!(written(outcome), outcome.word());
        }
        for endpoint in [Endpoint::Messages, Endpoint::CountTokens, Endpoint::Models, Endpoint::Other] {
            assert_eq!(written(endpoint), endpoint.word());
        }
        for client in [ClientKind::ClaudeInteractive, ClientKind::ClaudePrint, ClientKind::Program] {
            assert_eq!(written(client), client.word());
        }
        for stage in [Stage::Connect, Stage::Send, Stage::Head, Stage::Held, Stage::Committed] {
            assert_eq!(written(stage), stage.word());
        }
        for kind in AttemptKind::ALL {
            assert_eq!(written(kind), kind.word());
        }
        for fault in crate::drill::Fault::ALL {
            assert_eq!(written(fault), fault.word());
        }
        for word in [HookWord::Allow, HookWord::Block, HookWord::Use, HookWord::Nothing] {
            assert_eq!(written(word), word.word());
        }
    }

    #[test]
    fn a_record_of_today_reads_as_it_was_written() {
        let record = ExchangeRecord {
            version: RECORD_VERSION,
            id: 0x0069_6f5a_c800_0001,
            at_ms: 1_769_000_000_000,
            took_us: 2_030_000,
            endpoint: Endpoint::Messages,
            client: ClientKind::ClaudePrint,
            session: Some("5f0c".to_owned()),
            agent: None,
            model: Some("claude-opus-5-5".to_owned()),
            stream: true,
            chain: "default".to_owned(),
            rule: Some("config.json:14".to_owned()),
            folder: Some("/home/me/src/bank".to_owned()),
            limited: None,
            outcome: Outcome::Served,
            status: Some(200),
            served_by: Some("spare".to_owned()),
            on_spare: true,
            refused_by: None,
            request_bytes: 87_000,
            response_bytes: 4_000,
            changed: vec!["model → other".to_owned()],
            skipped: vec![SkippedEntry { profile: "third".to_owned(), reason: "cooling".to_owned() }],
            cold_prefix_tokens: Some(21_000),
            est_cost_micro_usd: None,
            drill: None,
            attempts: vec![AttemptEntry {
                profile: "work".to_owned(),
                model: None,
                kind: AttemptKind::Initial,
                started_us: 0,
                connect_us: Some(120),
                head_us: Some(400_000),
                first_content_us: None,
                ended_us: Some(410_000),
                status: Some(529),
                class: Some(FailureKind::Overloaded),
                stage: Some(Stage::Head),
                detail: Some("529 overloaded".to_owned()),
                decision: Decision::NextProfile,
                reason: None,
                tokens: Tokens { input: Some(3), ..Tokens::default() },
                bytes_up: 87_000,
                bytes_down: 80,
                wasted: false,
                maybe_billed: false,
                cost_micro_usd: Some(12),
                on_plan: false,
            }],
            rulings: vec![RulingEntry {
                event: HookEvent::PreFailover,
                from: "work".to_owned(),
                to: "spare".to_owned(),
                hook: "may-switch".to_owned(),
                word: HookWord::Allow,
                profile: None,
                reason: None,
                asked_us: 410_000,
                took_us: 4_000,
            }],
        };
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""id":"hs_00696f5ac8000001""#), "{text}");
        assert_eq!(serde_json::from_str::<ExchangeRecord>(&text).unwrap(), record);
        assert!(!record.is_failover());
        let mut older = serde_json::to_value(&record).unwrap();
        older.as_object_mut().unwrap().remove("rulings");
        assert_eq!(serde_json::from_value::<ExchangeRecord>(older).unwrap(), ExchangeRecord { rulings: Vec::new(), ..record });
    }

    proptest! {
        #[test]
        fn ids_are_read_as_they_are_written(id: u64) {
            prop_assert_eq!(parse_id(&id_text(id)), Some(id));
        }

        #[test]
        fn ids_that_nobody_wrote_are_none(text in ".{0,24}") {
            if let Some(id) = parse_id(&text) {
                prop_assert_eq!(id_text(id), text.to_ascii_lowercase());
            }
        }

        #[test]
        fn a_client_s_id_is_short_and_visible(text in ".{0,200}") {
            if let Some(kept) = client_id(&text) {
                prop_assert!(!kept.is_empty() && kept.len() <= SESSION_ID_CAP && kept.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn words_stay_on_one_line(text in "(?s).{0,400}") {
            let kept = words(&text);
            prop_assert!(kept.chars().count() <= WORDS_CAP && !kept.chars().any(char::is_control));
        }
    }
}
