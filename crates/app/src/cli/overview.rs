//! Lays out the page that `hotspare --help` shows: examples first, then every command by what one wants. Never says what a command takes:
//! its own page does.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::Cli;

/// What one wants, and the commands for it. A command that stands nowhere comes at the end.
const GROUPS: [(&str, &[&str]); 5] = [
    ("begin", &["init", "demo", "run", "install", "uninstall"]),
    ("look", &["status", "why", "logs", "usage", "notices", "statusline"]),
    ("find out", &["doctor", "outage", "drill", "explain"]),
    ("steer", &["switch", "reset", "profile", "hook", "config", "trust", "untrust"]),
    ("serve", &["serve", "service", "env"]),
];

/// The last group: what is not sorted.
const REST: &str = "more";

/// Columns of a group's name.
const LABEL: usize = 10;

/// Columns of the page.
const WIDTH: usize = 78;

const HEAD: &str = "\
Keeps Claude Code working when its API does not

Examples:
  hotspare init            find what you have, name a spare, set it up
  hotspare demo            three failovers with simulated providers, no account
  hotspare run -- claude   protect one session; nothing is installed
  hotspare status          who serves now, and why
  hotspare why             how the last exchange went

Usage: hotspare [COMMAND] [OPTIONS]

Commands:
";

const FOOT: &str = "
hotspare COMMAND --help says more; -V, --version prints the version";

/// The command line as it is, for whoever lays it out otherwise.
pub(crate) fn plain_command() -> clap::Command {
    Cli::command()
}

/// The command line with that page.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let names: Vec<String> = command.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name().to_owned()).collect();
    command.override_help(page(&names))
}

fn page(names: &[String]) -> String {
    let sorted = |name: &str| GROUPS.iter().any(|(_, members)| members.contains(&name));
    let rest: Vec<&str> = names.iter().map(String::as_str).filter(|name| !sorted(name)).collect();
    let known = |name: &&str| names.iter().any(|known| known == *name);
    let groups = GROUPS.iter().map(|(label, members)| (*label, members.iter().copied().filter(known).collect::<Vec<_>>()));
    let mut page = HEAD.to_owned();
    for (label, members) in groups.chain([(REST, rest)]).filter(|(_, members)| !members.is_empty()) {
        let lines = crate::words::wrapped(&members.join(", "), WIDTH - LABEL - 2);
        let heads = std::iter::once(label).chain(std::iter::repeat(""));
        for (head, line) in heads.zip(lines) {
            let _ = writeln!(page, "  {head:LABEL$}{line}");
        }
    }
    page + FOOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_fits_a_screen_and_names_every_command() {
        let mut command = command();
        let page = command.render_help().to_string();
        assert!(page.lines().count() <= 24 && page.lines().all(|line| line.chars().count() <= 80), "{page}");
        for name in Cli::command().get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name) {
            let words = page.split(|char: char| !char.is_ascii_lowercase()).filter(|word| *word == name).count();
            assert!(words > 0, "`{name}` is not on the page:\n{page}");
        }
        for line in page.lines().filter(|line| line.starts_with("  hotspare ")) {
            let name = line.split_whitespace().nth(1).expect("a command");
            assert!(Cli::command().find_subcommand(name).is_some(), "{line}");
        }
    }
}
