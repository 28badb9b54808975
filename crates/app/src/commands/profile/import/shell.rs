//! Start files of shells: variables that are exported, and aliases and functions that start Claude Code with its own. Nothing is run;
//! what only a shell could work out is said to be that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::settings::Setting;

/// Most commands of one file.
const MAX_COMMANDS: usize = 50_000;

/// Deepest resolution of variables that name each other.
const MAX_DEPTH: usize = 8;

/// Which language a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// sh, bash, zsh.
    Posix,
    Fish,
}

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `$NAME`, `${NAME}`, `${NAME:-default}`.
    Variable(String, Option<String>),
    /// `$(…)`, `` `…` ``, and fish's `(…)`.
    Command(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Word {
    pieces: Vec<Piece>,
    /// True if a part of it was quoted: then it is no keyword.
    is_quoted: bool,
}

impl Word {
    /// Its text, if it is nothing but text.
    fn text(&self) -> Option<String> {
        self.pieces.iter().map(|piece| if let Piece::Text(text) = piece { Some(text.as_str()) } else { None }).collect()
    }

    fn is(&self, word: &str) -> bool {
        !self.is_quoted && self.text().is_some_and(|text| text == word)
    }

    /// `NAME=value`
    fn assignment(&self) -> Option<(String, Self)> {
        let Piece::Text(first) = self.pieces.first()? else { return None };
        let (name, rest) = first.split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let mut pieces = self.pieces.clone();
        pieces[0] = Piece::Text(rest.to_owned());
        Some((name.to_owned(), Self { pieces, is_quoted: self.is_quoted }))
    }
}

/// What a set of variables belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every program that the shell starts.
    Exported,
    /// One alias or function.
    Named(String),
}

/// Variables that are set together.
pub(super) struct Group {
    pub scope: Scope,
    pub file: PathBuf,
    variables: HashMap<String, Word>,
}

/// What the start files set, all together: one may use what another one has.
#[derive(Default)]
pub(super) struct Shell {
    /// Every variable that is set outside of functions, exported or not.
    known: HashMap<String, Word>,
    pub groups: Vec<Group>,
}

impl Shell {
    /// Reads one file.
    pub(super) fn read(&mut self, file: &Path, text: &str, language: Language) {
        let mut reader = Reader { shell: self, file, language, open: Vec::new(), exported: HashMap::new() };
        for command in commands(text, language) {
            reader.command(command);
        }
        while !reader.open.is_empty() {
            reader.close();
        }
        let exported = reader.exported;
        if !exported.is_empty() {
            self.groups.push(Group { scope: Scope::Exported, file: file.to_owned(), variables: exported });
        }
    }

    /// A variable of a group: its own, else the exported one.
    pub(super) fn setting(&self, group: &Group, name: &str, home: &Path) -> Option<Setting> {
        let word = group.variables.get(name).or_else(|| match group.scope {
            Scope::Named(_) => {
                self.groups.iter().rev().filter(|other| other.scope == Scope::Exported).find_map(|other| other.variables.get(name))
            }
            Scope::Exported => None,
        })?;
        self.value(group, word, home, MAX_DEPTH)
    }

    /// Whether a group itself sets one of these variables.
    pub(super) fn sets(group: &Group, names: &[&str]) -> bool {
        names.iter().any(|name| group.variables.contains_key(*name))
    }

    /// What a word stands for. `None` if it is empty.
    fn value(&self, group: &Group, word: &Word, home: &Path, depth: usize) -> Option<Setting> {
        let Some(depth) = depth.checked_sub(1) else { return Some(Setting::Unknown("in variables that name each other".to_owned())) };
        // Quotes and an assignment leave empty parts behind.
        let pieces: Vec<&Piece> = word.pieces.iter().filter(|piece| !matches!(piece, Piece::Text(text) if text.is_empty())).collect();
        if let [Piece::Command(command)] = pieces.as_slice() {
            return Some(Setting::Reference(credential(command, home)));
        }
        if let [Piece::Variable(name, default)] = pieces.as_slice() {
            let set = group.variables.get(name).filter(|set| *set != word).or_else(|| self.known.get(name)).filter(|set| *set != word);
            return match (set, default.as_deref().map(str::trim).filter(|default| !default.is_empty())) {
                (Some(set), _) => self.value(group, set, home, depth),
                (None, Some(default)) => {
                    let parsed = commands(default, Language::Posix).into_iter().next()?.words.into_iter().next()?;
                    self.value(group, &parsed, home, depth)
                }
                (None, None) if name == "HOME" => Some(Setting::Text(home.display().to_string())),
                (None, None) => Some(Setting::Reference(json!({ "env": name }))),
            };
        }
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Command(_) => return Some(Setting::Unknown("in part from a program".to_owned())),
                Piece::Variable(..) => match self.value(group, &Word { pieces: vec![piece.clone()], is_quoted: true }, home, depth) {
                    Some(Setting::Text(part)) => text.push_str(&part),
                    None => {}
                    Some(_) => return Some(Setting::Unknown("in part in a variable that is set elsewhere".to_owned())),
                },
            }
        }
        (!text.trim().is_empty()).then_some(Setting::Text(text))
    }
}

