//! `spot-relay completions SHELL`: what a shell offers after `spot-relay` and Tab, from the command line's definitions.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::cli::environment::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    shell: Shell,
}

pub(super) fn main(arguments: &Arguments, mut program: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut program, "spot-relay", &mut script);
    // clap_complete spells a name with a hyphen in two ways, and then bash offers nothing after a command
    // (clap-rs/clap#6421). One spelling works.
    let script = String::from_utf8_lossy(&script).replace("spot__subcmd__relay", "spot__relay");
    print(script.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
