//! Elastic Load Balancing (ELBv2): target groups, and this instance in them.
//!
//! It reports what AWS says; the caller decides whether a target has left. Invariant: a target is always named by id
//! *and* port. If the port is missing AWS answers 200 and does nothing (chaostoolkit/chaostoolkit-aws#60).

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    ProtocolEnum, TargetDescription, TargetGroup as Described, TargetGroupIpAddressTypeEnum, TargetHealthDescription,
    TargetHealthStateEnum, TargetTypeEnum,
};

mod listed;
mod load_balancers;
mod presumed;
mod scan;
mod unclear;

pub use scan::ScanSpeed;
pub use unclear::UnclearReason;

use super::caller::Caller;
use crate::core::config::ListedTargetGroup;
use crate::core::model::{
    DEFAULT_DEREGISTRATION_DELAY, Identity, Registration, Target, TargetGroupArn, TargetHealth, TargetState,
    TargetType, TargetZone, ZONAL_SHIFTS,
};
use crate::core::ours::{self, ShownTarget, Source, TargetGroup, Whose};
use crate::core::retry::{Failure, FailureKind};

/// The largest page of DescribeTargetGroups (its API model).
const PAGE_SIZE: i32 = 400;
/// The most names or ARNs in one DescribeTargetGroups call: a choice of ours.
const BATCH: usize = 20;
/// After AWS has not answered for more groups than this, the search asks for no others.
const SILENT_AT_MOST: usize = 2;

#[derive(Clone, Debug)]
pub struct Elb {
    client: Client,
    pub(super) caller: Caller,
}

/// The target groups that a search for registrations covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchScope {
    /// The groups that the configuration lists, on the ports that it lists with them.
    Configured(Vec<ListedTargetGroup>),
    /// These groups, which the owner or an earlier search names.
    These(Vec<TargetGroupArn>),
    /// Every target group of the account and region, at four calls a second at most.
    Everything,
}

impl SearchScope {
    fn source(&self) -> Source<'_> {
        match self {
            SearchScope::Configured(entries) => Source::Configuration(entries),
            SearchScope::These(_) => Source::Owner,
            SearchScope::Everything => Source::Discovery,
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundRegistrations {
    pub registrations: Vec<Registration>,
    /// The groups of [`SearchScope::Configured`] that do not exist.
    pub missing: Vec<String>,
    /// The groups of [`SearchScope::These`] that do not exist any more.
    pub gone: Vec<TargetGroupArn>,
    /// The groups in which this instance may be registered, and why that is not known.
    pub unclear: Vec<(TargetGroupArn, UnclearReason)>,
    /// Groups whose load balancers do not serve this instance's zone: it is registered there, but gets no requests.
    pub unserved: Vec<TargetGroupArn>,
    /// Groups of these registrations whose deregistration delay was not read: they have the default.
    pub without_delay: Vec<TargetGroupArn>,
    /// Target health was not read ([`Elb::presumed_registrations`]).
    pub is_presumed: bool,
    /// The zones that the load balancers serve, if the successor's zone can be chosen; `None` where any zone will do.
    pub served_zones: Option<BTreeSet<String>>,
    /// The reason why these zones are not known.
    pub untold_zones: Option<Failure>,
    /// Some group of the search, or a port of it, does not hold this instance yet.
    pub awaits_more: bool,
    /// Target health shows this instance in some group, and not on its way out of it.
    pub is_in_some: bool,
    /// The ports on which this instance is healthy in some group.
    pub in_service: BTreeSet<u16>,
    /// The ports of `in_service` on which nobody listens in this network namespace. The caller fills this in.
    pub unheard: BTreeSet<u16>,
}

impl FoundRegistrations {
    pub fn unclear_groups(&self) -> Vec<TargetGroupArn> {
        self.unclear.iter().map(|(target_group, _)| target_group.clone()).collect()
    }

    /// Keeps the group's known or presumed registration, and marks the group as unclear.
    fn doubt(&mut self, identity: &Identity, candidate: Candidate<'_>, source: Source<'_>, reason: UnclearReason) {
        let Candidate { group, known } = candidate;
        match known {
            Some(known) => self.registrations.push(known.clone()),
            None => self.presume(identity, &group, source),
        }
        self.unclear.push((group.arn, reason));
    }

    /// Presumes this instance a target of the group, if the owner or the configuration names the group.
    fn presume(&mut self, identity: &Identity, group: &TargetGroup, source: Source<'_>) {
        if let Some(registration) = ours::presumed(identity, group, source) {
            self.without_delay.push(group.arn.clone());
            self.registrations.push(registration);
        }
    }
}

/// A group, with its registration from an earlier search.
struct Candidate<'a> {
    group: TargetGroup,
    known: Option<&'a Registration>,
}

impl Elb {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// Calls DeregisterTargets. AWS answers success for absent targets, too: only target health is proof.
    pub async fn deregister_targets(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        zone: &TargetZone,
    ) -> Result<(), Failure> {
        let call = self.client.deregister_targets().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(descriptions(targets, zone)));
        self.caller.accepted(call.send()).await
    }

