//! Names the APIs that profiles speak. Never knows an address, a credential or a format.

/// Which API a profile speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// Anthropic's own, or a gateway that passes requests on to it unchanged.
    Anthropic,
    /// OpenRouter's endpoint in Anthropic's format.
    OpenRouter,
    /// Another company's, or a local server's, in Anthropic's format.
    Compatible(Preset),
}

/// What is known of an endpoint in Anthropic's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Nothing.
    Plain,
    /// DeepSeek.
    DeepSeek,
    /// Z.ai and Zhipu: the GLM models.
    Zai,
    /// Moonshot: the Kimi models.
    Kimi,
    /// MiniMax.
    MiniMax,
    /// Ollama.
    Ollama,
    /// LM Studio.
    LmStudio,
    /// vLLM.
    Vllm,
    /// llama.cpp's server.
    LlamaCpp,
    /// A LiteLLM gateway.
    LiteLlm,
}

impl Platform {
    /// The word that stands for it in configuration and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenRouter => "openrouter",
            Self::Compatible(_) => "anthropic_compatible",
        }
    }

    /// The word of its preset, where it has a named one.
    pub fn preset_word(self) -> Option<&'static str> {
        match self {
            Self::Compatible(preset) => Preset::NAMED.iter().find(|(_, named)| *named == preset).map(|(word, _)| *word),
            Self::Anthropic | Self::OpenRouter => None,
        }
    }

    /// Whether requests go there as the client made them: bodies, betas and history belong to the same company.
    pub fn is_native(self) -> bool {
        matches!(self, Self::Anthropic)
    }

    /// Whether it counts a request's tokens. Where it does not, the client is told so and counts by itself.
    pub fn counts_tokens(self) -> bool {
        match self {
            Self::Anthropic => true,
            Self::OpenRouter => false,
            Self::Compatible(preset) => matches!(preset, Preset::Plain | Preset::Vllm | Preset::LiteLlm),
        }
    }
}

impl Preset {
    /// Every preset that has a name, with it.
    pub const NAMED: [(&'static str, Self); 9] = [
        ("deepseek", Self::DeepSeek),
        ("zai", Self::Zai),
        ("kimi", Self::Kimi),
        ("minimax", Self::MiniMax),
        ("ollama", Self::Ollama),
        ("lmstudio", Self::LmStudio),
        ("vllm", Self::Vllm),
        ("llamacpp", Self::LlamaCpp),
        ("litellm", Self::LiteLlm),
    ];

    /// Whether it has models of its own only: Claude's names mean nothing there, or silently something else.
    pub fn has_own_models(self) -> bool {
        !matches!(self, Self::Plain | Self::LiteLlm)
    }
}
