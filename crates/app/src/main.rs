//! The binary `hotspare`: reads the command line and hands over. Never does the work itself.

mod authority;
mod background;
mod claude;
mod cli;
mod commands;
mod destination;
mod error;
mod folder_hooks;
mod found;
mod gateways;
mod notices;
mod output;
mod processes;
mod state;
mod verdict;
mod way;
mod wiring;
mod words;

use std::process::ExitCode;

use clap::FromArgMatches;
use clap_complete::CompleteEnv;

use crate::cli::hook::HookCommand;
use crate::cli::{Cli, Command};
use crate::error::CliError;

fn main() -> ExitCode {
    // A shell that completes a command line calls us with this variable; it ends the process then.
    CompleteEnv::with_factory(cli::plain_command).var(cli::COMPLETE_VARIABLE).complete();
    // clap prints usage errors itself and exits with 2.
    let cli = Cli::from_arg_matches(&cli::command().get_matches()).unwrap_or_else(|error| error.exit());
    protect_memory();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            output::talk(&error.to_string());
            ExitCode::from(error.code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        None => commands::bare(),
        Some(Command::Init(init)) => commands::init::init(&init),
        Some(Command::Run(run)) => commands::run::run(run),
        Some(Command::Serve(serve)) => commands::serve::serve(&serve),
        Some(Command::Status(status)) => commands::status::status(&status),
        Some(Command::Statusline(statusline)) => Ok(commands::statusline::statusline(&statusline)),
        Some(Command::Reset(reset)) => commands::control::reset(&reset),
        Some(Command::Switch(switch)) => commands::control::switch(&switch),
        Some(Command::Why(why)) => commands::why::why(&why),
        Some(Command::Logs(logs)) => commands::logs::logs(&logs),
        Some(Command::Notices(notices)) => commands::notices::notices(&notices),
        Some(Command::Usage(usage)) => commands::usage::usage(&usage),
        Some(Command::Doctor(doctor)) => commands::doctor::doctor(&doctor),
        Some(Command::Outage(outage)) => commands::outage::outage(&outage),
        Some(Command::Drill(drill)) => commands::drill::drill(&drill),
        Some(Command::Profile(profile)) => commands::profile::profile(profile),
        Some(Command::Hook(HookCommand::SessionStart)) => commands::session_start::session_start(),
        Some(Command::Hook(HookCommand::Prompt)) => commands::session_start::prompt(),
        Some(Command::Hook(HookCommand::Folder)) => commands::session_folder::folder(),
        Some(Command::Hook(HookCommand::Sweep)) => commands::session_start::sweep(),
        Some(Command::Hook(HookCommand::Test(test))) => commands::hook::test(&test),
        Some(Command::Config(config)) => commands::config::config(config),
        Some(Command::Trust { folder }) => commands::trust::trust(folder),
        Some(Command::Untrust { folder }) => commands::trust::untrust(folder),
        Some(Command::Demo) => commands::demo::demo(),
        Some(Command::Explain(explain)) => commands::explain::explain(&explain),
        Some(Command::Help { words }) => commands::help::help(&words),
        Some(Command::Completions(completions)) => commands::manual::completions(&completions),
        Some(Command::Man(man)) => commands::manual::man(&man),
        Some(Command::Version(version)) => commands::manual::version(&version),
        Some(Command::Install(install)) => commands::install::install(&install),
        Some(Command::Uninstall(uninstall)) => commands::uninstall::uninstall(&uninstall),
        Some(Command::Service(service)) => commands::service::service(&service),
        Some(Command::Env(arguments)) => commands::env::env(&arguments),
        Some(Command::Schema { of }) => commands::schema::schema(of),
    }
}

/// Credentials pass through this process: none of them shall end in a core dump (security.md T9).
#[cfg(target_os = "linux")]
fn protect_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // Best effort: a kernel that refuses it changes nothing else.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(not(target_os = "linux"))]
fn protect_memory() {}
