//! `spot-relay check`: everything that would go wrong in the two minutes, found now; one line each, with the remedy.
//!
//! It changes nothing in AWS: it makes the reads, sends EC2's writes with DryRun, and the others in a form without an
//! effect. Each part has its own time limit, so the check ends even if something does not answer.

mod aws;
mod configuration;
mod directories;
mod finding;
mod group;
mod instance;
mod leave;
mod metadata;
mod other_handlers;
mod owner;
mod permissions;
mod report;
mod target_groups;
mod traffic_sources;

use std::path::Path;
use std::process::ExitCode;

use self::finding::{Finding, Level};
use self::report::{CheckReport, Scope};
use crate::cli::configuration::EXIT_CONFIG;
use crate::cli::environment::{runtime, variable};
use crate::cloud::imds::Imds;
use crate::core::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look at the configuration alone, its template and its hooks: no network; exit code 78 if it is wrong or cannot be read
    #[arg(long)]
    config_only: bool,
}

pub(super) fn main(arguments: &Arguments, named: Option<&Path>) -> anyhow::Result<ExitCode> {
    let scope = if arguments.config_only { Scope::Configuration } else { Scope::Everything };
    let mut report = CheckReport::new(arguments.json, scope);
    let (config, findings) = configuration::look(named);
    report.add(findings)?;
    if let Some(config) = config.filter(|_| !arguments.config_only) {
        let runtime = runtime()?;
        let looked = runtime.block_on(look(&config, &mut report));
        // A disk or a resolver that hangs must not delay the end.
        runtime.shutdown_background();
        looked?;
    }
    let failed = report.end()? == Level::Fail;
    Ok(match failed {
        true if arguments.config_only => ExitCode::from(EXIT_CONFIG),
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Checks first what needs no AWS; then, if the metadata names this instance, the rest.
async fn look(config: &Config, report: &mut CheckReport) -> anyhow::Result<()> {
    report.looking("this machine")?;
    report.add(directories::look())?;
    report.add(other_handlers::look(Path::new("/proc"), Path::new("/etc/ecs/ecs.config")))?;
    report.looking("the metadata service")?;
    let imds = match Imds::new(variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").as_deref()) {
        Ok(imds) => imds,
        Err(error) => return Ok(report.add(vec![metadata::unusable(&error)])?),
    };
    let (findings, known) = metadata::look(&imds).await;
    report.add(findings)?;
    let Some(known) = known else {
        let what = "credentials, permissions, owner, target groups and clock are not looked at: without the metadata it is \
                    not known which instance this is";
        return Ok(report.add(vec![Finding::fail("aws", what).remedy("correct the metadata, then check again")])?);
    };
    aws::look(config, imds, known, report).await
}
