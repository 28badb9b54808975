//! Decides whether a profile can take a request at all, by what the request needs and what the profile is known to take. Never leaves one
//! out that might be able: the count of tokens is low on purpose.

use std::fmt;

/// Bytes of a request's text for each token, for the question whether it fits: more than tokenizers need on prose, let alone on code, so
/// that the count is rather too low. What does not fit by it as good as surely does not fit; what barely does is sent, and the provider says so.
/// A count that is too high would make a client give up a part of its conversation for nothing.
pub const BYTES_PER_TOKEN: u64 = 4;

/// Tokens that a picture or a document counts at least, whatever its size in bytes.
pub const TOKENS_PER_PICTURE: u64 = 256;

/// What a request needs of whoever serves it, as far as its body tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// At least so many tokens of context.
    pub tokens: u64,
    /// It shows pictures.
    pub images: bool,
    /// It names tools.
    pub tools: bool,
    /// Why it can go to no other company, if it cannot.
    pub bound: Option<&'static str>,
}

impl Needs {
    /// The tokens of so many bytes of text and so many pictures, rather too few.
    pub fn least_tokens(text_bytes: u64, pictures: u64) -> u64 {
        (text_bytes / BYTES_PER_TOKEN).saturating_add(pictures.saturating_mul(TOKENS_PER_PICTURE))
    }
}

/// What a profile takes of requests, for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Tokens of its context window; none: not known to be smaller than the client believes.
    pub context: Option<u64>,
    /// Whether it sees pictures.
    pub images: bool,
    /// Whether it knows tools.
    pub tools: bool,
    /// Whether it may be asked to think. A request that asks for it goes there without.
    pub thinking: bool,
    /// Whether it belongs to another company than the one that the client speaks to.
    pub foreign: bool,
}

impl Default for Takes {
    /// Everything.
    fn default() -> Self {
        Self { context: None, images: true, tools: true, thinking: true, foreign: false }
    }
}

/// Why a request does not fit a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It is longer than the context window.
    TooLong {
        /// Tokens that it has at least.
        tokens: u64,
        /// Tokens of the window.
        most: u64,
    },
    /// It shows pictures.
    Images,
    /// It names tools.
    Tools,
    /// A part of it only the client's own provider can read; the words say which.
    Bound(&'static str),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { tokens, most } => write!(f, "at least {tokens} tokens do not fit its {most}"),
            Self::Images => f.write_str("it takes no pictures"),
            Self::Tools => f.write_str("it takes no tools"),
            Self::Bound(words) => f.write_str(words),
        }
    }
}

impl Takes {
    /// Whether anything of a request is to be known before it may go there.
    pub fn is_limited(&self) -> bool {
        *self != Self::default()
    }

    /// Whether the body has to be looked at before it goes there. Its length alone tells that a short one fits; what only another company
    /// cannot read is found when the request is changed for it.
    pub fn asks_for_a_look(&self, length: Option<u64>) -> bool {
        let long = self.context.is_some_and(|most| length.is_none_or(|length| length / BYTES_PER_TOKEN > most));
        long || !self.images || !self.tools
    }

    /// Why it cannot take the request; none: it may.
    pub fn misfit(&self, needs: &Needs) -> Option<Misfit> {
        if let Some(words) = needs.bound.filter(|_| self.foreign) {
            return Some(Misfit::Bound(words));
        }
        if needs.images && !self.images {
            return Some(Misfit::Images);
        }
        if needs.tools && !self.tools {
            return Some(Misfit::Tools);
        }
        let most = self.context.filter(|most| needs.tokens > *most)?;
        Some(Misfit::TooLong { tokens: needs.tokens, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_fits_to_the_last_token() {
        let takes = Takes { context: Some(200_000), ..Takes::default() };
        let misfit = |tokens| takes.misfit(&Needs { tokens, ..Needs::default() });
        assert_eq!(misfit(200_000), None);
        assert_eq!(misfit(200_001), Some(Misfit::TooLong { tokens: 200_001, most: 200_000 }));
    }

    #[test]
    fn what_is_not_taken_is_named() {
        let needs = Needs { tokens: 10, images: true, tools: true, bound: Some("a file") };
        assert_eq!(Takes::default().misfit(&needs), None);
        assert_eq!(Takes { images: false, ..Takes::default() }.misfit(&needs), Some(Misfit::Images));
        assert_eq!(Takes { tools: false, ..Takes::default() }.misfit(&needs), Some(Misfit::Tools));
        assert_eq!(Takes { foreign: true, ..Takes::default() }.misfit(&needs), Some(Misfit::Bound("a file")));
        let poor = Takes { context: Some(10), images: false, tools: false, thinking: false, foreign: true };
        assert_eq!(poor.misfit(&Needs { tokens: 10, ..Needs::default() }), None);
    }

    #[test]
    fn a_short_body_is_not_even_looked_at() {
        let takes = Takes { context: Some(1000), foreign: true, ..Takes::default() };
        assert!(!takes.asks_for_a_look(Some(4003)));
        assert!(takes.asks_for_a_look(Some(4004)) && takes.asks_for_a_look(None));
        assert!(!Takes { foreign: true, ..Takes::default() }.asks_for_a_look(None), "it is found when the request is changed");
        assert!(Takes { images: false, ..Takes::default() }.asks_for_a_look(Some(1)));
    }

    proptest! {
        /// What goes unlooked at would have passed.
        #[test]
        fn an_unlooked_body_s_text_always_fits(length in 0_u64..10_000, most in 0_u64..3000) {
            let takes = Takes { context: Some(most), ..Takes::default() };
            let needs = Needs { tokens: Needs::least_tokens(length, 0), ..Needs::default() };
            prop_assert_eq!(takes.asks_for_a_look(Some(length)), takes.misfit(&needs).is_some());
        }
    }
}
