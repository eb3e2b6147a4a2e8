//! `spot-relay sim`: the demo's world by itself, for other clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::environment::runtime;
use crate::sim;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The world as JSON; without it the demo's
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The address of the metadata service [default: a free port on loopback]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metadata: Option<SocketAddr>,
    /// The address of AWS [default: a free port on loopback]
    #[arg(long, value_name = "ADDRESS:PORT")]
    aws: Option<SocketAddr>,
    /// Serve the metadata of every instance of the world, each on a free port of its own
    #[arg(long)]
    metadata_of_all: bool,
    /// PEM file with the certificate chain under which AWS speaks TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with its key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let settings = match &arguments.settings {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("failed to read {} as a world", path.display()))?
        }
        None => sim::Settings::default(),
    };
    let tls = arguments.tls_certificate.clone().zip(arguments.tls_key.clone());
    let standalone = sim::Standalone {
        metadata: arguments.metadata,
        aws: arguments.aws,
        metadata_of_all: arguments.metadata_of_all,
        tls: tls.map(|(certificate, key)| sim::Tls { certificate, key }),
    };
    runtime()?.block_on(sim::standalone(settings, standalone)).context("failed to serve the simulated world")?;
    Ok(ExitCode::SUCCESS)
}
