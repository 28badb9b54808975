//! Finds out what a request needs of whoever serves it: room, eyes, tools, its own provider. Never counts a token too many on purpose, and
//! never keeps a word.

use bytes::Bytes;
use hotspare_core::{Needs, Platform, Preset};

use crate::splice;

use super::view::{self, Block, Object, View};
use super::{Target, adapt};

/// What the request needs. `elsewhere`: whether another company may be asked, for whom a part of it may be unreadable. None: it is no
/// Messages request, or cannot be read.
pub fn needs(body: &Bytes, elsewhere: bool) -> Option<Needs> {
    let view = View::of(body)?;
    let mut survey = Survey { text: body, opaque: 0, pictures: 0, images: false };
    for message in &view.messages {
        for block in message.blocks() {
            survey.block(block);
        }
    }
    let text = (body.len() as u64).saturating_sub(survey.opaque);
    let tools = view.top("tools").and_then(|tools| splice::items(tools.value)).is_some_and(|tools| !tools.is_empty());
    Some(Needs {
        tokens: Needs::least_tokens(text, survey.pictures),
        images: survey.images,
        tools,
        bound: if elsewhere { bound(body) } else { None },
    })
}

/// Why it can go to no other company: the first that would be asked is as good as any.
fn bound(body: &Bytes) -> Option<&'static str> {
    let anyone = Target { profile: "", company: "", platform: Platform::Compatible(Preset::Plain), model: None, repair: None };
    adapt(body, &anyone, &|_| None).err().map(super::Unfit::words)
}

struct Survey<'a> {
    text: &'a [u8],
    /// Bytes that are no text: pictures, signatures, what is encrypted, and blocks that only their provider knows how to count.
    opaque: u64,
    pictures: u64,
    images: bool,
}

impl Survey<'_> {
    fn block(&mut self, block: &Block<'_>) {
        match &*block.kind {
            "text" | "tool_use" => {}
            "tool_result" => {
                let content = block.fields.get("content").filter(|content| content.get().starts_with('['));
                if let Some(inner) = content.and_then(|content| view::blocks(self.text, content)) {
                    for block in &inner {
                        self.block(block);
                    }
                }
            }
            "image" | "document" => self.picture(block),
            _ => self.opaque += block.at.len() as u64,
        }
    }

    /// A document may be plain text.
    fn picture(&mut self, block: &Block<'_>) {
        let Some(source) = block.fields.get("source").and_then(|source| Object::of(self.text, source)) else { return };
        let kind = source.string("type").unwrap_or_default();
        if matches!(&*kind, "text" | "content") {
            return;
        }
        self.pictures += 1;
        self.images = true;
        self.opaque += source.get("data").map_or(0, |data| data.get().len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(body: &Value) -> Needs {
        needs(&Bytes::from(body.to_string()), true).expect("a request")
    }

    fn said(content: &Value) -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": content}]})
    }

    #[test]
    fn text_counts_by_its_bytes() {
        let empty = of(&said(&json!(""))).tokens;
        assert_eq!(of(&said(&json!("x".repeat(4000)))).tokens, empty + 1000);
        assert_eq!(of(&said(&json!([{"type": "text", "text": "x".repeat(400_000)}]))).tokens / 1000, 100);
    }

    #[test]
    fn a_picture_counts_little_whatever_its_bytes_also_within_a_tool_s_result() {
        let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A".repeat(2_000_000)}});
        let pdf = json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A".repeat(2_000_000)}});
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [image, {"type": "text", "text": "seen"}]});
        for block in [&image, &pdf, &result] {
            let needs = of(&said(&json!([block])));
            assert!(needs.images && needs.tokens < 400, "{needs:?}");
        }
        let text = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A".repeat(40_000)}});
        let needs = of(&said(&json!([text])));
        assert!(!needs.images && needs.tokens > 10_000, "{needs:?}");
    }

    #[test]
    fn thoughts_and_what_others_encrypted_count_nothing() {
        let body = json!({"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "h".repeat(9000), "signature": "A".repeat(9000)},
            {"type": "redacted_thinking", "data": "A".repeat(9000)},
            {"type": "web_search_tool_result", "content": [{"encrypted_content": "A".repeat(9000)}]}
        ]}]});
        assert!(of(&body).tokens < 100);
    }

    #[test]
    fn tools_are_known_by_their_list() {
        assert!(of(&json!({"messages": [], "tools": [{"name": "Bash", "input_schema": {}}]})).tools);
        assert!(!of(&json!({"messages": [], "tools": []})).tools && !of(&json!({"messages": []})).tools);
    }

    #[test]
    fn what_only_its_own_provider_can_read_is_named() {
        let file = said(&json!([{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]));
        assert_eq!(of(&file).bound, Some("the request names a file that another provider keeps"));
        assert_eq!(needs(&Bytes::from(file.to_string()), false).expect("a request").bound, None, "nobody else is asked");
        assert_eq!(of(&said(&json!("hello"))).bound, None);
    }

    #[test]
    fn what_is_no_request_needs_nothing() {
        for body in ["", "[]", "{}", "\u{1f}\u{8b}", r#"{"messages":7}"#] {
            assert_eq!(needs(&Bytes::from(body), true), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn never_more_tokens_than_bytes(text in ".{0,200}", data in "[A-Za-z0-9]{0,200}") {
            let body = said(&json!([{"type": "text", "text": text}, {"type": "image", "source": {"type": "base64", "data": data}}]));
            let length = body.to_string().len() as u64;
            let needs = of(&body);
            prop_assert!(needs.tokens <= length / 4 + 256);
        }
    }
}
