//! Lays out the page of `hotspare --help`: examples, then one line for each command, grouped by purpose.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::Cli;

/// Purposes, and the commands for each. A command that is in no group is listed under [`REST`].
const GROUPS: [(&str, &[&str]); 5] = [
    ("Begin", &["init", "demo", "run", "install", "uninstall"]),
    ("Look", &["status", "why", "logs", "usage", "notices", "statusline"]),
    ("Find out", &["doctor", "outage", "drill", "explain", "help"]),
    ("Steer", &["switch", "reset", "profile", "hook", "config", "trust", "untrust"]),
    ("Serve", &["serve", "service", "env"]),
];

/// The last group: what is not sorted.
const REST: &str = "More";

/// Columns of a command's name.
const NAME: usize = 12;

const HEAD: &str = "\
Keeps Claude Code working when its API does not

Usage: hotspare [COMMAND] [OPTIONS]

Examples:
  hotspare init            find what you have, name a spare, set it up
  hotspare demo            three failovers with simulated providers, no account
  hotspare run claude      protect one session; nothing is installed
  hotspare status          who serves now, and why
  hotspare why             how the last exchange went
";

const FOOT: &str = "
`hotspare help COMMAND` says more; -V, --version prints the version";

/// The command line as it is, for whoever lays it out otherwise.
pub(crate) fn plain_command() -> clap::Command {
    Cli::command()
}

/// The command line with that page.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let page = page(&command);
    command.override_help(page)
}

fn page(command: &clap::Command) -> String {
    let shown: Vec<&clap::Command> = command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
    let sorted = |name: &str| GROUPS.iter().any(|(_, members)| members.contains(&name));
    let rest: Vec<&str> = shown.iter().map(|one| one.get_name()).filter(|name| !sorted(name)).collect();
    let groups = GROUPS.iter().map(|(label, members)| (*label, members.to_vec())).chain([(REST, rest)]);
    let mut page = HEAD.to_owned();
    for (label, members) in groups {
        let _ = writeln!(page, "\n{label}:");
        for one in members.iter().filter_map(|name| shown.iter().find(|one| one.get_name() == *name)) {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(page, "  {:NAME$}{about}", one.get_name());
        }
    }
    page + FOOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_a_line_for_each_command() {
        let mut command = command();
        let page = command.render_help().to_string();
        let long: Vec<&str> = page.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:#?}");
        for name in Cli::command().get_subcommands().filter(|one| !one.is_hide_set()).map(clap::Command::get_name) {
            let lines = page.lines().filter(|line| line.starts_with(&format!("  {name} "))).count();
            assert_eq!(lines, 1, "`{name}` has no line of its own:\n{page}");
        }
        for line in page.lines().filter(|line| line.starts_with("  hotspare ")) {
            let name = line.split_whitespace().nth(1).expect("a command");
            assert!(Cli::command().find_subcommand(name).is_some(), "{line}");
        }
    }
}