/// Where a program's output comes from, as `auth` says it: `cat FILE` is the file, where nobody else may read it.
fn credential(command: &str, home: &Path) -> Value {
    let plain = commands(command, Language::Posix);
    let words: Option<Vec<String>> = match plain.as_slice() {
        [one] if !one.is_redirected => one.words.iter().map(|word| word_in_home(word, home)).collect(),
        _ => None,
    };
    match words.as_deref() {
        Some([cat, file]) if cat == "cat" && Path::new(file).is_absolute() && is_private(Path::new(file)) => json!({ "file": file }),
        Some(words @ [first, ..]) if !first.contains('=') => json!({ "command": words }),
        _ => json!({ "command": ["sh", "-c", command] }),
    }
}

/// A word as a program gets it, with `~` and `$HOME` resolved. `None` if only a shell knows.
fn word_in_home(word: &Word, home: &Path) -> Option<String> {
    let mut text = String::new();
    for piece in &word.pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Variable(name, _) if name == "HOME" => text.push_str(&home.display().to_string()),
            Piece::Variable(..) | Piece::Command(_) => return None,
        }
    }
    if !word.is_quoted {
        if let Some(rest) = text.strip_prefix("~/") {
            return Some(home.join(rest).display().to_string());
        }
        if text.contains(['*', '?', '~']) {
            return None;
        }
    }
    Some(text)
}

#[cfg(unix)]
fn is_private(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode().trailing_zeros() >= 6)
}

#[cfg(not(unix))]
fn is_private(file: &Path) -> bool {
    file.is_file()
}

/// A block of a file that is open: a function, or something else that ends in the same way.
struct Open {
    name: Option<String>,
    variables: HashMap<String, Word>,
}

struct Reader<'a> {
    shell: &'a mut Shell,
    file: &'a Path,
    language: Language,
    open: Vec<Open>,
    exported: HashMap<String, Word>,
}

