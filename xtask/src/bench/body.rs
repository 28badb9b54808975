//! Makes request bodies as Claude Code sends them: model first, a conversation full of escaped code, tools, `stream` last. Never random: every run
//! asks the same. Each request differs in one counter, since the same body twice would be read as the client's own retry.

use serde_json::{Map, Value, json};

/// What the upstream shall do, told by the model's name: the one thing that every proxy must hand on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Play {
    /// A whole short answer at once.
    Plain,
    /// Events at a steady pace, each with the time it was sent.
    Paced,
    /// The beginning of an answer that stays open until the client goes.
    Held,
}

impl Play {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Paced, Self::Held];

    /// The model that asks for it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Plain => "claude-sonnet-4-6-plain",
            Self::Paced => "claude-sonnet-4-6-paced",
            Self::Held => "claude-sonnet-4-6-held",
        }
    }
}

/// Holds the counter's place in the body.
const COUNTER: &str = "turn 00000000";

/// One request, ready for the wire.
#[derive(Debug, Clone)]
pub(super) struct Request {
    bytes: Vec<u8>,
    counter_at: usize,
    count: u32,
}

impl Request {
    /// A streaming request for `host` with a body of exactly `size` bytes.
    pub(super) fn new(host: &str, token: &str, play: Play, size: usize) -> Self {
        let body = body(play, size);
        let mut bytes = head(host, token, body.len()).into_bytes();
        let counter_at = bytes.len() + find(&body, COUNTER.as_bytes()).expect("the body carries the counter") + "turn ".len();
        bytes.extend_from_slice(&body);
        Self { bytes, counter_at, count: 0 }
    }

    /// The next request's bytes: the same conversation, one turn on.
    pub(super) fn next(&mut self) -> &[u8] {
        self.count += 1;
        let digits = format!("{:08}", self.count % 100_000_000);
        self.bytes[self.counter_at..self.counter_at + digits.len()].copy_from_slice(digits.as_bytes());
        &self.bytes
    }
}

fn head(host: &str, token: &str, length: usize) -> String {
    format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\n\
         Accept: application/json\r\n\
         Authorization: Bearer sk-ant-test-bench-client\r\n\
         Content-Type: application/json\r\n\
         User-Agent: claude-cli/2.1.330 (external, cli)\r\n\
         X-Claude-Code-Session-Id: 3f0c2f0e-6d3a-4a53-9d0a-5b1f7c1f0b11\r\n\
         X-Stainless-Arch: x64\r\n\
         X-Stainless-Lang: js\r\n\
         X-Stainless-OS: Linux\r\n\
         X-Stainless-Retry-Count: 0\r\n\
         X-Stainless-Runtime: node\r\n\
         X-Stainless-Timeout: 600\r\n\
         anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14\r\n\
         anthropic-dangerous-direct-browser-access: true\r\n\
         anthropic-version: 2023-06-01\r\n\
         x-app: cli\r\n\
         x-hotspare-token: {token}\r\n\
         Host: {host}\r\n\
         Accept-Encoding: identity\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// A body of exactly `size` bytes, at least about 1.5 KB.
fn body(play: Play, size: usize) -> Vec<u8> {
    let mut messages = Vec::new();
    let empty = render(play, &messages, "");
    assert!(empty.len() <= size, "a body needs at least {} bytes", empty.len());
    let turn_size = render(play, &turn(0), "").len() - empty.len() + 1;
    for number in 0..(size - empty.len()) / turn_size {
        messages.extend(turn(number));
    }
    // What no whole turn fills, plain words fill; turns differ by the digits of their number.
    let mut body = render(play, &messages, "");
    while body.len() > size {
        messages.truncate(messages.len() - 2);
        body = render(play, &messages, "");
    }
    let padding = "x".repeat(size - body.len());
    render(play, &messages, &padding)
}

/// One turn of work: the model reads a file, the tool's result is its text with everything that JSON must escape.
fn turn(number: usize) -> [Value; 2] {
    let code = "fn main() {\n\tlet path = \"src/main.rs\";\n\tprintln!(\"{path}: caf\u{e9} \\\\ {}\", 1 + 1);\n}\n".repeat(24);
    let id = format!("toolu_{number:08}");
    [
        json!({"role": "assistant", "content": [
            {"type": "text", "text": "Let me read the file first.\n\nThen I'll change the \"path\" and run the tests."},
            {"type": "tool_use", "id": id, "name": "Read", "input": {"file_path": format!("/home/user/project/src/module_{number}.rs"), "limit": 200}},
        ]}),
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": code}]}),
    ]
}

fn render(play: Play, turns: &[Value], padding: &str) -> Vec<u8> {
    let mut messages = vec![json!({"role": "user", "content": "Rename the \"path\" variable everywhere.\n"})];
    messages.extend_from_slice(turns);
    messages.push(json!({"role": "user", "content": [{"type": "text", "text": format!("{COUNTER}{padding}"), "cache_control": {"type": "ephemeral"}}]}));
    let tool = |name: &str| {
        json!({"name": name, "description": "Works on a file of the local filesystem.", "input_schema": {
            "type": "object", "properties": {"file_path": {"type": "string"}, "limit": {"type": "number"}}, "required": ["file_path"]}})
    };
    let mut body = Map::new();
    body.insert("model".into(), play.model().into());
    body.insert("messages".into(), messages.into());
    body.insert("system".into(), json!([{"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."}]));
    body.insert("tools".into(), json!([tool("Read"), tool("Edit")]));
    body.insert("metadata".into(), json!({"user_id": "user_bench_account__session_3f0c2f0e"}));
    body.insert("max_tokens".into(), 32_000.into());
    body.insert("stream".into(), true.into());
    serde_json::to_vec(&body).expect("a map of plain values can be written")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_size_begins_with_the_model_and_ends_with_stream() {
        for size in [2 * 1024, 200 * 1024, 5 * 1024 * 1024] {
            let body = body(Play::Paced, size);
            assert_eq!(body.len(), size);
            assert!(body.starts_with(br#"{"model":"claude-sonnet-4-6-paced","messages":"#));
            assert!(body.ends_with(br#""stream":true}"#));
            let value: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(value["messages"].as_array().unwrap().len() > 2, size > 10 * 1024);
        }
    }

    #[test]
    fn no_two_requests_are_the_same() {
        let mut request = Request::new("127.0.0.1:1", "hs-test", Play::Plain, 2048);
        let first = request.next().to_vec();
        let second = request.next().to_vec();
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
    }
}
