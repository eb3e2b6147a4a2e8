//! `spot-relay man`: the manual pages that packages install. spot-relay(8) comes from the command line's definitions,
//! spot-relay.toml(5) from the table of keys, and the remaining text from here.

mod configuration;
mod page;
mod program;

use std::process::ExitCode;

use clap::ValueEnum;

use crate::cli::environment::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// 8: the program; 5: its configuration file
    #[arg(long, value_enum, default_value_t = Section::Eight)]
    section: Section,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    #[value(name = "8")]
    Eight,
    #[value(name = "5")]
    Five,
}

pub(super) fn main(arguments: &Arguments, program: clap::Command) -> anyhow::Result<ExitCode> {
    let page = match arguments.section {
        Section::Eight => program::page(program)?,
        Section::Five => configuration::page(),
    };
    print(page.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
