//! The owner, found as the daemon finds it, and what about it hinders a handover.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::group::{self, by_itself};
use crate::core::config::OwnerChoice;
use crate::core::handover::asked_at_a_notice;
use crate::core::model::LaunchTemplate;
use crate::core::plan::{FleetRequest, LaunchPlan, Plan, crowded_zones};
use crate::core::policy::{held_by, reads_on_the_way};
use crate::core::retry::{Failure, FailureKind};
use crate::daemon::Parties;
use crate::daemon::gap::Gap;
use crate::daemon::look_up;

const POLICY: &str = "allow it: spot-relay policy prints what";

/// The plan, with the reads that found it and that it does not need itself.
pub(super) struct PlanWithReads {
    pub(super) plan: Plan,
    pub(super) on_the_way: Vec<&'static str>,
    pub(super) held_by: Option<String>,
}

/// Checks the owner, and returns the plan if it is found.
pub(super) async fn look(parties: &Parties) -> (Vec<Finding>, Option<PlanWithReads>) {
    let (PlanWithReads { plan, on_the_way, held_by }, gaps) = match find(parties).await {
        Ok(found) => found,
        Err(failure) => return (vec![unknown(&failure)], None),
    };
    let mut findings = vec![of_plan(&plan, parties)];
    // A read that IAM denies is among the permissions.
    findings.extend(gaps.iter().filter(|gap| gap.failure.kind != FailureKind::Denied).map(of_gap));
    match &plan {
        Plan::Group { group, how } => findings.extend(group::look(parties, group, *how).await),
        Plan::Fleet { fleet, how: FleetRequest::Observe, .. } => findings.push(by_itself(
            "fleet-replacement",
            format!("{} replaces instances by itself, by its capacity-rebalance strategy", fleet.id),
        )),
        Plan::Fleet { fleet, how: FleetRequest::Raise, .. } => {
            findings
                .push(Finding::ok("fleet-replacement", format!("{} replaces nothing before it is asked", fleet.id)));
            let remedy =
                format!("aws ec2 delete-tags --resources {} --tags Key=KEY, for one that nobody needs", fleet.id);
            findings.extend(plan.remarks().into_iter().map(|it| Finding::fail("fleet-tags", it).remedy(&remedy)));
        }
        Plan::Launch(launch) => findings.extend(of_launch(parties, launch).await),
        Plan::Nobody { .. } => {}
    }
    (findings, Some(PlanWithReads { plan, on_the_way, held_by }))
}

async fn find(parties: &Parties) -> Result<(PlanWithReads, Vec<Gap>), Failure> {
    let config = &parties.config;
    let tags = look_up::find_tags_or_named(parties).await?;
    let clue = look_up::find_clue(parties, &tags).await?;
    let (plan, gaps) = look_up::plan_of(parties, &tags, clue.clone()).await?;
    let on_the_way = reads_on_the_way(&clue, &tags, &plan, config);
    let held_by = held_by(&clue, &tags, config);
    Ok((PlanWithReads { plan, on_the_way, held_by }, gaps))
}

fn of_gap(gap: &Gap) -> Finding {
    Finding::warn("owner", format!("not known: {gap}"))
        .meaning("a handover goes on without it; the daemon asks for it again and again")
        .remedy(remedy(&gap.failure))
}

pub(super) fn remedy(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::Denied => POLICY,
        FailureKind::Throttled => "AWS throttles the account's calls now: check again later",
        FailureKind::Credentials => "correct the credentials and the clock, then check again",
        _ => "see that AWS's endpoints can be reached from here, then check again",
    }
}

fn unknown(failure: &Failure) -> Finding {
    Finding::fail("owner", format!("who launches a successor is not known: {failure}"))
        .meaning("it is looked for again in the two minutes, and no successor is asked for until it is found")
        .remedy(remedy(failure))
}

