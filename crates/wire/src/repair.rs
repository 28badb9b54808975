//! Reads out of a provider's refusal what it minds, and hence the one change that makes the request good there; remembers it for the turns
//! that follow. Never changes anything itself, never repairs the same thing twice, and takes no refusal for repairable that is not.

use std::collections::HashMap;
use std::sync::Arc;

use crate::betas;
use crate::failure;

/// Conversations and profiles that are remembered; the pair that was quiet longest is forgotten first.
pub const REMEMBERED: usize = 2048;

/// Most fields and betas that one conversation loses at one profile.
pub const MOST_PAIRS: usize = 16;

/// Longest path to a field that is believed, in bytes.
const LONGEST_PATH: usize = 200;

/// What a profile has refused in a conversation, and so does not get again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// All thinking blocks.
    pub strip_thinking: bool,
    /// The `thinking` field.
    pub no_thinking: bool,
    /// Thinking, which is turned off: the profile demands its own thinking back, and the history has none.
    pub thinking_off: bool,
    /// More tokens of answer than this.
    pub max_tokens: Option<u64>,
    /// Messages of the system as such.
    pub fold_system: bool,
    /// Results of tools whose call is not in the message before.
    pub no_orphans: bool,
    /// All betas.
    pub no_betas: bool,
    /// Betas, by their name without a date.
    pub betas: Vec<Box<str>>,
    /// Fields, as keys from the top with `*` for any item of a list.
    pub fields: Vec<Box<str>>,
}

impl Repair {
    /// What a 400 minds; none: it is no fault that only this provider finds, or not one that can be mended here. `body` is the refusal as
    /// it came, `sent` are the betas that went with the request.
    pub fn of_refusal<'b>(body: &[u8], sent: impl Iterator<Item = &'b str>) -> Option<Self> {
        let message = failure::message_of(body);
        let mut repair = Self::of_message(&message)?;
        if repair.no_betas {
            let fields = sent.flat_map(betas::fields_of);
            repair.fields = fields.map(Into::into).take(MOST_PAIRS).collect();
        }
        Some(repair)
    }

    /// The same from the refusal's words alone.
    pub fn of_message(message: &str) -> Option<Self> {
        const SIGNATURE: [&str; 4] = [
            "invalid `signature` in `thinking` block",
            "thinking.signature",
            "blocks in the latest assistant message cannot be modified",
            "each thinking block must contain thinking",
        ];
        const THINKING_FIELD: [&str; 2] = ["expected `thinking` or `redacted_thinking`", "input tag 'adaptive'"];
        const SYSTEM_ROLE: [&str; 2] = ["unexpected role \"system\"", "role: input should be 'user' or 'assistant'"];
        const THINKING_BACK: [&str; 3] =
            ["in the thinking mode must be passed back", "must be passed back in thinking mode", "reasoning_content is missing in"];
        // Anthropic, MiniMax (`MiniMax-AI/MiniMax-M2#76`), and those that translate to OpenAI's chat, DeepSeek among them.
        const ORPHAN: [&str; 3] =
            ["unexpected `tool_use_id` found in `tool_result`", "tool result's tool id", "must be a response to a prece"];
        let words = message.to_ascii_lowercase();
        let says = |any: &[&str]| any.iter().any(|part| words.contains(part));
        let none = Self::default();
        if says(&THINKING_BACK) {
            Some(Self { thinking_off: true, ..none })
        } else if let Some(limit) = max_tokens(&words) {
            Some(Self { max_tokens: Some(limit), ..none })
        } else if says(&SIGNATURE) {
            Some(Self { strip_thinking: true, ..none })
        } else if says(&THINKING_FIELD) {
            Some(Self { no_thinking: true, ..none })
        } else if says(&SYSTEM_ROLE) {
            Some(Self { fold_system: true, ..none })
        } else if says(&ORPHAN) || words.contains("tool_call_id") && words.contains("not found") {
            Some(Self { no_orphans: true, ..none })
        } else if says(&["invalid beta flag"]) {
            Some(Self { no_betas: true, ..none })
        } else if words.contains("for the `anthropic-beta` header") {
            Self::without_betas(&words)
        } else if let Some(at) = words.find("extra inputs are not permitted") {
            // The path is looked up as it was written.
            Self::without_field(message.get(..at)?)
        } else {
            None
        }
    }

    /// ``Unexpected value(s) `a`, `b` for the `anthropic-beta` header``.
    fn without_betas(words: &str) -> Option<Self> {
        let quoted = words.split('`').skip(1).step_by(2).take_while(|word| *word != "anthropic-beta");
        let named: Vec<&str> = quoted.flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect();
        let betas: Vec<Box<str>> = named.iter().map(|beta| betas::family(beta).into()).take(MOST_PAIRS).collect();
        let fields = named.iter().flat_map(|beta| betas::fields_of(beta)).map(Into::into).take(MOST_PAIRS).collect();
        (!betas.is_empty()).then(|| Self { betas, fields, ..Self::default() })
    }

    /// `tools.0.custom.defer_loading: ` and its like, up to where the fault is named.
    fn without_field(before: &str) -> Option<Self> {
        let path = before.trim_end().strip_suffix(':')?.rsplit(|letter: char| letter.is_whitespace() || letter == '"').next()?;
        let field = field_path(path)?;
        let betas = betas::families_within(&field).map(Into::into).collect();
        Some(Self { betas, fields: vec![field.into()], ..Self::default() })
    }

    /// Adds what another refusal minds; false: it brings nothing new, so that trying again is no use.
    pub fn add(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.strip_thinking |= other.strip_thinking;
        self.no_thinking |= other.no_thinking;
        self.thinking_off |= other.thinking_off;
        self.max_tokens = self.max_tokens.into_iter().chain(other.max_tokens).min();
        self.fold_system |= other.fold_system;
        self.no_orphans |= other.no_orphans;
        self.no_betas |= other.no_betas;
        for (list, more) in [(&mut self.betas, &other.betas), (&mut self.fields, &other.fields)] {
            for one in more {
                if !list.contains(one) && list.len() < MOST_PAIRS {
                    list.push(one.clone());
                }
            }
        }
        *self != before
    }

    /// Whether a beta still goes with the request.
    pub fn keeps_beta(&self, beta: &str) -> bool {
        !self.no_betas && !self.betas.iter().any(|gone| **gone == *betas::family(beta))
    }

    /// Whether the body changes, and not only its header.
    pub fn changes_body(&self) -> bool {
        let form = self.strip_thinking || self.no_thinking || self.thinking_off || self.fold_system || self.no_orphans;
        form || self.max_tokens.is_some() || !self.fields.is_empty()
    }
}

