//! The look-ups before a notice comes: the owner and the plan, the registrations, the credentials.
//!
//! Invariant: the look-ups run at the start, spread by jitter, and rarely again. A failed one is tried again with
//! growing pauses, and holds nothing up. In the two minutes the same look-ups serve for what is still unknown.

use std::time::{Duration, SystemTime};

use super::fleets::{Tidied, denied_reads, tidy};
use super::gap::Planned;
use super::look_up::find_plan;
use super::parties::Parties;
use super::registrations::{
    self, add_delays, add_served_zones, find_registrations, presume_registrations, renew_delays,
};
use crate::cloud::Aws;
use crate::cloud::elb::{FoundRegistrations, ScanSpeed};
use crate::core::config::TargetGroups;
use crate::core::model::{Registration, TargetGroupArn};
use crate::core::plan::{FleetRequest, Plan};
use crate::core::retry::Failure;

pub(super) struct RoundInput {
    pub(super) parties: Parties,
    pub(super) dry_run: bool,
    /// The registrations of the last round: their groups need not be described again.
    pub(super) known: Vec<Registration>,
    /// The groups in which this instance was found, also those that are not known in full: see [`Preparation::groups`].
    pub(super) groups: Vec<TargetGroupArn>,
    /// The plan chooses the successor's zone: see [`Preparation::chooses_zones`].
    pub(super) chooses_zones: bool,
    /// The delays of what is known are asked for again: see [`Rounds::renews_delays`].
    pub(super) renews_delays: bool,
}

/// The result of one round of look-ups.
pub(super) struct Findings {
    pub(super) credentials: Result<Option<Duration>, Failure>,
    pub(super) plan: Planned,
    /// The hooks of its large group were not asked for.
    pub(super) hooks_put_off: bool,
    /// The registrations in the groups listed, the owner's and those known; `None` where there are no such groups.
    pub(super) registrations: Option<Result<FoundRegistrations, Failure>>,
    pub(super) delays: Result<Delays, Failure>,
    /// The reads of the fleet that IAM denies, each in a sentence; `None` where it was not asked.
    pub(super) denied_reads: Option<Vec<String>>,
    /// The remains on the fleet that were found and put right.
    pub(super) tidied: Result<Tidied, Failure>,
}

/// The deregistration delays that a round has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delays {
    /// The delays that were not known.
    Added,
    /// All delays.
    Renewed,
}

/// One round: credentials first, because everything else needs them.
pub(super) async fn prepare(asked: RoundInput) -> Findings {
    let RoundInput { parties, dry_run, known, groups, renews_delays, .. } = &asked;
    let Parties { aws, identity, config, tempo, .. } = parties;
    let credentials = renew_credentials(aws).await;
    let plan = find_plan(parties).await;
    let named = plan.plan.as_ref().map(Plan::owners_target_groups).unwrap_or_default();
    // A registration that only a scan has found is never presumed: the scan knows the ports.
    let is_named = groups.iter().all(|arn| named.contains(arn));
    let groups = groups_to_ask(groups, named);
    let listed = config.target_groups != TargetGroups::Discover;
    let puts_off = tempo.puts_off(plan.plan.as_ref().and_then(Plan::fellows));
    let is_presumed = puts_off
        && known.is_empty()
        && (listed || is_named)
        && plan.plan.as_ref().is_some_and(|plan| plan.is_in_service(identity));
    let mut registrations = match listed || !groups.is_empty() {
        true if is_presumed => {
            let presume = || presume_registrations(parties, groups.clone());
            Some(parties.patiently(presume).await)
        }
        true => {
            let find = || find_registrations(parties, Some(groups.clone()), known);
            Some(parties.patiently(find).await)
        }
        false => None,
    };
    let mut delays = Ok(Delays::Added);
    if let Some(Ok(found)) = registrations.as_mut().filter(|_| !puts_off) {
        delays = match renews_delays {
            true => renew_delays(parties, found).await.map(|()| Delays::Renewed),
            false => add_delays(parties, found).await.map(|()| Delays::Added),
        };
    }
    if let (Some(plan), Some(Ok(found))) = (&plan.plan, &mut registrations)
        && plan.chooses_zones(config)
        && !is_presumed
    {
        add_served_zones(aws, found).await;
    }
    let tidied = match &plan.plan {
        // A fleet that replaces by itself counts too: a scheduled event raises it all the same.
        Some(Plan::Fleet { kind, fleet, .. }) if !dry_run => tidy(aws, *kind, fleet).await,
        _ => Ok(Tidied::Nothing),
    };
    let denied_reads = match &plan.plan {
        Some(Plan::Fleet { kind, fleet, how: FleetRequest::Raise }) if !puts_off => {
            Some(denied_reads(aws, identity, *kind, fleet).await)
        }
        _ => None,
    };
    let hooks_put_off = puts_off && matches!(plan.plan, Some(Plan::Group { .. }));
    Findings { credentials, plan, hooks_put_off, registrations, delays, denied_reads, tidied }
}

/// The groups to ask: those in which this instance was found, and those that its owner names.
pub(super) fn groups_to_ask(found: &[TargetGroupArn], named: &[TargetGroupArn]) -> Vec<TargetGroupArn> {
    found.iter().chain(named.iter().filter(|arn| !found.contains(arn))).cloned().collect()
}

/// Scans all target groups of the account, leaving its ELB API to others (keikoproj/lifecycle-manager#35).
pub(super) async fn scan(asked: RoundInput, speed: ScanSpeed) -> Result<FoundRegistrations, Failure> {
    let mut found = registrations::scan(&asked.parties, speed, &asked.known).await?;
    if speed.puts_off {
        return Ok(found);
    }
    add_delays(&asked.parties, &mut found).await?;
    if asked.chooses_zones {
        add_served_zones(&asked.parties.aws, &mut found).await;
    }
    Ok(found)
}

/// Renews the credentials and returns how long they last, `None` for ever.
pub(super) async fn renew_credentials(aws: &Aws) -> Result<Option<Duration>, Failure> {
    let expiry = aws.credentials.renew().await?;
    let now = SystemTime::from(aws.clock.now());
    Ok(expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default()))
}