    /// Calls RegisterTargets. If the instance is not `running` AWS answers `InvalidTarget`.
    pub async fn register_targets(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        zone: &TargetZone,
    ) -> Result<(), Failure> {
        let call = self.client.register_targets().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(descriptions(targets, zone)));
        self.caller.accepted(call.send()).await
    }

    /// The health of these targets, a row each: a target that is not in the group is `unused`. An empty list means
    /// every target of the group.
    pub async fn describe_target_health(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        zone: &TargetZone,
    ) -> Result<Vec<TargetHealth>, Failure> {
        let rows = self.health(target_group, descriptions(targets, zone)).await?;
        Ok(rows.into_iter().map(|(health, _)| health).collect())
    }

    /// The health of these targets, each with the zone that AWS shows.
    async fn health(
        &self,
        target_group: &TargetGroupArn,
        targets: Vec<TargetDescription>,
    ) -> Result<Vec<(TargetHealth, Option<String>)>, Failure> {
        let call = self.client.describe_target_health().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(targets).filter(|targets| !targets.is_empty()));
        let answer = self.caller.call(call.send()).await?;
        Ok(answer.target_health_descriptions().iter().filter_map(target_health).collect())
    }

    /// This instance's registrations, in any state: by instance id, or by private address in `ip` groups of its VPC.
    /// For groups in `known` it reads the targets only. A group for which AWS does not answer becomes unclear, and
    /// delays no other group.
    pub async fn find_registrations(
        &self,
        identity: &Identity,
        among: &SearchScope,
        known: &[Registration],
    ) -> Result<FoundRegistrations, Failure> {
        if *among == SearchScope::Everything {
            return self.scan(identity, ScanSpeed::last_way(None), known).await;
        }
        let mut found = FoundRegistrations::default();
        let groups = self.groups(among, known, &mut found).await?;
        let source = among.source();
        let mut silent = 0;
        for group in groups {
            let known = known.iter().find(|known| known.target_group == group.arn);
            // If AWS does not answer for several groups, it will hardly answer for the others.
            if silent > SILENT_AT_MOST {
                let failure = Failure::unanswered("AWS does not tell of the groups before it");
                found.doubt(identity, Candidate { group, known }, source, UnclearReason::Untold(failure));
                continue;
            }
            self.look_into(identity, Candidate { group, known }, source, &mut found).await?;
            // A denial is an answer, and is told of each group.
            let is_silent =
                |why: &UnclearReason| why.to_ask_again().is_some_and(|failure| failure.kind != FailureKind::Denied);
            silent = found.unclear.iter().filter(|(_, reason)| is_silent(reason)).count();
        }
        Ok(found)
    }

    /// The groups to search. Those that do not exist go to `found`.
    async fn groups(
        &self,
        among: &SearchScope,
        known: &[Registration],
        found: &mut FoundRegistrations,
    ) -> Result<Vec<TargetGroup>, Failure> {
        let listed: Vec<String> = match among {
            SearchScope::Everything => return Ok(Vec::new()),
            SearchScope::Configured(entries) => entries.iter().map(|entry| entry.arn_or_name.clone()).collect(),
            SearchScope::These(arns) => arns.iter().map(ToString::to_string).collect(),
        };
        let mut missing = Vec::new();
        let groups = self.listed_groups(&listed, known, &mut missing).await?;
        match among {
            SearchScope::These(_) => found.gone.extend(missing.into_iter().map(TargetGroupArn::new)),
            SearchScope::Configured(_) | SearchScope::Everything => found.missing.extend(missing),
        }
        Ok(groups)
    }

    async fn look_into(
        &self,
        identity: &Identity,
        candidate: Candidate<'_>,
        source: Source<'_>,
        found: &mut FoundRegistrations,
    ) -> Result<(), Failure> {
        let Candidate { group, known } = candidate;
        let rows = match self.health(&group.arn, Vec::new()).await {
            // The group was deleted after it was described.
            Err(failure) if is_missing(&failure) => return Ok(()),
            Err(failure) => {
                found.doubt(identity, Candidate { group, known }, source, doubt_after(failure, source)?);
                return Ok(());
            }
            Ok(rows) => rows,
        };
        let group = with_type_of(identity, group, &rows);
        let shown: Vec<ShownTarget> = rows
            .iter()
            .map(|(health, zone)| ShownTarget { target: health.target.clone(), zone: zone.clone() })
            .collect();
        let mut registration = match ours::whose(identity, &group, source, &shown) {
            Whose::Ours(registration) => *registration,
            Whose::NotOurs => return Ok(()),
            Whose::Unclear => {
                found.unclear.push((group.arn, UnclearReason::Vpc));
                return Ok(());
            }
            Whose::Untold => {
                match known {
                    Some(known) => found.registrations.push(known.clone()),
                    None => found.unclear.push((group.arn, UnclearReason::Addresses)),
                }
                return Ok(());
            }
        };
        let row_of =
            |target: &Target| rows.iter().find(|(health, _)| health.target == *target).map(|(health, _)| health);
        let ours = registration.targets.clone();
        let is_all = |is: &dyn Fn(&TargetHealth) -> bool| ours.iter().filter_map(row_of).all(is);
        if let Some(known) = known {
            registration.zone = known.zone.clone();
        }
        if is_all(&|row| registration.is_unserved(row)) {
            found.unserved.push(group.arn.clone());
        }
        found.is_in_some |= !is_all(&TargetHealth::has_left);
        let is_healthy = |target: &&Target| row_of(target).is_some_and(|row| row.state == TargetState::Healthy);
        found.in_service.extend(ours.iter().filter(is_healthy).map(|target| target.port));
        if let Some(failure) = group.undescribed {
            found.unclear.push((group.arn.clone(), UnclearReason::Undescribed(failure)));
        }
        match known {
            Some(known) => registration.deregistration_delay = known.deregistration_delay,
            None => found.without_delay.push(group.arn.clone()),
        }
        found.registrations.push(registration);
        Ok(())
    }

    /// The deregistration delay of a group; the default where IAM does not let us read it.
    pub async fn deregistration_delay(&self, arn: &TargetGroupArn) -> Result<Duration, Failure> {
        let call = self.client.describe_target_group_attributes().target_group_arn(arn.as_str());
        let answer = match self.caller.call(call.send()).await {
            Err(failure) if failure.kind == FailureKind::Denied => return Ok(DEFAULT_DEREGISTRATION_DELAY),
            answer => answer?,
        };
        let delay = answer
            .attributes()
            .iter()
            .find(|attribute| attribute.key() == Some("deregistration_delay.timeout_seconds"));
        let seconds = delay.and_then(|attribute| attribute.value()?.parse().ok());
        Ok(seconds.map_or(DEFAULT_DEREGISTRATION_DELAY, Duration::from_secs))
    }
}