/// Fewest and most tokens of an answer that are believed to be a limit.
const LIMITS: std::ops::RangeInclusive<u64> = 256..=1_000_000;

/// The limit on `max_tokens` that a refusal names, in lower case. `None` if it speaks of the prompt, or names no limit.
///
/// The wordings are those of Anthropic (`claude-code#24451`), DeepSeek, `OpenAI` (`code-gpt-docs#284`), Bedrock (`Roo-Code#248`), GLM,
/// MiniMax, Groq and Cerebras: `max_tokens: 128001 > 64000, which is the maximum allowed`, `valid range of max_tokens is [1, 8192]`,
/// `max_tokens is too large: 6000. this model supports at most 4096 completion tokens`, `exceed the model limit of 4096`,
/// `max_tokens must be less than or equal to 16384`.
fn max_tokens(words: &str) -> Option<u64> {
    const SUBJECTS: [&str; 7] = [
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "maxtokens",
        "maximum tokens you requested",
        "max tokens",
        "max_new_tokens",
    ];
    // What adds the prompt to it is about the window, and the client or another profile mends that.
    const OF_THE_WINDOW: [&str; 6] = ["context l", "context w", "input length", "prompt", "credits", "in the messages"];
    // What stands right before the number.
    const BEFORE: [&str; 19] = [
        "less than or equal to",
        "smaller than or equal to",
        "lower than or equal to",
        "<=",
        "≤",
        "at most",
        "not exceed",
        "exceed the model limit of",
        "exceeds the limit of",
        "exceeds the model limit of",
        "exceeds the maximum of",
        "maximum allowed is",
        "maximum allowed value is",
        "maximum value is",
        "maximum is",
        "up to",
        "cannot be greater than",
        "can't be greater than",
        "is >",
    ];
    let at = SUBJECTS.iter().filter_map(|subject| words.find(subject)).min()?;
    if OF_THE_WINDOW.iter().any(|part| words.contains(part)) {
        return None;
    }
    let rest = &words[at..];
    let named = BEFORE.iter().find_map(|before| rest.find(before).and_then(|found| first_number(&rest[found + before.len()..])));
    named.or_else(|| range_end(rest)).or_else(|| after_greater(rest)).filter(|limit| LIMITS.contains(limit))
}

/// The number that a text begins with, but for spaces, quotes and the name of a value.
fn first_number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(|letter: char| letter.is_whitespace() || matches!(letter, '`' | '"' | '\'' | ':' | '='));
    let end = text.find(|letter: char| !letter.is_ascii_digit() && !matches!(letter, ',' | '_')).unwrap_or(text.len());
    let digits: String = text[..end].chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// 8192 of `[1, 8192]` and of `between 1 and 8192`.
fn range_end(text: &str) -> Option<u64> {
    let within = |open: &str, middle: &str| {
        let rest = &text[text.find(open)? + open.len()..];
        let (low, high) = rest.split_once(middle)?;
        first_number(low)?;
        (low.len() < 12).then(|| first_number(high)).flatten()
    };
    within("[", ",").or_else(|| within("between ", " and "))
}

