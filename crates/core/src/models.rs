//! Reads the names that platforms give to Claude's models, and knows what each takes. Never guesses: an unknown name has no facts.

/// A model of Claude's, by family and generation, whatever platform spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaudeModel {
    /// `opus`, `sonnet`, `haiku`, `fable` or `mythos`.
    pub family: &'static str,
    /// 5 of 5.1.
    pub major: u8,
    /// 1 of 5.1; 0 where there is none.
    pub minor: u8,
}

/// The families that have a name of the form `claude-FAMILY-GENERATION`.
const FAMILIES: [&str; 5] = ["opus", "sonnet", "haiku", "fable", "mythos"];

/// Claude Code's suffix on a model's name that wishes for the long context window. No provider knows it.
const LONG_CONTEXT: &str = "[1m]";

/// Which forms of the `thinking` field a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThinkingForms {
    /// `adaptive`.
    pub adaptive: bool,
    /// `enabled`, with a budget.
    pub enabled: bool,
    /// `disabled`. Never sent to a model that always thinks.
    pub disabled: bool,
}

/// The name without the client's own suffix for the long context window; none where it has none.
pub fn without_long_context(model: &str) -> Option<&str> {
    let at = model.len().checked_sub(LONG_CONTEXT.len())?;
    model.is_char_boundary(at).then(|| model.split_at(at)).filter(|(_, end)| end.eq_ignore_ascii_case(LONG_CONTEXT)).map(|(name, _)| name)
}

impl ClaudeModel {
    /// Reads a name as Anthropic, the clouds and OpenRouter spell it: `claude-opus-5-5`, `anthropic/claude-opus-5.5`,
    /// `eu.anthropic.claude-haiku-4-5-20251001-v1:0`, `claude-haiku-4-5@20251001`. None: it is no Claude model, or an older one.
    pub fn of(name: &str) -> Option<Self> {
        let name = without_long_context(name).unwrap_or(name).to_ascii_lowercase();
        let rest = &name[name.find("claude-")? + "claude-".len()..];
        let mut parts = rest.split(['-', '.', '@', ':', '/']);
        let word = parts.next()?;
        let family = *FAMILIES.iter().find(|family| **family == word)?;
        let mut number = || parts.next().filter(|part| part.len() <= 2).and_then(|part| part.parse::<u8>().ok());
        let major = number()?;
        let minor = number().unwrap_or(0);
        Some(Self { family, major, minor })
    }

    /// What OpenRouter calls it; none where it is not known to have it.
    pub fn openrouter_name(self) -> Option<String> {
        const KNOWN: [(&str, u8, u8); 15] = [
            ("haiku", 4, 5),
            ("haiku", 5, 5),
            ("sonnet", 4, 5),
            ("sonnet", 4, 6),
            ("sonnet", 5, 0),
            ("sonnet", 5, 5),
            ("opus", 4, 5),
            ("opus", 4, 6),
            ("opus", 4, 7),
            ("opus", 4, 8),
            ("opus", 5, 0),
            ("opus", 5, 5),
            ("fable", 5, 0),
            ("fable", 5, 1),
            ("fable", 5, 2),
        ];
        let Self { family, major, minor } = self;
        KNOWN.contains(&(family, major, minor)).then(|| match minor {
            0 => format!("anthropic/claude-{family}-{major}"),
            _ => format!("anthropic/claude-{family}-{major}.{minor}"),
        })
    }

    /// Which forms of `thinking` it takes. What is newer than the newest known is taken to be like it.
    pub fn thinking(self) -> ThinkingForms {
        let forms = |adaptive, enabled, disabled| ThinkingForms { adaptive, enabled, disabled };
        match (self.family, self.major, self.minor) {
            (_, ..4, _) | (_, 4, ..=5) => forms(false, true, true),
            (_, 4, 6) => forms(true, true, true),
            (_, 4, _) | ("sonnet" | "opus", 5, ..5) | ("haiku", ..) => forms(true, false, true),
            _ => forms(true, false, false),
        }
    }

    /// Tokens of its context window.
    pub fn context(self) -> u64 {
        if (self.major, self.minor) <= (4, 5) { 200_000 } else { 1_000_000 }
    }

    /// Most tokens of one answer.
    pub fn max_output(self) -> u64 {
        if (self.major, self.minor) <= (4, 5) { 64_000 } else { 128_000 }
    }

    /// Whether it knows messages of the system amid a conversation.
    pub fn knows_system_messages(self) -> bool {
        match (self.family, self.major, self.minor) {
            ("opus", 4, 8..) => true,
            (_, ..5, _) | ("sonnet", 5, ..5) => false,
            _ => true,
        }
    }

    /// Whether it knows `output_config.effort`.
    pub fn has_effort(self) -> bool {
        self.thinking().adaptive || (self.family, self.major, self.minor) == ("opus", 4, 5)
    }
}

