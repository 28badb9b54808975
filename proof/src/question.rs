//! What the simulated model knows: each question has one right answer, and whoever asks for the rest of it gets exactly the rest. Never
//! forgives: a client that ends with other words has lost or doubled some.

use hotspare_testkit::{Event, Received, answers};
use serde_json::{Value, json};

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One text.
    Text,
    /// Signed thinking, then a text.
    ThinkingText,
    /// A text, then a tool call.
    TextTool,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Text, Self::ThinkingText, Self::TextTool];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::ThinkingText => "thinking-text",
            Self::TextTool => "text-tool",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.word() == word)
    }
}

/// One question of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub number: u64,
    pub shape: Shape,
}

/// The tool that answers call.
pub(crate) const TOOL: &str = "Read";

/// What the model says when all has been said before.
pub(crate) const NOTHING_LEFT: &str = "(that was all)";

impl Question {
    /// The client's words, from which the model knows the question again.
    pub(crate) fn prompt(self) -> String {
        format!("[Q{} {}] What is the answer?", self.number, self.shape.word())
    }

    /// The right text.
    pub(crate) fn text(self) -> String {
        format!("Answer {}: first a plain part, dann ein größerer Teil, 三つ目の部分, and here it ends.", self.number)
    }

    /// The right input of the tool call.
    pub(crate) fn input(self) -> String {
        json!({"file": format!("/tmp/answer-{}.txt", self.number), "limit": 20}).to_string()
    }

    /// The question of a message request, what of its answer the request holds, and whether it streams.
    pub(crate) fn asked_by(request: &Received) -> Option<(Self, String, bool)> {
        if request.method != "POST" || request.path() != "/v1/messages" {
            return None;
        }
        let body = request.json();
        let (question, said) = Self::of_request(&body)?;
        Some((question, said, body["stream"] == true))
    }

    /// The question of a request, and how much of its answer the request already holds.
    pub(crate) fn of_request(body: &Value) -> Option<(Self, String)> {
        let messages = body["messages"].as_array()?;
        let asked = messages.iter().rposition(|message| parse(&text_of(message)).is_some())?;
        let question = parse(&text_of(&messages[asked]))?;
        let said = messages[asked..].iter().filter(|message| message["role"] == "assistant").map(text_of).collect();
        Some((question, said))
    }

    /// The rest of the answer as events, for a request that already holds `said`; none when that is no beginning of it.
    pub(crate) fn rest(self, said: &str) -> Option<Vec<Event>> {
        let text = self.text();
        let left = text.strip_prefix(without_farewells(said))?;
        Some(match (self.shape, left) {
            (Shape::Text | Shape::ThinkingText, "") => answers::text(NOTHING_LEFT),
            (Shape::Text, left) => answers::text(left),
            (Shape::ThinkingText, left) => answers::thinking_text("A thought, neither long nor short.", left),
            (Shape::TextTool, "") => answers::tool(TOOL, &self.input()),
            (Shape::TextTool, left) => answers::text_tool(left, TOOL, &self.input()),
        })
    }

    /// The same as a whole message.
    pub(crate) fn rest_whole(self, said: &str) -> Option<String> {
        let text = self.text();
        let left = text.strip_prefix(without_farewells(said))?;
        let mut message: Value = serde_json::from_str(&answers::message_json(if left.is_empty() { NOTHING_LEFT } else { left })).ok()?;
        if self.shape == Shape::TextTool {
            let input: Value = serde_json::from_str(&self.input()).ok()?;
            let call = json!({"type": "tool_use", "id": "toolu_whole", "name": TOOL, "input": input});
            message["content"].as_array_mut()?.push(call);
            message["stop_reason"] = "tool_use".into();
        }
        Some(message.to_string())
    }

    /// Whether this text and these tool calls are the right answer, nothing lost and nothing doubled.
    pub(crate) fn is_answered_by(self, text: &str, calls: &[(String, String)]) -> Result<(), String> {
        if without_farewells(text) != self.text() {
            return Err(format!("the text is {text:?}"));
        }
        let wanted = usize::from(self.shape == Shape::TextTool);
        let same = |input: &str| serde_json::from_str::<Value>(input).ok() == serde_json::from_str::<Value>(&self.input()).ok();
        if calls.len() != wanted || !calls.iter().all(|(name, input)| name == TOOL && same(input)) {
            return Err(format!("the tool calls are {calls:?}"));
        }
        Ok(())
    }
}

/// What was said of the answer itself.
fn without_farewells(said: &str) -> &str {
    said.trim_end_matches(NOTHING_LEFT)
}

/// All text of a message, whatever the form of its content.
fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn parse(text: &str) -> Option<Question> {
    let (number, shape) = text.split_once("[Q")?.1.split_once(']')?.0.split_once(' ')?;
    Some(Question { number: number.parse().ok()?, shape: Shape::of_word(shape)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_an_answer_is_exactly_the_rest() {
        let question = Question { number: 7, shape: Shape::Text };
        let text = question.text();
        let (first, second) = text.split_at(20);
        let body = json!({"messages": [
            {"role": "user", "content": question.prompt()},
            {"role": "assistant", "content": [{"type": "text", "text": first}]},
            {"role": "user", "content": "Go on."},
        ]});
        let (known, said) = Question::of_request(&body).unwrap();
        assert_eq!((known, said.as_str()), (question, first));
        let whole = question.rest_whole(&said).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap()["content"][0]["text"], second);
        assert!(question.rest("something else").is_none());
    }

    #[test]
    fn lost_doubled_and_made_up_words_are_noticed() {
        let question = Question { number: 7, shape: Shape::Text };
        let text = question.text();
        assert!(question.is_answered_by(&text, &[]).is_ok());
        for wrong in [&text[1..], &format!("{text}{text}"), ""] {
            assert!(question.is_answered_by(wrong, &[]).is_err());
        }
        assert!(question.is_answered_by(&text, &[(TOOL.into(), "{}".into())]).is_err());
    }
}
