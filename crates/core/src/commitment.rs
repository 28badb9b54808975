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
    /// A block of a server-side tool is closed: its content is bound to its provider.
    pub closed_server_tool: bool,
    /// Server-side tool calls whose result block is not closed yet.
    pub unanswered_server_tools: u32,
    /// The open block, if any.
    pub open: Option<OpenBlock>,
    /// The first place in the message's content that no block has taken.
    pub next_index: u64,
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
        self.next_index = self.next_index.max(index.saturating_add(1));
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
            BlockKind::Text => self.closed_text = true,
            BlockKind::ServerTool => {
                self.closed_text = true;
                self.closed_server_tool = true;
            }
            BlockKind::ServerToolResult => {
                self.closed_text = true;
                self.closed_server_tool = true;
                self.unanswered_server_tools = self.unanswered_server_tools.saturating_sub(1);
            }
            BlockKind::Thinking => self.closed_thinking = true,
            BlockKind::ToolCall => self.closed_tool_call = true,
        }
    }

    /// Whether the answer can go on as text: text is open, or nothing is after closed text.
    fn ends_in_text(&self) -> bool {
        match self.open {
            Some(open) => open.kind == BlockKind::Text,
            None => self.closed_text,
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

/// What to do about a broken answer that the client has begun to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It ends so.
    End(Ending),
    /// The next profile goes on with it in the same stream; where none can, it ends so.
    Resume {
        /// The ending where no profile can.
        otherwise: Ending,
    },
}

/// Chooses what becomes of a broken answer by what the client has seen closed, and by who the client is (measured, 2.1.330).
pub fn repair(position: &Position, client: ClientKind, wish: MidStream) -> Repair {
    if position.is_complete() {
        return Repair::End(Ending::Complete);
    }
    // A closed tool call may already be running, and auto mode has no verdict for it: nothing may be made up after it.
    if wish == MidStream::Cut || position.closed_tool_call || position.unanswered_server_tools > 0 {
        return Repair::End(Ending::Cut);
    }
    let text_would_be_lost = position.closed_text || (position.closed_thinking && position.open_text_begun());
    let resumable = position.ends_in_text() && !position.closed_server_tool && (text_would_be_lost || position.open_text_begun());
    match client {
        ClientKind::ClaudeInteractive if text_would_be_lost => Repair::End(Ending::HandBack),
        ClientKind::ClaudePrint if text_would_be_lost && resumable => Repair::Resume { otherwise: Ending::HandBack },
        ClientKind::ClaudePrint if text_would_be_lost => Repair::End(Ending::HandBack),
        ClientKind::Program if resumable => Repair::Resume { otherwise: Ending::Cut },
        ClientKind::ClaudeInteractive | ClientKind::ClaudePrint | ClientKind::Program => Repair::End(Ending::Cut),
    }
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

    const CUT: Repair = Repair::End(Ending::Cut);
    const HAND_BACK: Repair = Repair::End(Ending::HandBack);
    const RESUME: Repair = Repair::Resume { otherwise: Ending::HandBack };
    const RESUME_OR_CUT: Repair = Repair::Resume { otherwise: Ending::Cut };

    #[track_caller]
    fn check(position: &Position, interactive: Repair, print: Repair, program: Repair) {
        assert_eq!(repair(position, ClientKind::ClaudeInteractive, MidStream::Auto), interactive);
        assert_eq!(repair(position, ClientKind::ClaudePrint, MidStream::Auto), print);
        assert_eq!(repair(position, ClientKind::Program, MidStream::Auto), program);
        let cut = Repair::End(if position.is_complete() { Ending::Complete } else { Ending::Cut });
        for client in [ClientKind::ClaudeInteractive, ClientKind::ClaudePrint, ClientKind::Program] {
            assert_eq!(repair(position, client, MidStream::Cut), cut);
        }
    }

    fn open(kind: BlockKind) -> Position {
        position(|p| {
            p.open(0, kind);
            p.begin();
        })
    }

    #[test]
    fn nothing_closed_is_cut_but_a_program_s_open_text_goes_on() {
        check(&position(|_| ()), CUT, CUT, CUT);
        check(&open(BlockKind::Text), CUT, CUT, RESUME_OR_CUT);
        check(&open(BlockKind::Thinking), CUT, CUT, CUT);
        check(&open(BlockKind::ToolCall), CUT, CUT, CUT);
    }

    /// `LiteLLM` lets go at the first delta of any kind (measured): what can be done again is decided by the blocks that are closed.
    #[test]
    fn r13_thinking_alone_is_cut_until_text_has_begun() {
        check(&position(|p| block(p, BlockKind::Thinking)), CUT, CUT, CUT);
        let mut begun = position(|p| {
            block(p, BlockKind::Thinking);
            p.open(1, BlockKind::Text);
        });
        check(&begun, CUT, CUT, CUT);
        begun.begin();
        check(&begun, HAND_BACK, RESUME, RESUME_OR_CUT);
    }

    #[test]
    fn thinking_and_an_open_tool_call_is_cut() {
        let position = position(|p| {
            block(p, BlockKind::Thinking);
            p.open(1, BlockKind::ToolCall);
            p.begin();
        });
        check(&position, CUT, CUT, CUT);
    }

    #[test]
    fn closed_text_goes_on_as_text_and_is_handed_back_within_anything_else() {
        let after_text = |open: Option<BlockKind>| {
            position(|p| {
                block(p, BlockKind::Text);
                if let Some(kind) = open {
                    p.open(1, kind);
                    p.begin();
                }
            })
        };
        check(&after_text(None), HAND_BACK, RESUME, RESUME_OR_CUT);
        check(&after_text(Some(BlockKind::Text)), HAND_BACK, RESUME, RESUME_OR_CUT);
        check(&after_text(Some(BlockKind::ToolCall)), HAND_BACK, HAND_BACK, CUT);
        check(&after_text(Some(BlockKind::Thinking)), HAND_BACK, HAND_BACK, CUT);
    }

    #[test]
    fn a_closed_tool_call_is_cut() {
        let position = position(|p| {
            block(p, BlockKind::Text);
            block(p, BlockKind::ToolCall);
        });
        check(&position, CUT, CUT, CUT);
    }

    #[test]
    fn a_server_tool_without_its_result_is_cut_and_with_it_counts_as_text() {
        let mut position = position(|p| {
            block(p, BlockKind::Text);
            block(p, BlockKind::ServerTool);
        });
        check(&position, CUT, CUT, CUT);
        block(&mut position, BlockKind::ServerToolResult);
        // Nobody else can go on with it: its results are bound to their provider.
        check(&position, HAND_BACK, HAND_BACK, CUT);
    }

    #[test]
    fn a_stop_reason_completes() {
        let complete = Repair::End(Ending::Complete);
        check(&position(|p| p.stop_reason = true), complete, complete, complete);
    }
}
