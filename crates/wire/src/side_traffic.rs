//! Recognizes requests that Claude Code sends beside a conversation: titles, summaries, quota checks.
//!
//! They carry the conversation's session id, so without this a failed title would move the conversation. Measured with 2.1.332: a title
//! request streams, has no tools and asks for a JSON schema (`output_config.format`); the quota check asks for one token.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Largest body that is looked at. A turn with its tools is at least 49 kB (measured, 2.1.330), a title request a few.
pub const MAX_SIDE_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    tools: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    output_config: Option<OutputConfig>,
}

#[derive(Deserialize)]
struct OutputConfig {
    #[serde(default)]
    format: Option<IgnoredAny>,
}

/// Whether a whole body of Claude Code is side traffic. False for what cannot be read.
pub fn is_side_traffic(body: &[u8]) -> bool {
    if body.len() > MAX_SIDE_BYTES {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return false };
    let has_format = body.output_config.is_some_and(|config| config.format.is_some());
    body.tools.is_none_or(|tools| tools.is_empty()) && (has_format || body.max_tokens == Some(1) || !body.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &serde_json::Value, expected: bool) {
        assert_eq!(is_side_traffic(body.to_string().as_bytes()), expected, "{body}");
    }

    #[test]
    fn requests_beside_a_conversation_are_recognized() {
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        let tools = serde_json::json!([{"name": "Bash", "input_schema": {"type": "object"}}]);
        let format = serde_json::json!({"format": {"type": "json_schema", "schema": {}}});
        check(&serde_json::json!({"stream": true, "messages": messages, "output_config": format}), true);
        check(&serde_json::json!({"stream": true, "messages": messages, "output_config": format, "tools": []}), true);
        check(&serde_json::json!({"max_tokens": 1, "stream": true, "messages": messages}), true);
        check(&serde_json::json!({"max_tokens": 1000, "messages": messages}), true);
        check(&serde_json::json!({"max_tokens": 1000, "stream": true, "messages": messages}), false);
        check(&serde_json::json!({"stream": true, "messages": messages, "output_config": format, "tools": tools}), false);
        check(&serde_json::json!({"max_tokens": 64000, "messages": messages, "tools": tools}), false);
        check(&serde_json::json!({"stream": true, "output_config": {"effort": "medium"}}), false);
    }

    #[test]
    fn unreadable_or_large_bodies_are_no_side_traffic() {
        assert!(!is_side_traffic(b"{"));
        let large = serde_json::json!({"max_tokens": 1, "messages": "x".repeat(MAX_SIDE_BYTES)}).to_string();
        assert!(!is_side_traffic(large.as_bytes()));
    }
}