/// The reason why a group without health is unclear. A failure that concerns other groups, too, ends the search.
fn doubt_after(failure: Failure, source: Source<'_>) -> Result<UnclearReason, Failure> {
    match failure.kind {
        FailureKind::Rejected => Ok(UnclearReason::Refused(failure)),
        FailureKind::Unanswered | FailureKind::Fault => Ok(UnclearReason::Untold(failure)),
        // The owner or the configuration names the group, so its registration can be presumed.
        FailureKind::Denied if source != Source::Discovery => Ok(UnclearReason::Untold(failure)),
        FailureKind::Throttled | FailureKind::Credentials | FailureKind::Denied => Err(failure),
    }
}

/// Sets the type `ip` if a target names this instance by its address, even if the description has no type.
fn with_type_of(identity: &Identity, group: TargetGroup, rows: &[(TargetHealth, Option<String>)]) -> TargetGroup {
    let by_address = rows.iter().any(|(row, _)| identity.is_target(TargetType::Ip, &row.target.id));
    let target_type = if by_address { TargetType::Ip } else { group.target_type };
    TargetGroup { target_type, ..group }
}

fn is_missing(failure: &Failure) -> bool {
    failure.has_code(&["TargetGroupNotFound", "TargetGroupNotFoundException"])
}

/// `None` for a group that holds neither instances nor addresses.
fn group(group: &Described) -> Option<TargetGroup> {
    let target_type = match group.target_type() {
        // The type that CreateTargetGroup gives by default.
        Some(TargetTypeEnum::Instance) | None => TargetType::Instance,
        Some(TargetTypeEnum::Ip) => TargetType::Ip,
        _ => return None,
    };
    Some(TargetGroup {
        arn: TargetGroupArn::new(group.target_group_arn()?),
        target_type,
        ipv6: group.ip_address_type() == Some(&TargetGroupIpAddressTypeEnum::Ipv6),
        network: !matches!(group.protocol(), Some(ProtocolEnum::Http | ProtocolEnum::Https)),
        multiplexed: group.protocol_version().is_some_and(|version| version != "HTTP1"),
        tls: matches!(group.protocol(), Some(ProtocolEnum::Https | ProtocolEnum::Tls)),
        needs_server_id: matches!(group.protocol(), Some(ProtocolEnum::Quic | ProtocolEnum::TcpQuic)),
        vpc_id: group.vpc_id().map(str::to_owned),
        port: group.port().and_then(|port| u16::try_from(port).ok()),
        load_balancers: group.load_balancer_arns().to_vec(),
        undescribed: None,
    })
}

