//! Settings files as people and programs write them, and worse. All of our own making.

/// One file.
pub(crate) struct Fixture {
    pub name: &'static str,
    /// None: there is no file.
    content: Option<&'static str>,
    /// How often the content stands in it, for large ones: as members of one object.
    members: usize,
    pub mode: u32,
    /// The file is a link to this one.
    pub link: Option<&'static str>,
    /// Not even the folder is there.
    pub is_missing_folder: bool,
}

impl Fixture {
    pub(crate) fn text(&self) -> Option<String> {
        let content = self.content?;
        if self.members == 0 {
            return Some(content.to_owned());
        }
        let members: Vec<String> = (0..self.members).map(|number| format!("  \"key{number}\": {content}")).collect();
        Some(format!("{{\n{}\n}}\n", members.join(",\n")))
    }
}

const fn text(name: &'static str, content: &'static str) -> Fixture {
    Fixture { name, content: Some(content), members: 0, mode: 0o600, link: None, is_missing_folder: false }
}

const fn with_mode(name: &'static str, content: &'static str, mode: u32) -> Fixture {
    Fixture { mode, ..text(name, content) }
}

const fn linked(name: &'static str, content: Option<&'static str>, to: &'static str) -> Fixture {
    Fixture { content, link: Some(to), ..text(name, "") }
}

