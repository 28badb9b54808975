//! Knows what Claude's models cost by the token, and what an answer has cost. Never guesses: a model that is not in the table has no price.
//!
//! Left out on purpose, because an answer's counts alone do not tell them: fast mode, a bound place of inference, fees of server-side tools
//! and what a reseller takes for buying its credit. A cost is an estimate.

mod table;

pub use table::AS_OF;

use crate::models::ClaudeModel;
use crate::platform::Platform;
use crate::record::Tokens;

/// Nano-dollars in a millionth of a dollar.
const NANO_IN_MICRO: u64 = 1000;

/// Bytes of a request for each token that a budget reserves: fewer than tokenizers need on text and code, so that the reserve is rather
/// too large.
const RESERVED_BYTES_PER_TOKEN: u64 = 3;

/// Tokens of an answer that a budget reserves: more than nine of ten answers of an agent have.
const RESERVED_OUTPUT: u64 = 4_000;

/// Bytes of a request whose length nobody told, in a reserve: a conversation of middle size.
const RESERVED_UNTOLD_LENGTH: u64 = 256 * 1024;

/// What a model costs, in billionths of a US dollar for each token; one dollar for a million tokens is 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Input that no cache has a part in.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input written to the prompt cache for five minutes.
    pub write_5m: u64,
    /// Input written to the prompt cache for an hour.
    pub write_1h: u64,
    /// Input read from the prompt cache.
    pub read: u64,
    /// Everything costs so many times as much when the input has more tokens than this.
    pub long: Option<Long>,
}

/// Long requests cost more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Long {
    /// More input tokens than this, whatever a cache holds of them.
    pub above: u64,
    /// The factor on every price.
    pub times: u64,
}

impl Price {
    /// The price of a model at a platform, by the name that it has there; none where nobody has told it. Resellers of Claude pass the list
    /// price on; providers with models of their own have prices that are not known here, whatever their models are called.
    pub fn of(platform: Platform, model: &str) -> Option<Self> {
        let sells_claude = match platform {
            Platform::Anthropic | Platform::OpenRouter => true,
            Platform::Compatible(preset) => !preset.has_own_models(),
        };
        table::price(ClaudeModel::of(model).filter(|_| sells_claude)?)
    }

    /// What the tokens cost, in millionths of a US dollar, rounded up; none where nothing was counted.
    pub fn cost(&self, tokens: &Tokens) -> Option<u64> {
        if *tokens == Tokens::default() {
            return None;
        }
        let count = |tokens: Option<u64>| tokens.unwrap_or_default();
        let (input, read, written) = (count(tokens.input), count(tokens.cache_read), count(tokens.cache_write));
        let for_an_hour = count(tokens.cache_write_1h).min(written);
        let parts = [
            (input, self.input),
            (count(tokens.output), self.output),
            (written - for_an_hour, self.write_5m),
            (for_an_hour, self.write_1h),
            (read, self.read),
        ];
        let nano = parts.iter().fold(0_u64, |sum, (count, price)| sum.saturating_add(count.saturating_mul(*price)));
        let whole = input.saturating_add(read).saturating_add(written);
        let times = self.long.filter(|long| whole > long.above).map_or(1, |long| long.times);
        Some(nano.saturating_mul(times).div_ceil(NANO_IN_MICRO))
    }

    /// What a budget sets aside for a request of so many bytes before it is sent, in millionths of a US dollar: all of it written to a
    /// cold cache, and a usual answer.
    pub fn reserve(&self, bytes: Option<u64>) -> u64 {
        let written = bytes.unwrap_or(RESERVED_UNTOLD_LENGTH) / RESERVED_BYTES_PER_TOKEN;
        self.cost(&Tokens { output: Some(RESERVED_OUTPUT), cache_write: Some(written), ..Tokens::default() }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Preset;

    fn price(name: &str) -> Option<Price> {
        Price::of(Platform::Anthropic, name)
    }

    #[test]
    fn a_model_has_its_price_in_every_spelling() {
        let opus = price("claude-opus-5-5").expect("a known model");
        assert_eq!((opus.input, opus.output, opus.write_5m, opus.write_1h, opus.read), (4000, 20_000, 5000, 8000, 200));
        assert_eq!(Price::of(Platform::OpenRouter, "anthropic/claude-opus-5.5"), Some(opus));
        assert_eq!(Price::of(Platform::Compatible(Preset::LiteLlm), "claude-opus-5-5[1m]"), Some(opus));
    }

    #[test]
    fn nothing_is_guessed_for_a_model_that_is_not_in_the_table() {
        for unknown in ["glm-5", "claude-opus-99", "claude-fable-5-2", "claude-3-5-sonnet-20241022", ""] {
            assert_eq!(price(unknown), None, "{unknown}");
        }
        // DeepSeek answers to Claude's names with models of its own.
        assert_eq!(Price::of(Platform::Compatible(Preset::DeepSeek), "claude-opus-5-5"), None);
    }

    #[test]
    fn each_kind_of_token_has_its_own_price() {
        let opus = price("claude-opus-5-5").expect("a known model");
        let cost = |tokens: Tokens| opus.cost(&tokens);
        assert_eq!(cost(Tokens { input: Some(1_000_000), ..Tokens::default() }), Some(4_000_000));
        assert_eq!(cost(Tokens { output: Some(1_000_000), ..Tokens::default() }), Some(20_000_000));
        // The example of protocol.md 6: a prefix of 200,000 tokens, warm, cold for five minutes, cold for an hour.
        assert_eq!(cost(Tokens { cache_read: Some(200_000), ..Tokens::default() }), Some(40_000));
        assert_eq!(cost(Tokens { cache_write: Some(200_000), ..Tokens::default() }), Some(1_000_000));
        assert_eq!(cost(Tokens { cache_write: Some(200_000), cache_write_1h: Some(200_000), ..Tokens::default() }), Some(1_600_000));
        // More for an hour than was written at all is no count.
        assert_eq!(cost(Tokens { cache_write: Some(1000), cache_write_1h: Some(9000), ..Tokens::default() }), Some(8000));
        assert_eq!(cost(Tokens::default()), None, "what was not counted has no cost, which is not the same as none");
        assert_eq!(cost(Tokens { input: Some(0), ..Tokens::default() }), Some(0));
        assert_eq!(cost(Tokens { cache_read: Some(1), ..Tokens::default() }), Some(1), "a part of a millionth counts as one");
    }

    #[test]
    fn a_long_request_costs_more_from_one_token_beyond_on() {
        let haiku = price("claude-haiku-5-5").expect("a known model");
        let cost = |read: u64| haiku.cost(&Tokens { cache_read: Some(read), input: Some(0), ..Tokens::default() });
        assert_eq!((cost(100_000), cost(100_100)), (Some(1000), Some(5005)));
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let opus = price("claude-opus-5-5").expect("a known model");
        let most = Some(u64::MAX);
        let tokens = Tokens { input: most, output: most, cache_read: most, cache_write: most, cache_write_1h: most };
        assert_eq!(opus.cost(&tokens), Some(u64::MAX.div_ceil(1000)));
    }

    #[test]
    fn a_reserve_covers_a_cold_prefix_and_an_answer() {
        let opus = price("claude-opus-5-5").expect("a known model");
        assert_eq!(opus.reserve(Some(300_000)), 500_000 + 80_000);
        assert!(opus.reserve(None) > opus.reserve(Some(0)));
    }
}
