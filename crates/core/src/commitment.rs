//! Knows what has reached the client, and hence how a broken answer may end. Never touches bytes.

use crate::facts::ClientKind;
use crate::policy::MidStream;

/// What the client has of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// Nothing has come.
    Open,
    /// Head and first events have come and are held back.
    Held,
    /// Bytes are on the client's wire: no other answer may take its place.
    Committed,
}

/// What kind of content a block holds, as far as endings care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Text, and everything that is neither of the others.
    Text,
    /// `thinking` and `redacted_thinking`.
    Thinking,
    /// `tool_use`: the client runs it.
    ToolCall,
    /// `server_tool_use` and `mcp_tool_use`: the provider runs it, its result is a later block.
    ServerTool,
    /// A result block of a server-side tool.
    ServerToolResult,
}

/// The block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBlock {
    /// Its place in the message's content.
    pub index: u64,
    /// What it holds.
    pub kind: BlockKind,
    /// Whether any of its content has come.
    pub begun: bool,
}

/// What the client has seen of a message, block by block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// `message_start` came.
    pub started: bool,
    /// A text block (or a block of a server-side tool) is closed.
    pub closed_text: bool,
    /// A thinking block is closed.
    pub closed_thinking: bool,
    /// A tool call is closed.
    pub closed_tool_call: bool,
    /// Server-side tool calls whose result block is not closed yet.
    pub unanswered_server_tools: u32,
    /// The open block, if any.
    pub open: Option<OpenBlock>,
    /// `message_delta` with a stop reason came.
    pub stop_reason: bool,
    /// `message_stop` came.
    pub stopped: bool,
}

impl Position {
    /// Whether the answer is whole.
    pub fn is_complete(&self) -> bool {
        self.stop_reason || self.stopped
    }

    /// A block was opened.
    pub fn open(&mut self, index: u64, kind: BlockKind) {
        if kind == BlockKind::ServerTool {
            self.unanswered_server_tools += 1;
        }
        self.open = Some(OpenBlock { index, kind, begun: false });
    }

    /// Content came for the open block.
    pub fn begin(&mut self) {
        if let Some(open) = &mut self.open {
            open.begun = true;
        }
    }

    /// The open block was closed.
    pub fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        match open.kind {
            BlockKind::Text | BlockKind::ServerTool => self.closed_text = true,
            BlockKind::ServerToolResult => {
                self.closed_text = true;
                self.unanswered_server_tools = self.unanswered_server_tools.saturating_sub(1);
            }
            BlockKind::Thinking => self.closed_thinking = true,
            BlockKind::ToolCall => self.closed_tool_call = true,
        }
    }

    fn open_text_begun(&self) -> bool {
        self.open.is_some_and(|open| open.begun && matches!(open.kind, BlockKind::Text | BlockKind::ServerToolResult))
    }
}

/// How an answer ends that the client has begun to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is whole: everything that came is passed on and the body ends properly.
    Complete,
    /// The connection is cut without a proper end; the client sends the request again.
    Cut,
    /// An open text block is closed and the message ends as if its length were used up; Claude Code asks for the rest.
    HandBack,
}

/// Chooses the ending of a broken answer by what the client has seen closed, and by who the client is (measured, 2.1.330).
pub fn ending(position: &Position, client: ClientKind, wish: MidStream) -> Ending {
    if position.is_complete() {
        return Ending::Complete;
    }
    if wish == MidStream::Cut || !client.is_claude() {
        return Ending::Cut;
    }
    // A closed tool call may already be running, and auto mode has no verdict for it: nothing may be made up after it.
    if position.closed_tool_call || position.unanswered_server_tools > 0 {
        return Ending::Cut;
    }
    let text_would_be_lost = position.closed_text || (position.closed_thinking && position.open_text_begun());
    if text_would_be_lost { Ending::HandBack } else { Ending::Cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(build: impl FnOnce(&mut Position)) -> Position {
        let mut position = Position { started: true, ..Position::default() };
        build(&mut position);
        position
    }

    fn block(position: &mut Position, kind: BlockKind) {
        position.open(0, kind);
        position.begin();
        position.close();
    }

    #[track_caller]
    fn check(position: &Position, claude: Ending, program: Ending) {
        assert_eq!(ending(position, ClientKind::ClaudeInteractive, MidStream::Auto), claude);
        assert_eq!(ending(position, ClientKind::ClaudePrint, MidStream::Auto), claude);
        assert_eq!(ending(position, ClientKind::Program, MidStream::Auto), program);
        let cut = if position.is_complete() { Ending::Complete } else { Ending::Cut };
        assert_eq!(ending(position, ClientKind::ClaudeInteractive, MidStream::Cut), cut);
    }

    #[test]
    fn nothing_closed_is_cut_whatever_is_open() {
        check(&position(|_| ()), Ending::Cut, Ending::Cut);
        for kind in [BlockKind::Text, BlockKind::Thinking, BlockKind::ToolCall] {
            check(
                &position(|p| {
                    p.open(0, kind);
                    p.begin();
                }),
                Ending::Cut,
                Ending::Cut,
            );
        }
    }

    #[test]
    fn thinking_alone_is_cut_until_text_has_begun() {
        check(&position(|p| block(p, BlockKind::Thinking)), Ending::Cut, Ending::Cut);
        let mut begun = position(|p| {
            block(p, BlockKind::Thinking);
            p.open(1, BlockKind::Text);
        });
        check(&begun, Ending::Cut, Ending::Cut);
        begun.begin();
        check(&begun, Ending::HandBack, Ending::Cut);
    }

    #[test]
    fn thinking_and_an_open_tool_call_is_cut() {
        let position = position(|p| {
            block(p, BlockKind::Thinking);
            p.open(1, BlockKind::ToolCall);
            p.begin();
        });
        check(&position, Ending::Cut, Ending::Cut);
    }

    #[test]
    fn closed_text_is_handed_back_with_whatever_is_open() {
        for open in [None, Some(BlockKind::Text), Some(BlockKind::ToolCall), Some(BlockKind::Thinking)] {
            let position = position(|p| {
                block(p, BlockKind::Text);
                if let Some(kind) = open {
                    p.open(1, kind);
                    p.begin();
                }
            });
            check(&position, Ending::HandBack, Ending::Cut);
        }
    }

    #[test]
    fn a_closed_tool_call_is_cut() {
        let position = position(|p| {
            block(p, BlockKind::Text);
            block(p, BlockKind::ToolCall);
        });
        check(&position, Ending::Cut, Ending::Cut);
    }

    #[test]
    fn a_server_tool_without_its_result_is_cut_and_with_it_counts_as_text() {
        let mut position = position(|p| {
            block(p, BlockKind::Text);
            block(p, BlockKind::ServerTool);
        });
        check(&position, Ending::Cut, Ending::Cut);
        block(&mut position, BlockKind::ServerToolResult);
        check(&position, Ending::HandBack, Ending::Cut);
    }

    #[test]
    fn a_stop_reason_completes() {
        check(&position(|p| p.stop_reason = true), Ending::Complete, Ending::Complete);
    }
}