pub(crate) const FIXTURES: &[Fixture] = &[
    // Little or nothing.
    Fixture { content: None, ..text("no file", "") },
    Fixture { content: None, is_missing_folder: true, ..text("no folder", "") },
    text("an empty file", ""),
    text("a line end alone", "\n"),
    text("blanks alone", "  \n\t\r\n"),
    text("an empty object", "{}"),
    text("an empty object and a line end", "{}\n"),
    text("an empty object with a blank", "{ }"),
    text("an empty object over lines", "{\n}\n"),
    text("an empty object over CRLF lines", "{\r\n}\r\n"),
    text("a byte order mark alone", "\u{feff}"),
    text("a byte order mark and an object", "\u{feff}{\"model\":\"opus\"}"),
    text("a byte order mark, CRLF", "\u{feff}{\r\n  \"model\": \"opus\"\r\n}\r\n"),
    // Indentation and line ends.
    text("two blanks", "{\n  \"model\": \"opus\",\n  \"cleanupPeriodDays\": 30\n}\n"),
    text("four blanks", "{\n    \"model\": \"opus\"\n}\n"),
    text("tabs", "{\n\t\"model\": \"opus\",\n\t\"env\": {\n\t\t\"FOO\": \"bar\"\n\t}\n}\n"),
    text("CRLF", "{\r\n  \"model\": \"opus\",\r\n  \"env\": {\r\n    \"FOO\": \"bar\"\r\n  }\r\n}\r\n"),
    text("mixed line ends", "{\r\n  \"model\": \"opus\",\n  \"env\": {\n    \"FOO\": \"bar\"\r\n  }\n}"),
    text("no line end at the end", "{\n  \"model\": \"opus\"\n}"),
    text("many line ends at the end", "{\n  \"model\": \"opus\"\n}\n\n\n"),
    text("lines before the object", "\n\n  {\n  \"model\": \"opus\"\n}"),
    text("one line", "{\"model\":\"opus\",\"env\":{\"FOO\":\"bar\"},\"hooks\":{}}"),
    text("one line with blanks", "{ \"model\" : \"opus\" , \"env\" : { \"FOO\" : \"bar\" } }"),
    text("half of it on one line", "{ \"model\": \"opus\",\n  \"env\": { \"FOO\": \"bar\" } }"),
    text("no indentation", "{\n\"model\": \"opus\",\n\"env\": {\n\"FOO\": \"bar\"\n}\n}\n"),
    text("trailing blanks", "{  \n  \"model\": \"opus\"  \n}  \n"),
    // Comments and commas, which other programs let pass.
    text("line comments", "// top\n{\n  // the model\n  \"model\": \"opus\", // best\n  // end\n}\n// bottom\n"),
    text("block comments", "/* top */ {\n  /* the model */ \"model\": /* here */ \"opus\" /* , */\n}\n"),
    text("comments in env", "{\n  \"env\": {\n    // none yet\n  }\n}\n"),
    text("comments with brackets and quotes", "{\n  \"model\": \"opus\" // } \" {\n}\n"),
    text("a trailing comma", "{\n  \"model\": \"opus\",\n}\n"),
    text(
        "trailing commas everywhere",
        "{\n  \"env\": {\n    \"FOO\": \"bar\",\n  },\n  \"hooks\": {\n    \"SessionStart\": [\n    ],\n  },\n}\n",
    ),
    text("a trailing comma on one line", "{ \"model\": \"opus\", }"),
    // Given twice.
    text("a key twice", "{\n  \"model\": \"opus\",\n  \"model\": \"sonnet\"\n}\n"),
    text("env twice", "{\n  \"env\": { \"A\": \"1\" },\n  \"env\": { \"B\": \"2\" }\n}\n"),
    text("hooks twice", "{ \"hooks\": { \"Stop\": [] }, \"hooks\": { \"SessionStart\": [] } }"),
    text("our key twice", "{ \"env\": { \"ENABLE_TOOL_SEARCH\": \"false\", \"ENABLE_TOOL_SEARCH\": \"auto\" } }"),
    // What others have there.
    text("headers of one's own", "{ \"env\": { \"ANTHROPIC_CUSTOM_HEADERS\": \"x-team: 7\\nx-cost: a\" } }"),
    text("empty headers", "{\n  \"env\": {\n    \"ANTHROPIC_CUSTOM_HEADERS\": \"\"\n  }\n}\n"),
    text("an empty base URL", "{\n  \"env\": {\n    \"ANTHROPIC_BASE_URL\": \"\",\n    \"Z\": \"1\"\n  }\n}\n"),
    text("Anthropic's own address", "{\n  \"env\": {\n    \"ANTHROPIC_BASE_URL\": \"https://api.anthropic.com\"\n  }\n}\n"),
    text("an API key", "{\n  \"env\": {\n    \"ANTHROPIC_API_KEY\": \"sk-ant-test-own\"\n  },\n  \"apiKeyHelper\": \"pass show key\"\n}\n"),
    text("levers of one's own", "{ \"env\": { \"ENABLE_TOOL_SEARCH\": \"auto:5\", \"CLAUDE_CODE_PROPAGATE_TRACEPARENT\": \"1\" } }"),
    text("a proxy", "{\n  \"env\": {\n    \"HTTPS_PROXY\": \"http://proxy.example:3128\",\n    \"NO_PROXY\": \"corp.example\"\n  }\n}\n"),
    text("numbers and null in env", "{ \"env\": { \"A\": 5, \"B\": null, \"C\": true } }"),
    text(
        "hooks",
        "{\n  \"hooks\": {\n    \"SessionStart\": [\n      { \"matcher\": \"startup\", \"hooks\": [{ \"type\": \"command\", \"command\": \"date\" }] }\n    ],\n    \"Stop\": [\n      { \"hooks\": [] }\n    ]\n  }\n}\n",
    ),
    text("an empty list of hooks", "{\n  \"hooks\": {\n    \"SessionStart\": []\n  }\n}\n"),
    text("hooks on one line", "{\"hooks\":{\"SessionStart\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"a\"}]}]}}"),
    text("other hooks alone", "{\n  \"hooks\": {\n    \"PreToolUse\": [{ \"matcher\": \"Bash\", \"hooks\": [] }]\n  }\n}\n"),
    text(
        "a status line",
        "{\n  \"statusLine\": {\n    \"type\": \"command\",\n    \"command\": \"~/.claude/line.sh\",\n    \"padding\": 0\n  }\n}\n",
    ),
    text(
        "a status line with quotes",
        r#"{ "statusLine": { "type": "command", "command": "printf '%s' \"it's $HOME\" | tr 'a' \"\\\\\"" } }"#,
    ),
    text("a status line of another kind", "{ \"statusLine\": { \"type\": \"static\", \"text\": \"hi\" } }"),
    text(
        "a policy of ours",
        "{\n  \"failover_policy\": { \"enabled\": true },\n  \"permissions\": { \"allow\": [\"Bash(ls:*)\"], \"deny\": [] }\n}\n",
    ),
    // Characters.
    text("other scripts", "{\n  \"note\": \"Grüße 你好 🦀\",\n  \"env\": { \"ÄÖÜ\": \"ß\" }\n}\n"),
    text("escapes", "{ \"\\u0065nv\": { \"\\u0041\": \"\\\"\\\\\\/\\n\" } }"),
    text("brackets in strings", "{ \"a\": \"} ] , // \\\" /* \", \"env\": { \"B\": \"{\" } }"),
    text("numbers as they are written", "{ \"a\": 1.0, \"b\": 1e5, \"c\": -0, \"d\": 12345678901234567890123 }"),
    text("deep", "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":[[[[[{}]]]]]}}}}}"),
    Fixture { members: 2_000, ..text("large", "{ \"list\": [1, 2, 3], \"text\": \"0123456789\" }") },
    // Modes and links.
    with_mode("mode 0644", "{\n  \"model\": \"opus\"\n}\n", 0o644),
    with_mode("mode 0640", "{\n  \"model\": \"opus\"\n}\n", 0o640),
    with_mode("mode 0400", "{\n  \"model\": \"opus\"\n}\n", 0o400),
    with_mode("mode 0666", "{}", 0o666),
    with_mode("mode 0755", "{}", 0o755),
    linked("a link", Some("{\n  \"model\": \"opus\"\n}\n"), "../dotfiles/claude.json"),
    linked("a link to a neighbour", Some("{}"), "settings.real.json"),
    linked("a link to nothing", None, "../dotfiles/later.json"),
];