/// 64000 of `128000 > 64000`.
fn after_greater(text: &str) -> Option<u64> {
    let (before, after) = text.split_once(" > ")?;
    before.ends_with(|letter: char| letter.is_ascii_digit()).then(|| first_number(after)).flatten()
}

/// The path with `*` for numbers; none where it is no path, or names what a request is made of.
fn field_path(path: &str) -> Option<String> {
    const NEEDED: [&str; 15] = [
        "model",
        "messages",
        "max_tokens",
        "system",
        "tools",
        "role",
        "content",
        "type",
        "text",
        "id",
        "name",
        "input",
        "input_schema",
        "tool_use_id",
        "source",
    ];
    let plain = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let last = path.rsplit('.').next()?;
    if path.len() > LONGEST_PATH || !path.split('.').all(plain) || NEEDED.contains(&last) || is_number(last) {
        return None;
    }
    Some(path.split('.').map(|key| if is_number(key) { "*" } else { key }).collect::<Vec<_>>().join("."))
}

fn is_number(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_digit())
}

/// What profiles have refused, by conversation, so that later turns skip the failing try. Bounded by [`REMEMBERED`].
#[derive(Debug, Default)]
pub struct RepairMemory {
    known: HashMap<(u64, Arc<str>), (Repair, u64)>,
    uses: u64,
}

impl RepairMemory {
    /// What this profile does not get in this conversation.
    pub fn of(&self, conversation: u64, profile: &Arc<str>) -> Option<&Repair> {
        self.known.get(&(conversation, profile.clone())).map(|(repair, _)| repair)
    }

