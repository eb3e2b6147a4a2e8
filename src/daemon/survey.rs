//! The survey before a drill: everything that the drill goes by is looked up, and nothing is written.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use super::identify::{self, Connected};
use super::log_line::LogLine;
use super::options::Options;
use super::parties::Parties;
use super::preparation::Preparation;
use super::prepare;
use crate::cloud::Aws;
use crate::cloud::clock::Clock;
use crate::cloud::elb::{FoundRegistrations, ScanSpeed};
use crate::cloud::imds::Imds;
use crate::cloud::tally::Tally;
use crate::core::drill::{OtherTargets, Survey};
use crate::core::handover::LookedUp;
use crate::core::model::{Registration, TargetGroupArn};
use crate::core::plan::Plan;
use crate::core::policy;
use crate::core::retry::Failure;
use crate::host::boot;

/// Looks everything up that a drill goes by, and writes nothing.
///
/// # Errors
/// Something that has to be known cannot be found out.
pub async fn survey(options: &Options) -> anyhow::Result<Survey> {
    let imds = Imds::new(options.metadata_endpoint.as_deref()).context("failed to set up the metadata client")?;
    let files = options.files.clone();
    let identity = identify::identity(&imds).await.map_err(anyhow::Error::msg)?;
    let connected = identify::connect_as(&identity, &imds, Clock::default(), files, Tally::default()).await;
    let Connected { aws, record } = connected.map_err(anyhow::Error::msg)?;
    let notice = imds.instance_action().await.context("failed to look whether a notice stands")?.body;
    let lifecycle_state = imds.target_lifecycle_state().await.context("failed to look at the lifecycle state")?.body;
    let (imds, aws, config) = (Arc::new(imds), Arc::new(aws), Arc::new(options.config.clone()));
    let known = find_all(options, Parties::new(aws.clone(), imds, identity.clone(), config)).await?;
    let mut others = Vec::new();
    for registration in known.registrations.iter().flatten() {
        others.push(other_targets(&aws, registration).await.with_context(|| {
            format!(
                "failed to look at the health of {}: whether it can spare this instance is not known",
                registration.name()
            )
        })?);
    }
    let group_state = match &known.plan {
        Some(Plan::Group { group, .. }) => {
            let current = aws.autoscaling.group_state(&group.name).await;
            current.with_context(|| format!("failed to look at group {}", group.name))?
        }
        _ => None,
    };
    let registered_in: Vec<TargetGroupArn> =
        known.registrations.iter().flatten().map(|one| one.target_group.clone()).collect();
    let of_plan = |plan| policy::left_out_of_the_way_back(&options.config, plan, &registered_in);
    let not_in_the_policy = known.plan.as_ref().map(of_plan).unwrap_or_default();
    let boot_id = boot::id();
    Ok(Survey {
        identity,
        boot_id,
        leave: options.config.leave.clone(),
        known,
        others,
        group_state,
        notice,
        lifecycle_state,
        record: record.unwrap_or_default(),
        not_in_the_policy,
    })
}

async fn find_all(options: &Options, parties: Parties) -> anyhow::Result<LookedUp> {
    let asked = |known: Vec<Registration>, chooses_zones: bool| prepare::RoundInput {
        parties: parties.clone(),
        // Only the daemon puts right what is left over on a fleet.
        dry_run: true,
        known,
        groups: Vec::new(),
        chooses_zones,
        renews_delays: false,
    };
    let mut preparation = Preparation::new(options.config.leave.when, boot::now());
    let mut lines = preparation.learn(prepare::prepare(asked(Vec::new(), false)).await, boot::now());
    if preparation.is_scan_due(&options.config, boot::now()).is_some() {
        let known = preparation.known_in_full();
        let began = Instant::now();
        // A drill is of one instance, however many its owner has.
        let speed = ScanSpeed::last_way(None);
        let found: Result<FoundRegistrations, Failure> =
            prepare::scan(asked(known, preparation.chooses_zones(&options.config)), speed).await;
        lines.extend(preparation.scanned(found, began.elapsed(), boot::now()));
    }
    let known = preparation.known();
    if known.plan.is_some() && known.registrations.is_some() {
        return Ok(known);
    }
    let mut failed = lines.into_iter().map(|line| match line {
        LogLine::Info(text) | LogLine::Warn(text) => text,
    });
    anyhow::bail!(
        "{}",
        failed.next_back().unwrap_or_else(|| "this instance's target groups could not be found".to_owned())
    )
}

/// Counts the other targets that serve in a target group.
async fn other_targets(aws: &Aws, registration: &Registration) -> Result<OtherTargets, Failure> {
    let rows = aws.elb.describe_target_health(&registration.target_group, &[], &registration.zone).await?;
    let ours = |id: &str| registration.targets.iter().any(|target| target.id == id);
    let healthy = rows.iter().filter(|row| registration.is_served(row) && !ours(&row.target.id));
    let mut ids: Vec<&str> = healthy.map(|row| row.target.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(OtherTargets { name: registration.name().to_owned(), healthy: ids.len() })
}