impl Reader<'_> {
    fn command(&mut self, command: Command) {
        let mut words = command.words;
        while words.first().is_some_and(|word| {
            ["then", "else", "do", "elif", "if", "while", "!", "and", "or", "time"].iter().any(|keyword| word.is(keyword))
        }) {
            let keyword = words.remove(0);
            if self.language == Language::Fish && (keyword.is("if") || keyword.is("while")) {
                self.open.push(Open { name: None, variables: HashMap::new() });
            }
        }
        let Some(first) = words.first().and_then(Word::text) else { return };
        let is_plain = !words[0].is_quoted;
        match first.as_str() {
            "{" if is_plain => self.open.push(Open { name: None, variables: HashMap::new() }),
            "}" if is_plain => self.close(),
            "end" if is_plain && self.language == Language::Fish => self.close(),
            "begin" | "for" | "switch" if self.language == Language::Fish => self.open.push(Open { name: None, variables: HashMap::new() }),
            "function" if is_plain => {
                let name = words.get(1).and_then(Word::text).map(|name| name.trim_end_matches("()").to_owned());
                self.open.push(Open { name, variables: HashMap::new() });
            }
            "alias" | "abbr" => self.alias(&words[1..]),
            "export" | "declare" | "typeset" | "readonly" | "local" => {
                let is_exported = first == "export"
                    || words.iter().any(|word| word.text().is_some_and(|text| text.starts_with('-') && text.contains('x')));
                for word in &words[1..] {
                    if let Some((name, value)) = word.assignment() {
                        self.set(name, value, is_exported);
                        continue;
                    }
                    // `export NAME` of what was set before.
                    let known = word.text().and_then(|name| Some((name.clone(), self.shell.known.get(&name)?.clone())));
                    if let Some((name, value)) = known.filter(|_| is_exported) {
                        self.set(name, value, true);
                    }
                }
            }
            "set" if self.language == Language::Fish => self.fish_set(&words[1..]),
            _ => self.started(&words),
        }
    }

    /// `alias name='…'`, fish's `alias name '…'` and `abbr -a name '…'`.
    fn alias(&mut self, words: &[Word]) {
        let words: Vec<&Word> =
            words.iter().filter(|word| word.is_quoted || word.text().is_none_or(|text| !text.starts_with('-'))).collect();
        let (name, body) = match words.split_first() {
            Some((first, rest)) => match (first.pieces.first(), rest.first()) {
                (Some(Piece::Text(text)), _) if text.contains('=') => {
                    let (name, start) = text.split_once('=').unwrap_or((text, ""));
                    let mut pieces = first.pieces.clone();
                    pieces[0] = Piece::Text(start.to_owned());
                    (name.to_owned(), source(&pieces))
                }
                (Some(Piece::Text(name)), Some(body)) => (name.clone(), source(&body.pieces)),
                _ => return,
            },
            None => return,
        };
        let mut variables = HashMap::new();
        for command in commands(&body, self.language) {
            variables.extend(before_program(&command.words).0);
        }
        self.group(name, variables);
    }

    fn group(&mut self, name: String, variables: HashMap<String, Word>) {
        if !variables.is_empty() {
            self.shell.groups.push(Group { scope: Scope::Named(name), file: self.file.to_owned(), variables });
        }
    }

    /// `set -gx NAME value`
    fn fish_set(&mut self, words: &[Word]) {
        let (options, rest): (Vec<&Word>, Vec<&Word>) =
            words.iter().partition(|word| !word.is_quoted && word.text().is_some_and(|text| text.starts_with('-')));
        let is_exported = options
            .iter()
            .any(|word| word.text().is_some_and(|text| text == "--export" || (!text.starts_with("--") && text.contains('x'))));
        let is_erased = options.iter().any(|word| word.text().is_some_and(|text| text == "--erase" || text == "-e"));
        if let (Some(name), false) = (rest.first().and_then(|word| word.text()), is_erased) {
            self.set(name, rest.get(1).map(|word| (*word).clone()).unwrap_or_default(), is_exported);
        }
    }

    fn set(&mut self, name: String, value: Word, is_exported: bool) {
        if let Some(function) = self.open.iter_mut().rev().find(|open| open.name.is_some()) {
            function.variables.insert(name, value);
            return;
        }
        if is_exported {
            self.exported.insert(name.clone(), value.clone());
        }
        self.shell.known.insert(name, value);
    }

    /// A program that is started, or variables that are set without one.
    fn started(&mut self, words: &[Word]) {
        let (variables, has_program) = before_program(words);
        if !has_program {
            for (name, value) in variables {
                let is_exported = self.exported.contains_key(&name);
                self.set(name, value, is_exported);
            }
            return;
        }
        // A program that the start file itself starts is not one of the user's commands.
        if let Some(function) = self.open.iter_mut().rev().find(|open| open.name.is_some()) {
            function.variables.extend(variables);
        }
    }

    fn close(&mut self) {
        if let Some(Open { name: Some(name), variables }) = self.open.pop() {
            self.group(name, variables);
        }
    }
}

/// The variables before a program, as `A=b claude` and `env A=b claude` have them, and whether there is a program.
fn before_program(words: &[Word]) -> (HashMap<String, Word>, bool) {
    let mut variables = HashMap::new();
    for word in words {
        if let Some((name, value)) = word.assignment() {
            variables.insert(name, value);
        } else if !["env", "command", "exec", "noglob", "nocorrect", "/usr/bin/env"].iter().any(|runner| word.is(runner)) {
            return (variables, true);
        }
    }
    (variables, false)
}

/// The text of a word that is read once more.
fn source(pieces: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Variable(name, None) => format!("${{{name}}}"),
        Piece::Variable(name, Some(default)) => format!("${{{name}:-{default}}}"),
        Piece::Command(command) => format!("$({command})"),
    };
    pieces.iter().map(text).collect()
}

/// One command of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    words: Vec<Word>,
    is_redirected: bool,
}

