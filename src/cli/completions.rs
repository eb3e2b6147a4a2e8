//! `spot-relay completions SHELL`: what a shell offers after `spot-relay` and Tab, from the command line's definitions.

use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::{Shell, generate};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For which shell
    #[arg(value_enum)]
    shell: For,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let shell = match arguments.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut super::visible(), "spot-relay", &mut script);
    // clap_complete spells a program's name with a hyphen in two ways, and bash then offers nothing after a command
    // (clap-rs/clap#6421). In one way it is found.
    let script = String::from_utf8_lossy(&script).replace("spot__subcmd__relay", "spot__relay");
    super::print(script.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
