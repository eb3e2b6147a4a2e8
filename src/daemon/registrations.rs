//! The look-ups of registrations: where this instance is a target, and which zones its load balancers serve.
//!
//! They serve before a notice comes and, for what is still unknown, in the two minutes. Nothing here is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::debug;

use super::gap::patiently;
use super::parties::Parties;
use crate::cloud::Aws;
use crate::cloud::elb::{FoundRegistrations, ScanSpeed, SearchScope, UnclearReason};
use crate::core::config::{Config, ListedTargetGroup, TargetGroups};
use crate::core::model::{Identity, Registration, TargetGroupArn};
use crate::core::plan;
use crate::core::retry::Failure;
use crate::host::connections::connections;

/// Looks for registrations in the groups that the configuration lists; else in those given; else everywhere.
pub(crate) async fn find_registrations(
    asked: &Parties,
    among: Option<Vec<TargetGroupArn>>,
    known: &[Registration],
) -> Result<FoundRegistrations, Failure> {
    let among = scope(&asked.config, among);
    let found = asked.aws.elb.find_registrations(&asked.identity, &among, known).await?;
    let mut found = by_own_vpc(asked, &among, found).await;
    found.awaits_more = match &among {
        SearchScope::Configured(listed) => listed.iter().any(|entry| is_awaited(entry, &found)),
        SearchScope::These(arns) => arns.iter().any(|arn| is_group_awaited(arn, &found)),
        SearchScope::Everything => false,
    };
    Ok(listened_for(found).await)
}

/// Presumes that this instance is a target of the groups that the configuration lists, else of those given, in which
/// its owner registers its launches. Target health is asked later, and in the two minutes for the proof.
pub(super) async fn presume_registrations(
    asked: &Parties,
    among: Vec<TargetGroupArn>,
) -> Result<FoundRegistrations, Failure> {
    asked.aws.elb.presumed_registrations(&asked.identity, &scope(&asked.config, Some(among))).await
}

/// Adds this instance as a target of each group that is named and does not hold it: it may have left some of them.
pub(super) async fn add_left(
    asked: &Parties,
    among: Option<Vec<TargetGroupArn>>,
    found: &mut FoundRegistrations,
) -> Result<(), Failure> {
    let scope = scope(&asked.config, among);
    if !found.awaits_more || scope == SearchScope::Everything {
        return Ok(());
    }
    let presumed = asked.aws.elb.presumed_registrations(&asked.identity, &scope).await?.registrations;
    let registered = found.registrations.iter().map(|it| it.target_group.clone());
    let known: BTreeSet<TargetGroupArn> = registered.chain(found.unclear_groups()).collect();
    let left = presumed.into_iter().filter(|it| !known.contains(&it.target_group));
    found.registrations.extend(left);
    Ok(())
}

fn scope(config: &Config, among: Option<Vec<TargetGroupArn>>) -> SearchScope {
    match (&config.target_groups, among) {
        (TargetGroups::Listed(listed), _) => SearchScope::Configured(listed.clone()),
        (TargetGroups::Discover, Some(arns)) => SearchScope::These(arns),
        (TargetGroups::Discover, None) => SearchScope::Everything,
    }
}

/// Tells whether the entry's group exists, and this instance is not registered there as the entry says.
fn is_awaited(entry: &ListedTargetGroup, found: &FoundRegistrations) -> bool {
    let is_at_port = |it: &Registration| entry.port.is_none_or(|port| it.ports().contains(&port));
    let is_there = found.registrations.iter().any(|it| entry.names(&it.target_group) && is_at_port(it));
    let is_unclear = found.unclear.iter().any(|(group, doubt)| !doubt.is_open() && entry.names(group));
    !is_there && !is_unclear && !found.missing.contains(&entry.arn_or_name)
}

/// Tells whether the group exists, and this instance is not registered in it.
fn is_group_awaited(arn: &TargetGroupArn, found: &FoundRegistrations) -> bool {
    let unclear = found.unclear.iter().filter(|(_, doubt)| !doubt.is_open()).map(|(group, _)| group);
    let is_known = found.registrations.iter().map(|it| &it.target_group).chain(unclear);
    !is_known.into_iter().any(|known| known == arn) && !found.gone.contains(arn)
}

/// Asks for the deregistration delays that were not asked for yet. After the first that fails the others stay unasked.
pub(crate) async fn add_delays(asked: &Parties, found: &mut FoundRegistrations) -> Result<(), Failure> {
    while let Some(arn) = found.without_delay.last().cloned() {
        read_delay(asked, found, &arn).await?;
        found.without_delay.pop();
    }
    Ok(())
}