    /// Takes note of a repair that helped, or is about to be tried. False: it is known already.
    pub fn note(&mut self, conversation: u64, profile: &Arc<str>, repair: &Repair) -> bool {
        self.uses += 1;
        let key = (conversation, profile.clone());
        if !self.known.contains_key(&key)
            && self.known.len() >= REMEMBERED
            && let Some(quietest) = self.known.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone())
        {
            self.known.remove(&quietest);
        }
        let (known, used) = self.known.entry(key).or_default();
        *used = self.uses;
        known.add(repair)
    }

    /// Whether nothing was ever repaired.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Takes a repair back that did not help.
    pub fn forget(&mut self, conversation: u64, profile: &Arc<str>) {
        self.known.remove(&(conversation, profile.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repair(message: &str) -> Option<Repair> {
        Repair::of_message(message)
    }

    fn fields(message: &str) -> Vec<String> {
        repair(message).map(|repair| repair.fields.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    #[test]
    fn every_word_for_a_bad_signature_strips_thinking() {
        for message in [
            "messages.1.content.0: Invalid `signature` in `thinking` block",
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation",
            "messages.3.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
            "The model returned the following errors: messages.1.content.0.thinking.signature: Field required",
            "messages.1.content.0.thinking.signature.str: Input should be a valid string",
            "messages.1.content.0: each thinking block must contain thinking",
        ] {
            assert_eq!(repair(message), Some(Repair { strip_thinking: true, ..Repair::default() }), "{message}");
        }
    }

    #[test]
    fn other_signatures_and_the_request_s_own_faults_are_not_repaired() {
        for message in [
            "The request signature we calculated does not match the signature you provided.",
            "Invalid signature",
            "messages: at least one message is required",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "messages.0.content.0.text: Extra inputs are not permitted",
            "messages: Extra inputs are not permitted",
            "Extra inputs are not permitted",
            "tools.0: Extra inputs are not permitted",
            "",
        ] {
            assert_eq!(repair(message), None, "{message}");
        }
    }

    #[test]
    fn a_field_goes_with_its_beta_and_a_beta_with_its_fields() {
        let whole = repair("context_management: Extra inputs are not permitted").expect("repairable");
        assert_eq!((&*whole.fields, &*whole.betas), (&["context_management".into()][..], &["context-management".into()][..]));
        assert_eq!(fields("tools.12.custom.defer_loading: Extra inputs are not permitted"), ["tools.*.custom.defer_loading"]);
        assert_eq!(fields("***.***.body: thinking.adaptive.display: Extra inputs are not permitted"), ["thinking.adaptive.display"]);
        let named = repair(
            "Unexpected value(s) `context-management-2025-06-27`, `effort-2025-11-24` for the `anthropic-beta` header. Please consult",
        )
        .expect("repairable");
        assert_eq!(named.betas, ["context-management".into(), "effort".into()]);
        assert_eq!(named.fields, ["context_management".into(), "output_config.effort".into()]);
        assert!(!named.keeps_beta("effort-2026-01-01") && named.keeps_beta("interleaved-thinking-2025-05-14"));
    }

    #[test]
    fn a_flag_without_a_name_takes_all_betas_and_their_fields() {
        let body = br#"{"message":"invalid beta flag"}"#;
        let repair = Repair::of_refusal(body, ["effort-2025-11-24", "claude-code-20250219"].into_iter()).expect("repairable");
        assert!(repair.no_betas && !repair.keeps_beta("claude-code-20250219"));
        assert_eq!(repair.fields, ["output_config.effort".into()]);
    }

    #[test]
    fn roles_and_forms_of_thinking_are_understood() {
        assert!(repair("messages.2.role: Input should be 'user' or 'assistant'").is_some_and(|repair| repair.fold_system));
        assert!(repair(r#"messages: Unexpected role "system"."#).is_some_and(|repair| repair.fold_system));
        let tag = "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected tags";
        assert!(repair(tag).is_some_and(|repair| repair.no_thinking));
        assert!(
            repair("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`")
                .is_some_and(|r| r.no_thinking)
        );
    }

    #[test]
    fn named_limit_of_max_tokens_is_read() {
        for (message, limit) in [
            ("max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for claude-opus-4-5-20251101", 64_000),
            ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
            ("max_tokens is too large: 6000. This model supports at most 4096 completion tokens, whereas you provided 6000.", 4096),
            ("The maximum tokens you requested exceed the model limit of 4096. Try again with a lower value.", 4096),
            ("`max_tokens` must be less than or equal to `16,384`, the maximum value for this model", 16_384),
            ("max_completion_tokens: Input should be less than or equal to 32768", 32_768),
            ("Invalid value for max_tokens: should be between 1 and 98304", 98_304),
        ] {
            assert_eq!(repair(message).and_then(|repair| repair.max_tokens), Some(limit), "{message}");
        }
        for message in [
            "input length and `max_tokens` exceed context limit: 199999 + 8192 > 200000, decrease input length or `max_tokens`",
            "Input token count + max_tokens parameter must be less than the context length of the model being queried.",
            "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford 0.",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "max_tokens: Field required",
            "max_tokens must be greater than thinking.budget_tokens",
            "max_tokens: 0 > 1, no",
        ] {
            assert_eq!(repair(message).and_then(|repair| repair.max_tokens), None, "{message}");
        }
        let mut both = Repair { max_tokens: Some(8192), ..Repair::default() };
        assert!(!both.add(&Repair { max_tokens: Some(9000), ..Repair::default() }), "a higher limit brings nothing");
        assert!(both.add(&Repair { max_tokens: Some(4096), ..Repair::default() }) && both.max_tokens == Some(4096));
    }

    #[test]
    fn demand_for_thinking_turns_it_off() {
        for message in [
            "The `content[].thinking` in the thinking mode must be passed back to the API.",
            "The reasoning_content in the thinking mode must be passed back to the API.",
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
        ] {
            assert_eq!(repair(message), Some(Repair { thinking_off: true, ..Repair::default() }), "{message}");
        }
    }

    #[test]
    fn the_same_repair_is_worth_one_try() {
        let mut memory = RepairMemory::default();
        let glm: Arc<str> = "glm".into();
        let strip = repair("thinking.signature: Field required").expect("repairable");
        assert!(memory.note(1, &glm, &strip) && !memory.note(1, &glm, &strip));
        assert_eq!(memory.of(1, &glm), Some(&strip));
        assert_eq!((memory.of(2, &glm), memory.of(1, &"other".into())), (None, None));
        let more = repair("speed: Extra inputs are not permitted").expect("repairable");
        assert!(memory.note(1, &glm, &more));
        assert!(memory.of(1, &glm).is_some_and(|known| known.strip_thinking && known.fields == ["speed".into()]));
        memory.forget(1, &glm);
        assert_eq!(memory.of(1, &glm), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = RepairMemory::default();
        let strip = Repair { strip_thinking: true, ..Repair::default() };
        for conversation in 0..=REMEMBERED as u64 {
            memory.note(conversation, &"p".into(), &strip);
        }
        assert_eq!(memory.known.len(), REMEMBERED);
        assert_eq!(memory.of(0, &"p".into()), None);
        let mut all = Repair::default();
        for n in 0..100 {
            all.add(&Repair { fields: vec![format!("f{n}").into()], ..Repair::default() });
        }
        assert_eq!(all.fields.len(), MOST_PAIRS);
    }

    proptest! {
        #[test]
        fn any_refusal_is_read_without_a_panic(before in ".{0,60}", after in ".{0,30}") {
            let _ = Repair::of_message(&format!("{before}Extra inputs are not permitted{after}"));
            let _ = Repair::of_message(&format!("{before}for the `anthropic-beta` header{after}"));
            let _ = Repair::of_refusal(before.as_bytes(), std::iter::empty());
        }
    }
}
