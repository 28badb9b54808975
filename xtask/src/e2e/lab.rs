//! The real client as users have it: Anthropic's own hosts, nonessential traffic and telemetry on. A network namespace with loopback alone
//! keeps everything on this machine; where none can be had, the lab is left out with the reason.

mod account;
mod answers;
mod differences;
mod hosts;
mod impatient;
mod namespace;
mod parity;
mod provider;
mod side_traffic;
mod uninstalled;
mod user;

use super::cases::Mode;
use super::world::Tools;
use super::{MODES, Run};

pub(super) use namespace::{Entered, enter, is_inside};

/// As the report has it.
fn label(mode: Mode) -> &'static str {
    match mode {
        Mode::Print => "-p lab",
        Mode::Interactive => "interactive lab",
    }
}

/// Every case of the lab.
pub(super) fn table(tools: &Tools) -> Vec<Run<'_>> {
    let mut table = Vec::new();
    for case in side_traffic::CASES {
        table.push(Run::new(case.name, label(Mode::Interactive), side_traffic::run(tools, case)));
    }
    for mode in MODES {
        table.push(Run::new(parity::NAME, label(mode), parity::run(tools, mode)));
        table.push(Run::new(account::NAME, label(mode), account::run(tools, mode)));
        table.push(Run::new(answers::NAME_DIRECT, label(mode), answers::run_direct(tools, mode)));
        table.push(Run::new(answers::NAME, label(mode), answers::run(tools, mode)));
        table.push(Run::new(impatient::NAME, label(mode), impatient::run(tools, mode)));
        table.push(Run::new(uninstalled::NAME, label(mode), uninstalled::run(tools, mode)));
    }
    table
}
