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
    super::print(&String::from_utf8_lossy(&script))
}
