//! `spot-relay demo`: a whole handover to look at, without an AWS account.
//!
//! The daemon is the real one, in its own process, which never outlives this one. The metadata, AWS and the web service
//! that is handed over run in this process, on loopback. The demo tells only what it observed: in the simulated world,
//! in the requests, in the daemon's log.

mod calls;
mod child;
mod facts;
mod stage;
mod story;
mod story_line;
mod web;
mod world;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use stage::{Demo, DemoResult};
use world::DemoOwner;

use crate::cli::environment::runtime;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The kind of owner: it launched the instance, and is asked for its successor
    #[arg(long, value_enum, default_value_t = DemoOwner::AutoScalingGroup)]
    owner: DemoOwner,
    /// A faster world and a less patient daemon: a quarter of a minute instead of a whole one
    #[arg(long)]
    fast: bool,
    /// The demo starts itself with this, and becomes the daemon
    #[arg(long, hide = true, value_name = "CONFIG")]
    daemon: Option<PathBuf>,
}

/// The exit code after a signal, as in a shell (128 and SIGINT).
const EXIT_INTERRUPTED: u8 = 130;

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(config) = &arguments.daemon {
        return Err(child::become_the_daemon(config));
    }
    let ended = runtime()?.block_on(async {
        let mut stage = Demo::set(arguments.owner, arguments.fast).await?;
        stage.play().await
    });
    match ended {
        Ok(DemoResult::Complete) => Ok(ExitCode::SUCCESS),
        Ok(DemoResult::Incomplete) => Ok(ExitCode::FAILURE),
        Ok(DemoResult::Interrupted) => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        // The reader has closed the pipe, as in `spot-relay demo | head`.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