fn of_plan(plan: &Plan, parties: &Parties) -> Finding {
    match plan {
        Plan::Nobody { why, .. } if parties.config.successor.owner == OwnerChoice::None => {
            Finding::ok("owner", format!("on a notice: launch no successor: {why}"))
        }
        Plan::Nobody { why, .. } => Finding::warn("owner", format!("nobody launches a successor: {why}"))
            .meaning("this instance leaves its target groups, and nothing takes its place")
            .remedy(
                "run it in an Auto Scaling group or a fleet, name [successor] launch-template, or write owner = \"none\" if \
                 that is intended",
            ),
        plan => {
            Finding::ok("owner", format!("on a notice: {}", asked_at_a_notice(plan, parties.config.leave.when)))
        }
    }
}

async fn of_launch(parties: &Parties, launch: &LaunchPlan) -> Vec<Finding> {
    let mut findings = vec![pools(launch)];
    findings.extend(shared_zones(launch));
    findings.extend(launch.missing.iter().filter(|it| it.has_default).map(|missing| {
        let LaunchTemplate { id_or_name, version } = &missing.template;
        Finding::fail("launch-template", format!("{id_or_name} has no version {version} (any more)"))
            .meaning("the successor is launched from the template's default version, which may be another image")
            .remedy(
                "name a version that is there under [successor] launch-template, or launch the instances anew from one",
            )
    }));
    findings.extend(launch.remarks.iter().map(|remark| {
        Finding::warn("launch", remark.clone())
            .meaning("the successor is launched as described")
            .remedy("nothing, if that is intended; else change the launch template or [successor]")
    }));
    let mut templates: Vec<&LaunchTemplate> =
        launch.launch_configurations().map(|configuration| &configuration.template).collect();
    templates.dedup();
    for template in templates {
        let name = format!("{} ({})", template.id_or_name, template.version);
        findings.push(match parties.aws.ec2.describe_launch_template(template).await {
            Ok(Some(facts)) => {
                let image = facts.image_id.as_deref().unwrap_or("without an image of its own");
                Finding::ok("launch-template", format!("{}, version {}, {image}", facts.id, facts.version))
            }
            Ok(None) => Finding::fail("launch-template", format!("AWS knows no template or version {name}"))
                .meaning("no successor can be launched from it")
                .remedy("correct [successor] launch-template, or create the version"),
            Err(failure) => Finding::warn("launch-template", format!("{name} cannot be read: {failure}"))
                .meaning("the successor is launched from it all the same, by the configuration alone")
                .remedy(remedy(&failure)),
        });
    }
    findings
}

/// Warns of several subnets in one zone: a launch uses only one of them at a time.
fn shared_zones(launch: &LaunchPlan) -> Option<Finding> {
    let zones = launch.pools().filter_map(|pool| Some((pool.subnet_id.clone()?, pool.availability_zone.clone()?)));
    let zone_of_subnet: BTreeMap<String, String> = zones.collect();
    let crowded = crowded_zones(&zone_of_subnet);
    let words = |(zone, subnets): (&str, Vec<&str>)| format!("{} lie in {zone}", subnets.join(" and "));
    let words: Vec<String> = crowded.into_iter().map(words).collect();
    (!words.is_empty()).then(|| {
        Finding::warn("shared-zones", words.join("; "))
            .meaning("AWS refuses two subnets of a zone in one request, so they take turns: the second helps only where the first is full")
            .remedy("name one subnet for each zone under [successor] subnets")
    })
}

fn pools(launch: &LaunchPlan) -> Finding {
    if launch.only_reclaimed {
        return Finding::warn("pools", "the successor can only go where this instance is being taken from")
            .meaning("AWS is short of just that capacity: the launch will likely fail")
            .remedy("name more [successor] subnets or instance-types, or allow on-demand-fallback");
    }
    let zones: BTreeSet<&str> = launch.pools().filter_map(|pool| pool.availability_zone.as_deref()).collect();
    Finding::ok(
        "pools",
        match zones.len() {
            0 => "the launch template says where".to_owned(),
            _ => format!("the successor can go to {}", zones.into_iter().collect::<Vec<_>>().join(", ")),
        },
    )
}