/// Whether an answer came from the model that was asked for, as far as the names tell. Dates, platforms' prefixes and tags are no
/// difference; an empty name tells nothing.
pub fn is_served_as_asked(asked: &str, served: &str) -> bool {
    if asked == served {
        return true;
    }
    match (ClaudeModel::of(asked), ClaudeModel::of(served)) {
        (Some(asked), Some(served)) => asked == served,
        (None, None) => {
            let (asked, served) = (bare(asked), bare(served));
            served.is_empty() || served.starts_with(&asked) || asked.starts_with(&served)
        }
        (Some(_), None) => bare(served).is_empty(),
        (None, Some(_)) => false,
    }
}

/// A name in lower case, without a vendor before it and a tag behind it.
fn bare(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.split(':').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Option<(&'static str, u8, u8)> {
        ClaudeModel::of(name).map(|model| (model.family, model.major, model.minor))
    }

    #[test]
    fn names_are_read_in_every_spelling() {
        for name in [
            "claude-haiku-4-5",
            "claude-haiku-4-5-20251001",
            "claude-haiku-4-5@20251001",
            "anthropic/claude-haiku-4.5",
            "anthropic/claude-haiku-4.5:thinking",
            "eu.anthropic.claude-haiku-4-5-20251001-v1:0",
            "Claude-Haiku-4-5[1M]",
        ] {
            assert_eq!(read(name), Some(("haiku", 4, 5)), "{name}");
        }
        assert_eq!(read("claude-opus-5"), Some(("opus", 5, 0)));
        assert_eq!(read("claude-opus-5-20270101"), Some(("opus", 5, 0)));
        assert_eq!(read("anthropic.claude-opus-4-6-v1"), Some(("opus", 4, 6)));
        for name in ["", "glm-5", "claude-3-5-haiku-20241022", "claude-mythos-preview", "claude-", "my-claude", "claude-opus-é[1m]"] {
            assert_eq!(read(name), None, "{name}");
        }
    }

    #[test]
    fn the_wish_for_a_long_context_is_no_part_of_the_name() {
        assert_eq!(without_long_context("claude-opus-5-5[1m]"), Some("claude-opus-5-5"));
        for name in ["claude-opus-5-5", "[1", "", "é[1m"] {
            assert_eq!(without_long_context(name), None);
        }
    }

    #[test]
    fn openrouter_names_are_those_known_and_no_others() {
        let name = |model| ClaudeModel::of(model).and_then(ClaudeModel::openrouter_name);
        assert_eq!(name("claude-opus-5-5[1m]").as_deref(), Some("anthropic/claude-opus-5.5"));
        assert_eq!(name("claude-sonnet-5").as_deref(), Some("anthropic/claude-sonnet-5"));
        assert_eq!(name("claude-haiku-4-5-20251001").as_deref(), Some("anthropic/claude-haiku-4.5"));
        assert_eq!((name("claude-opus-9-9"), name("glm-5")), (None, None));
    }

    #[test]
    fn each_generation_takes_its_forms_of_thinking() {
        let forms = |name| {
            let forms = ClaudeModel::of(name).expect("a Claude model").thinking();
            (forms.adaptive, forms.enabled, forms.disabled)
        };
        assert_eq!(forms("claude-haiku-4-5"), (false, true, true));
        assert_eq!(forms("claude-opus-4-6"), (true, true, true));
        for name in ["claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-opus-5", "claude-haiku-5-5"] {
            assert_eq!(forms(name), (true, false, true), "{name}");
        }
        for name in ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5", "claude-fable-5-1", "claude-mythos-5", "claude-opus-6"] {
            assert_eq!(forms(name), (true, false, false), "{name}");
        }
    }

    #[test]
    fn each_generation_has_its_bounds() {
        let facts = |name| {
            let model = ClaudeModel::of(name).expect("a Claude model");
            (model.max_output(), model.knows_system_messages(), model.has_effort())
        };
        let context = |name| ClaudeModel::of(name).map(ClaudeModel::context);
        assert_eq!((context("claude-sonnet-4-5"), context("claude-sonnet-4-6")), (Some(200_000), Some(1_000_000)));
        assert_eq!(facts("claude-haiku-4-5"), (64_000, false, false));
        assert_eq!(facts("claude-opus-4-5"), (64_000, false, true));
        assert_eq!(facts("claude-sonnet-4-6"), (128_000, false, true));
        assert_eq!(facts("claude-sonnet-5"), (128_000, false, true));
        assert_eq!(facts("claude-opus-4-8"), (128_000, true, true));
        assert_eq!(facts("claude-haiku-5-5"), (128_000, true, true));
    }

    #[test]
    fn another_model_in_the_answer_is_noticed() {
        assert!(is_served_as_asked("anthropic/claude-haiku-4.5", "claude-haiku-4-5-20251001"));
        assert!(is_served_as_asked("glm-5", "GLM-5") && is_served_as_asked("z-ai/glm-5", "glm-5-0815") && is_served_as_asked("glm-5", ""));
        assert!(!is_served_as_asked("claude-opus-5-5", "claude-haiku-5-5"));
        assert!(!is_served_as_asked("claude-opus-5-5", "deepseek-flash"));
        assert!(!is_served_as_asked("deepseek-v4-pro", "deepseek-flash"));
    }
}
