//! Ids of tool calls that Anthropic accepts, made from ids that it does not, and turned back for the company that minted them.
//!
//! Some models need the id that they minted: Kimi K2.5 stops calling tools in 80 % of the turns once `functions.read:0` comes back as
//! anything else (`openclaw/openclaw#62319`), and a Gemini behind `LiteLLM` carries its thought signature in it. A transcript outlives every
//! process of ours, so the original stands in the new id itself where it fits.
//!
//! Form: `toolu_hs_` TTTT D K PAYLOAD. TTTT names the company, D tells repeated ids apart, and K says how PAYLOAD is to be read:
//! `n` the number of `functions.NAME:NUMBER`, where NAME is the call's own; `b` the original in base64; `h` a hash, which cannot be turned back.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use xxhash_rust::xxh3::xxh3_64;

/// Longest id that is taken for valid, in bytes. Anthropic's own have 30; Bedrock documents 64 (`ToolUseBlock.toolUseId`), and the Messages
/// API documents the pattern alone.
pub const MAX_TOOL_ID: usize = 64;

/// How every id made here begins.
const PREFIX: &str = "toolu_hs_";

/// Letters of a company's tag.
const TAG: usize = 4;

/// Repetitions of one id that are told apart by their letter; beyond that a hash is used.
const MAX_REPEATS: usize = 64;

/// The letters of base64 for URLs, which are those that an id may have.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// True if every letter may stand in an id: `^[a-zA-Z0-9_-]+$`.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| LETTERS.contains(&letter))
}

/// True if Anthropic accepts the id.
pub fn is_valid(id: &str) -> bool {
    id.len() <= MAX_TOOL_ID && is_plain(id)
}

/// What names a company in the ids that were made from its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; TAG]);

impl Tag {
    /// Of a company, by the host of its API.
    pub fn of(company: &str) -> Self {
        let hash = xxh3_64(company.as_bytes()).to_le_bytes();
        Self(std::array::from_fn(|place| LETTERS[usize::from(hash[place]) % LETTERS.len()]))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// An id as the client gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The id.
    pub id: String,
    /// False if the original cannot be read from it.
    pub reversible: bool,
}

/// The valid id for one that a company has minted for a call of the tool `name`. `is_taken` knows the ids of the conversation. The same
/// arguments give the same id.
pub fn mint(original: &str, name: &str, tag: Tag, is_taken: impl Fn(&str) -> bool) -> Minted {
    // An id in our own form must not be turned back once too often.
    if is_valid(original) && !original.starts_with(PREFIX) && !is_taken(original) {
        return Minted { id: original.to_owned(), reversible: true };
    }
    let payload = match number_of(original, name) {
        Some(number) => format!("n{number}"),
        None => format!("b{}", BASE64.encode(original)),
    };
    if PREFIX.len() + TAG + 1 + payload.len() <= MAX_TOOL_ID && !original.is_empty() {
        let made = |repeat: &u8| format!("{PREFIX}{}{}{payload}", tag.as_str(), char::from(*repeat));
        if let Some(id) = LETTERS[..MAX_REPEATS].iter().map(made).find(|id| !is_taken(id)) {
            return Minted { id, reversible: true };
        }
    }
    let mut count = 0u64;
    loop {
        let id = format!("{PREFIX}{}Ah{:016x}", tag.as_str(), xxh3_64(format!("{original}\n{count}").as_bytes()));
        if !is_taken(&id) {
            return Minted { id, reversible: false };
        }
        count += 1;
    }
}

/// NUMBER of `functions.NAME:NUMBER`, as Kimi names its calls.
fn number_of<'a>(original: &'a str, name: &str) -> Option<&'a str> {
    let number = original.strip_prefix("functions.")?.strip_prefix(name)?.strip_prefix(':')?;
    (is_plain(name) && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(number)
}

/// The id that the company had minted, for the call of the tool `name`. `None` if the id was not made from one of its own.
pub fn original(id: &str, name: &str, tag: Tag) -> Option<String> {
    let rest = id.strip_prefix(PREFIX)?.strip_prefix(tag.as_str())?;
    let payload = rest.get(1..)?;
    let (kind, payload) = (payload.get(..1)?, payload.get(1..)?);
    match kind {
        "n" if !payload.is_empty() && payload.bytes().all(|digit| digit.is_ascii_digit()) => Some(format!("functions.{name}:{payload}")),
        "b" => String::from_utf8(BASE64.decode(payload).ok()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const FREE: fn(&str) -> bool = |_| false;

    fn kimi() -> Tag {
        Tag::of("api.moonshot.ai")
    }

    #[test]
    fn valid_id_stays_as_it_is() {
        for id in ["toolu_01A-b", "call_0", "a"] {
            assert_eq!(mint(id, "Bash", kimi(), FREE), Minted { id: id.to_owned(), reversible: true });
            assert_eq!(original(id, "Bash", kimi()), None);
        }
    }

    #[test]
    fn kimi_id_comes_back_to_kimi_alone() {
        let name = "mcp__a_server_with_a_long_name__a_tool_with_a_long_name_too";
        let long = format!("functions.{name}:12");
        let minted = mint(&long, name, kimi(), FREE);
        assert!(is_valid(&minted.id) && minted.reversible, "{}", minted.id);
        assert_eq!(original(&minted.id, name, kimi()), Some(long));
        assert_eq!(original(&minted.id, name, Tag::of("api.z.ai")), None);
    }

    #[test]
    fn repeated_id_gets_another_name_with_the_same_original() {
        let mut taken = HashSet::new();
        for _ in 0..200 {
            let minted = mint("call_0", "Bash", kimi(), |id| taken.contains(id));
            assert!(is_valid(&minted.id));
            if minted.reversible && minted.id != "call_0" {
                assert_eq!(original(&minted.id, "Bash", kimi()).as_deref(), Some("call_0"));
            }
            assert!(taken.insert(minted.id));
        }
    }

    #[test]
    fn id_that_does_not_fit_or_is_empty_is_hashed() {
        for id in [String::new(), "x.".repeat(400)] {
            let minted = mint(&id, "Bash", kimi(), FREE);
            assert!(is_valid(&minted.id) && !minted.reversible);
            assert_eq!(original(&minted.id, "Bash", kimi()), None);
        }
    }

    #[test]
    fn id_in_our_own_form_is_not_turned_back_twice() {
        let inner = mint("a.b", "Bash", kimi(), FREE).id;
        let outer = mint(&inner, "Bash", kimi(), FREE);
        assert_ne!(outer.id, inner);
        assert_eq!(original(&outer.id, "Bash", kimi()), Some(inner));
    }

    proptest! {
        #[test]
        fn minted_id_is_valid_and_reads_back(id in ".{0,70}", name in "[a-zA-Z_.]{0,12}", company in ".{0,9}") {
            let minted = mint(&id, &name, Tag::of(&company), FREE);
            prop_assert!(is_valid(&minted.id));
            prop_assert_eq!(&minted, &mint(&id, &name, Tag::of(&company), FREE));
            if minted.reversible && minted.id != id {
                prop_assert_eq!(original(&minted.id, &name, Tag::of(&company)), Some(id));
            }
        }

        #[test]
        fn any_id_is_read_without_a_panic(id in ".{0,70}", tail in ".{0,9}") {
            let _ = original(&id, "Bash", kimi());
            let _ = original(&format!("{PREFIX}{}{tail}", kimi().as_str()), "Bash", kimi());
        }
    }
}