fn descriptions(targets: &[Target], zone: &TargetZone) -> Vec<TargetDescription> {
    let zone = zone.to_send();
    let one = |target: &Target| {
        let builder = TargetDescription::builder().id(&target.id).port(target.port.into());
        builder.set_availability_zone(zone.map(str::to_owned)).build()
    };
    targets.iter().map(one).collect()
}

fn target_health(described: &TargetHealthDescription) -> Option<(TargetHealth, Option<String>)> {
    let target = described.target()?;
    let health = described.target_health();
    let state_of_override = described.administrative_override().and_then(|it| it.state()).map(|state| state.as_str());
    let shift = state_of_override.filter(|state| ZONAL_SHIFTS.contains(state));
    // AWS tells the port of every target but a function's.
    let port = target.port().or_else(|| described.health_check_port()?.parse().ok())?;
    let health = TargetHealth {
        target: Target { id: target.id()?.to_owned(), port: u16::try_from(port).ok()? },
        state: health.and_then(|health| health.state()).map_or_else(|| TargetState::Other(String::new()), state),
        reason: health.and_then(|health| health.reason()).map(|reason| reason.as_str()).or(shift).map(str::to_owned),
    };
    Some((health, target.availability_zone().map(str::to_owned)))
}

fn state(state: &TargetHealthStateEnum) -> TargetState {
    match state {
        TargetHealthStateEnum::Initial => TargetState::Initial,
        TargetHealthStateEnum::Healthy => TargetState::Healthy,
        TargetHealthStateEnum::Unhealthy => TargetState::Unhealthy,
        TargetHealthStateEnum::UnhealthyDraining => TargetState::UnhealthyDraining,
        TargetHealthStateEnum::Draining => TargetState::Draining,
        TargetHealthStateEnum::Unused => TargetState::Unused,
        TargetHealthStateEnum::Unavailable => TargetState::Unavailable,
        other => TargetState::Other(other.as_str().to_owned()),
    }
}