/// The commands of a text. A pipe is told by its first command being redirected.
fn commands(text: &str, language: Language) -> Vec<Command> {
    let mut lexer = Lexer { text, at: 0, language, commands: Vec::new(), command: Command::default(), word: None, here: Vec::new() };
    lexer.run();
    lexer.commands
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    language: Language,
    commands: Vec<Command>,
    command: Command,
    word: Option<Word>,
    /// Ends of here documents that follow the line.
    here: Vec<String>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let char = self.rest().chars().next()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn run(&mut self) {
        while let Some(char) = self.next() {
            if self.commands.len() >= MAX_COMMANDS {
                return;
            }
            match char {
                '\\' => {
                    let escaped = self.next();
                    if escaped != Some('\n') {
                        self.quote();
                        self.push(escaped.unwrap_or('\\'));
                    }
                }
                '\'' => self.single(),
                '"' => self.double(),
                '`' => {
                    let command = self.until('`');
                    self.piece(Piece::Command(command));
                }
                '$' => self.dollar(),
                '#' if self.word.is_none() => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                ' ' | '\t' | '\r' => self.end_word(),
                '\n' => {
                    self.end_command();
                    self.skip_here_documents();
                }
                ';' | '&' => self.end_command(),
                '|' => {
                    self.command.is_redirected |= !self.rest().starts_with('|');
                    self.end_command();
                }
                '<' if self.rest().starts_with('<') && !self.rest().starts_with("<<") => self.here_document(),
                '<' | '>' => {
                    self.end_word();
                    self.command.is_redirected = true;
                }
                '(' if self.language == Language::Fish => {
                    let command = self.nested();
                    self.piece(Piece::Command(command));
                }
                '(' => self.parenthesis(),
                ')' => self.end_command(),
                char => self.push(char),
            }
        }
        self.end_command();
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    fn quote(&mut self) {
        self.word().is_quoted = true;
    }

    fn push(&mut self, char: char) {
        match self.word().pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(char),
            _ => self.word().pieces.push(Piece::Text(char.to_string())),
        }
    }

    fn piece(&mut self, piece: Piece) {
        self.word().pieces.push(piece);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        let is_brace = self.language == Language::Posix && word.is("{");
        let opens_function = is_brace && self.command.words.first().is_some_and(|first| first.is("function"));
        // `function name {`: the brace is the function's own.
        if !opens_function {
            self.command.words.push(word);
        }
        if is_brace {
            self.flush();
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let is_header = self.command.words.len() == 2 && self.command.words[0].is("function");
        if self.language == Language::Posix && is_header {
            self.skip_brace();
        }
        self.flush();
    }

    /// The brace that follows a function's name, on its line or the next.
    fn skip_brace(&mut self) {
        if let Some(behind) = self.rest().trim_start().strip_prefix('{') {
            self.at = self.text.len() - behind.len();
        }
    }

    fn flush(&mut self) {
        let command = std::mem::take(&mut self.command);
        if !command.words.is_empty() {
            self.commands.push(command);
        }
    }

    fn single(&mut self) {
        self.quote();
        // Quoted nothing is a word too.
        if self.word().pieces.is_empty() {
            self.piece(Piece::Text(String::new()));
        }
        while let Some(char) = self.next() {
            match char {
                '\'' => return,
                '\\' if self.language == Language::Fish && self.rest().starts_with(['\'', '\\']) => {
                    let escaped = self.next().unwrap_or('\\');
                    self.push(escaped);
                }
                char => self.push(char),
            }
        }
    }

    fn double(&mut self) {
        self.quote();
        if self.word().pieces.is_empty() {
            self.piece(Piece::Text(String::new()));
        }
        while let Some(char) = self.next() {
            match char {
                '"' => return,
                '\\' if self.rest().starts_with(['"', '\\', '$', '`', '\n']) => {
                    let escaped = self.next();
                    if let Some(escaped) = escaped.filter(|escaped| *escaped != '\n') {
                        self.push(escaped);
                    }
                }
                '`' => {
                    let command = self.until('`');
                    self.piece(Piece::Command(command));
                }
                '$' => self.dollar(),
                char => self.push(char),
            }
        }
    }

    /// Behind a `$`.
    fn dollar(&mut self) {
        let rest = self.rest();
        if rest.starts_with("((") {
            self.at += 1;
            let sum = self.nested();
            self.piece(Piece::Command(format!("echo $(({sum}))")));
        } else if rest.starts_with('(') {
            self.at += 1;
            let command = self.nested();
            self.piece(Piece::Command(command));
        } else if rest.starts_with('{') {
            self.at += 1;
            let inside = self.braced();
            let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
            let (name, behind) = inside.split_at(end);
            match (name, behind) {
                ("", _) => self.piece(Piece::Command(format!("echo ${{{inside}}}"))),
                (name, "") => self.piece(Piece::Variable(name.to_owned(), None)),
                (name, behind) => {
                    match behind.strip_prefix(":-").or(behind.strip_prefix('-')).or(behind.strip_prefix(":=")).or(behind.strip_prefix('='))
                    {
                        Some(default) => self.piece(Piece::Variable(name.to_owned(), Some(default.to_owned()))),
                        None => self.piece(Piece::Variable(name.to_owned(), None)),
                    }
                }
            }
        } else if rest.starts_with('\'') && self.word.is_none() {
            self.at += 1;
            self.single();
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            if end == 0 {
                return self.push('$');
            }
            self.at += end;
            self.piece(Piece::Variable(rest[..end].to_owned(), None));
        }
    }

    fn until(&mut self, close: char) -> String {
        let mut inside = String::new();
        while let Some(char) = self.next() {
            if char == close {
                break;
            }
            inside.push(char);
        }
        inside
    }

    fn braced(&mut self) -> String {
        self.balanced('{', '}')
    }

    fn nested(&mut self) -> String {
        self.balanced('(', ')')
    }

    /// Up to the bracket that closes; quotes may hold brackets.
    fn balanced(&mut self, open: char, close: char) -> String {
        let (mut inside, mut depth, mut quote) = (String::new(), 1_usize, None);
        while let Some(char) = self.next() {
            match (char, quote) {
                (char, Some(open)) if char == open => quote = None,
                ('\'' | '"', None) => quote = Some(char),
                ('\\', _) if quote != Some('\'') => {
                    inside.push(char);
                    inside.extend(self.next());
                    continue;
                }
                (char, None) if char == open => depth += 1,
                (char, None) if char == close => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
            inside.push(char);
        }
        inside
    }

    /// `name()` begins a function, `(` a shell of its own.
    fn parenthesis(&mut self) {
        let is_function = self.rest().trim_start_matches([' ', '\t']).starts_with(')');
        let name = match (&self.word, self.command.words.as_slice()) {
            (Some(word), []) => word.text(),
            (None, [only]) => only.text(),
            (Some(word), [keyword]) if keyword.is("function") => word.text(),
            (None, [keyword, name]) if keyword.is("function") => name.text(),
            _ => None,
        };
        if let Some(name) = name.filter(|_| is_function) {
            self.at += self.rest().find(')').map_or(0, |at| at + 1);
            self.word = None;
            let word = |text: &str| Word { pieces: vec![Piece::Text(text.to_owned())], is_quoted: false };
            self.command.words = vec![word("function"), word(&name)];
        }
        self.end_command();
    }

    fn here_document(&mut self) {
        self.at += 1;
        let rest = self.rest().trim_start_matches(['-', ' ']);
        let end: String = rest.trim_start_matches(['\'', '"', '\\']).chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        self.command.is_redirected = true;
        if !end.is_empty() {
            self.here.push(end);
        }
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.here) {
            while !self.rest().is_empty() {
                let line = self.rest().lines().next().unwrap_or_default();
                self.at = (self.at + line.len() + 1).min(self.text.len());
                while !self.text.is_char_boundary(self.at) {
                    self.at += 1;
                }
                if line.trim() == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str, language: Language) -> Shell {
        let mut shell = Shell::default();
        shell.read(Path::new("rc"), text, language);
        shell
    }

    #[track_caller]
    fn check(text: &str, language: Language, name: Option<&str>, variable: &str, expected: impl Into<Option<Setting>>) {
        let shell = shell(text, language);
        let scope = name.map_or(Scope::Exported, |name| Scope::Named(name.to_owned()));
        let group = shell.groups.iter().rev().find(|group| group.scope == scope).unwrap_or_else(|| panic!("no group in {text:?}"));
        assert_eq!(shell.setting(group, variable, Path::new("/home/me")), expected.into(), "{text:?}");
    }

    fn text(text: &str) -> Setting {
        Setting::Text(text.to_owned())
    }

    fn reference(auth: Value) -> Setting {
        Setting::Reference(auth)
    }

    #[test]
    fn posix_exports_aliases_and_functions_are_read() {
        use Language::Posix;
        check("export K=v # c\n", Posix, None, "K", text("v"));
        check("export A=1 K='a b'\"c\"\\ d\n", Posix, None, "K", text("a bc d"));
        check("K=v; export K", Posix, None, "K", text("v"));
        check("# export K=old\nexport K=a\nexport K=b\n", Posix, None, "K", text("b"));
        check("if [ -f x ]; then export K=v; fi\n", Posix, None, "K", text("v"));
        check("declare -x K=v", Posix, None, "K", text("v"));
        check("alias glm='A=1 K=\"v w\" claude'\n", Posix, Some("glm"), "K", text("v w"));
        check("alias glm=\"K=$B claude\"\nB=v\n", Posix, Some("glm"), "K", text("v"));
        check("alias glm='env K=v claude --x'\n", Posix, Some("glm"), "K", text("v"));
        check("glm() { K=v claude \"$@\"; }\n", Posix, Some("glm"), "K", text("v"));
        check("glm ()\n{\n  local B=v\n  export K=$B\n  claude \"$@\"\n}\n", Posix, Some("glm"), "K", text("v"));
        check("function glm { K=v \\\n  claude; }\n", Posix, Some("glm"), "K", text("v"));
        check("function glm() { if true; then { K=v claude; }; fi; }\n", Posix, Some("glm"), "K", text("v"));
        check("export K=x\nalias glm='A=1 claude'", Posix, Some("glm"), "K", text("x"));
        check("cat <<EOF\nexport K=no\nEOF\nexport K=v\n", Posix, None, "K", text("v"));
    }

    #[test]
    fn fish_sets_aliases_and_functions_are_read() {
        use Language::Fish;
        check("set -gx K v\n", Fish, None, "K", text("v"));
        check("set -Ux K 'it\\'s'\n", Fish, None, "K", text("it's"));
        check("set -x K $B; set -g B v", Fish, None, "K", text("v"));
        check("set --global --export K v\n", Fish, None, "K", text("v"));
        check("alias glm 'K=v claude'\n", Fish, Some("glm"), "K", text("v"));
        check("alias glm='env K=v claude'\n", Fish, Some("glm"), "K", text("v"));
        check(
            "function glm --wraps claude\n  if test -n \"$A\"\n    set -lx K v\n  end\n  claude $argv\nend\n",
            Fish,
            Some("glm"),
            "K",
            text("v"),
        );
        check(
            "if status is-interactive\n  set -gx K (cat /x/key)\nend\n",
            Fish,
            None,
            "K",
            reference(json!({ "command": ["cat", "/x/key"] })),
        );
    }

    #[test]
    fn what_a_shell_works_out_becomes_a_reference_or_is_said() {
        use Language::Posix;
        check("export K=${Z:-}", Posix, None, "K", reference(json!({ "env": "Z" })));
        check("export K=${Z:-v}", Posix, None, "K", text("v"));
        check("export Z=w\nexport K=${Z:-v}", Posix, None, "K", text("w"));
        check("export K=$Z", Posix, None, "K", reference(json!({ "env": "Z" })));
        check("export K=\"$(pass show a/b)\"", Posix, None, "K", reference(json!({ "command": ["pass", "show", "a/b"] })));
        check("export K=`pass show x`", Posix, None, "K", reference(json!({ "command": ["pass", "show", "x"] })));
        check("export K=$(cat ~/k)", Posix, None, "K", reference(json!({ "command": ["cat", "/home/me/k"] })));
        check("export K=$(pass x | head -1)", Posix, None, "K", reference(json!({ "command": ["sh", "-c", "pass x | head -1"] })));
        check("export K=$(cat <k)", Posix, None, "K", reference(json!({ "command": ["sh", "-c", "cat <k"] })));
        check(
            "export K=https://$Z.example",
            Posix,
            None,
            "K",
            Some(Setting::Unknown("in part in a variable that is set elsewhere".to_owned())),
        );
        check("export K=\"$HOME/x\"", Posix, None, "K", text("/home/me/x"));
        check("export A=$B B=$A K=$A", Posix, None, "K", Some(Setting::Unknown("in variables that name each other".to_owned())));
        check("export K=", Posix, None, "K", None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_start_file_gets_an_answer(text in "(export |alias a=|f\\(\\) \\{|\\}|set -gx |<<E\\n|end|function |K=|\\$\\{?|[\\\\$(){}`'\"=;|&<>#\\n a-zé:-])*|(?s).{0,60}") {
            for language in [Language::Posix, Language::Fish] {
                let shell = shell(&text, language);
                for group in &shell.groups {
                    shell.setting(group, "K", Path::new("/home/me"));
                }
            }
        }
    }
}