/// Asks for the deregistration delays of all these groups: somebody may have changed known ones. After the first that
/// fails the others stay as they were.
pub(super) async fn renew_delays(asked: &Parties, found: &mut FoundRegistrations) -> Result<(), Failure> {
    let groups = found.registrations.iter().map(|it| it.target_group.clone());
    let known: Vec<TargetGroupArn> = groups.filter(|arn| !found.without_delay.contains(arn)).collect();
    add_delays(asked, found).await?;
    for arn in known {
        read_delay(asked, found, &arn).await?;
    }
    Ok(())
}

async fn read_delay(asked: &Parties, found: &mut FoundRegistrations, arn: &TargetGroupArn) -> Result<(), Failure> {
    let delay = patiently(&asked.identity, || asked.aws.elb.deregistration_delay(arn)).await?;
    let here = found.registrations.iter_mut().filter(|it| it.target_group == *arn);
    here.for_each(|it| it.deregistration_delay = delay);
    Ok(())
}

/// Looks for registrations in every target group of the account and region.
pub(super) async fn scan(
    asked: &Parties,
    speed: ScanSpeed,
    known: &[Registration],
) -> Result<FoundRegistrations, Failure> {
    let found = asked.aws.elb.scan(&asked.identity, speed, known).await?;
    Ok(listened_for(by_own_vpc(asked, &SearchScope::Everything, found).await).await)
}

/// Finds the ports in service on which nobody listens here: redirected, or served by another network namespace.
async fn listened_for(mut found: FoundRegistrations) -> FoundRegistrations {
    match connections(found.in_service.clone(), Duration::ZERO).await {
        Ok(connections) => found.unheard = found.in_service.difference(&connections.listening).copied().collect(),
        Err(error) => debug!("the kernel does not tell who listens: {error}"),
    }
    found
}

/// Asks EC2 for this instance's VPC and IPv6 addresses where the metadata does not tell them. Where EC2 does not
/// either, a target that may be this instance stays in doubt.
async fn by_own_vpc(asked: &Parties, among: &SearchScope, mut found: FoundRegistrations) -> FoundRegistrations {
    let (in_doubt, others): (Vec<_>, Vec<_>) = found
        .unclear
        .into_iter()
        .partition(|(_, doubt)| matches!(doubt, UnclearReason::Vpc | UnclearReason::Addresses));
    found.unclear = others;
    let groups: Vec<TargetGroupArn> = in_doubt.iter().map(|(target_group, _)| target_group.clone()).collect();
    let again = async || {
        let (vpc_id, addresses) = asked.aws.ec2.place_of(&asked.identity.instance_id).await.ok()??;
        let told = Identity { vpc_id: Some(vpc_id), ipv6_addresses: Some(addresses), ..asked.identity.clone() };
        let identity = asked.identity.clone().completed_by(&told);
        asked.aws.elb.find_registrations(&identity, &only(among, &groups), &[]).await.ok()
    };
    match if groups.is_empty() { None } else { again().await } {
        Some(again) => {
            found.registrations.extend(again.registrations);
            found.unclear.extend(again.unclear);
            found.unserved.extend(again.unserved);
            found.in_service.extend(again.in_service);
            found.is_in_some |= again.is_in_some;
            found.without_delay.extend(again.without_delay);
        }
        None => found.unclear.extend(in_doubt),
    }
    found
}

/// Narrows the search to these groups.
fn only(among: &SearchScope, groups: &[TargetGroupArn]) -> SearchScope {
    let is_one = |entry: &&ListedTargetGroup| groups.iter().any(|group| entry.names(group));
    match among {
        SearchScope::Configured(entries) => SearchScope::Configured(entries.iter().filter(is_one).cloned().collect()),
        SearchScope::These(_) | SearchScope::Everything => SearchScope::These(groups.to_vec()),
    }
}

/// The zones in which the load balancers of these registrations serve a successor; `None` where any zone will do.
pub(crate) async fn find_served_zones(
    aws: &Aws,
    registrations: &[Registration],
) -> Result<Option<BTreeSet<String>>, Failure> {
    let arns: BTreeSet<String> = registrations.iter().flat_map(|it| it.load_balancers.iter().cloned()).collect();
    if arns.is_empty() {
        return Ok(None);
    }
    let zones_of = aws.elb.zones_of_load_balancers(&arns).await?;
    Ok(plan::served_zones(registrations, &zones_of))
}

/// Adds the zones that the load balancers serve. A successor in any zone is better than none.
pub(super) async fn add_served_zones(aws: &Aws, found: &mut FoundRegistrations) {
    match find_served_zones(aws, &found.registrations).await {
        Ok(zones) => found.served_zones = zones,
        Err(failure) => found.untold_zones = Some(failure),
    }
}
