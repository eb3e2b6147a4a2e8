//! The survey before a drill: everything that the drill goes by is looked up, and nothing is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::identify::{self, Connected};
use super::log_line::LogLine;
use super::options::Options;
use super::parties::Parties;
use super::perform;
use super::preparation::Preparation;
use super::prepare;
use crate::cloud::clock::Clock;
use crate::cloud::elb::{FoundRegistrations, ScanSpeed};
use crate::cloud::imds::Imds;
use crate::cloud::tally::Tally;
use crate::core::call::Answer;
use crate::core::drill::{HealthyOthers, Survey, others_that_serve};
use crate::core::handover::{FEW, LookedUp, one_stays, tags_of};
use crate::core::model::{Registration, TargetGroupArn, TargetType};
use crate::core::plan::Plan;
use crate::core::policy;
use crate::core::retry::{Failure, FailureKind};
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
    let asked = Parties::new(aws.clone(), imds, identity.clone(), config);
    let known = find_all(options, asked.clone()).await?;
    let mut others = Vec::new();
    for registration in known.registrations.iter().flatten() {
        others.extend(healthy_others(&asked, registration).await.with_context(|| {
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

/// Counts the other targets that serve in a target group and do not leave as well.
async fn healthy_others(asked: &Parties, registration: &Registration) -> Result<Option<HealthyOthers>, Failure> {
    let rows = asked.aws.elb.describe_target_health(&registration.target_group, &[], &registration.zone).await?;
    let Some(others) = others_that_serve(registration, &asked.identity, &rows) else { return Ok(None) };
    let (name, others) = (registration.name().to_owned(), Vec::from_iter(others));
    let stay = match others.len() {
        1..=FEW => stay(asked, registration.target_type, &others).await?,
        _ => true,
    };
    Ok(Some(HealthyOthers { name, healthy: if stay { others.len() } else { 0 } }))
}

/// Tells whether one of these targets stays, as far as IAM lets us see.
async fn stay(asked: &Parties, target_type: TargetType, others: &[String]) -> Result<bool, Failure> {
    let call = tags_of(target_type, others);
    let limit = call.limit(Duration::MAX, 0);
    match perform::perform(asked.clone(), call, Vec::new(), limit).await {
        Answer::Instances(instances) => Ok(one_stays(target_type, &asked.identity.instance_id, others, &instances)),
        Answer::Failed(failure) if failure.kind != FailureKind::Denied => Err(failure),
        _ => Ok(true),
    }
}
