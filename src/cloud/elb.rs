//! Elastic Load Balancing (ELBv2): target groups, and this instance in them.
//!
//! It says what AWS says: that a target has left is for the caller to conclude. Invariant: a target is always named by
//! id *and* port, because AWS answers 200 to a port left out and does nothing (chaostoolkit/chaostoolkit-aws#60).

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    ProtocolEnum, TargetDescription, TargetGroup, TargetHealthDescription, TargetHealthStateEnum, TargetTypeEnum,
};

use super::{Caller, MOST_PAGES, next};
use crate::core::model::{Identity, Registration, Target, TargetGroupArn, TargetHealth, TargetState, TargetType};
use crate::core::retry::{Failure, FailureKind, fraction, seed};

/// What a target group has unless it was changed (its attribute `deregistration_delay.timeout_seconds`); taken where
/// IAM lets nobody read it.
pub const DEFAULT_DEREGISTRATION_DELAY: Duration = Duration::from_secs(300);

/// Between two calls of a scan: four a second of the account's ten.
const SCAN_PAUSE: Duration = Duration::from_millis(250);
/// The most that DescribeTargetGroups lists at once.
const PAGE_SIZE: i32 = 400;
/// Asked for by name or ARN, as many at once.
const BATCH: usize = 20;

#[derive(Clone, Debug)]
pub struct Elb {
    client: Client,
    caller: Caller,
}

/// Where registrations are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Among {
    /// In these, each named by its ARN or its name: from the configuration or the owner.
    Listed(Vec<String>),
    /// In every target group of the account and region, at most four calls a second.
    Everything,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub registrations: Vec<Registration>,
    /// Those of [`Among::Listed`] that do not exist.
    pub missing: Vec<String>,
}

/// A target group, as far as it matters here. AWS lets nobody change either of the last two.
#[derive(Clone, Debug)]
struct Group {
    arn: TargetGroupArn,
    target_type: TargetType,
    network: bool,
    /// On which a target is registered that names none.
    port: Option<u16>,
}

/// A target group as it is named in the configuration, with a port where it is not the group's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub arn_or_name: String,
    pub port: Option<u16>,
}

impl Elb {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// AWS answers success for targets that are not there, too: only the health proves anything.
    pub async fn deregister_targets(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        limit: Duration,
    ) -> Result<(), Failure> {
        let call = self.client.deregister_targets().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(targets.iter().map(description).collect()));
        self.caller.call(limit, call.send()).await.map(drop)
    }

    /// AWS wants the instance `running`, otherwise it answers `InvalidTarget`.
    pub async fn register_targets(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        limit: Duration,
    ) -> Result<(), Failure> {
        let call = self.client.register_targets().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(targets.iter().map(description).collect()));
        self.caller.call(limit, call.send()).await.map(drop)
    }

    /// Every target of the group.
    pub async fn describe_target_health(
        &self,
        target_group: &TargetGroupArn,
        limit: Duration,
    ) -> Result<Vec<TargetHealth>, Failure> {
        let call = self.client.describe_target_health().target_group_arn(target_group.as_str());
        let answer = self.caller.call(limit, call.send()).await?;
        Ok(answer.target_health_descriptions().iter().filter_map(target_health).collect())
    }

    /// These targets alone; one that is in the group no more is `unused`.
    pub async fn describe_target_health_of(
        &self,
        target_group: &TargetGroupArn,
        targets: &[Target],
        limit: Duration,
    ) -> Result<Vec<TargetHealth>, Failure> {
        let call = self.client.describe_target_health().target_group_arn(target_group.as_str());
        let call = call.set_targets(Some(targets.iter().map(description).collect()));
        let answer = self.caller.call(limit, call.send()).await?;
        Ok(answer.target_health_descriptions().iter().filter_map(target_health).collect())
    }

    /// This instance's registrations, in whatever state: by instance id in `instance` groups, by private address in `ip`
    /// groups. Groups of `known` are not described again, only asked for their targets. Each call has `limit`. Any
    /// failure ends the search.
    pub async fn find_registrations(
        &self,
        identity: &Identity,
        among: &Among,
        known: &[Registration],
        limit: Duration,
    ) -> Result<Found, Failure> {
        let (groups, missing) = match among {
            Among::Listed(listed) => self.listed_groups(listed, known, limit).await?,
            Among::Everything => (self.all_groups(limit).await?, Vec::new()),
        };
        let mut registrations = Vec::new();
        for group in groups {
            if *among == Among::Everything {
                tokio::time::sleep(pause(identity, &group)).await;
            }
            registrations.extend(self.registration(identity, group, known, limit).await?);
        }
        Ok(Found { registrations, missing })
    }

    /// This instance as it is to be registered in each of these groups, and the groups that cannot hold it: there is none of
    /// that name, or it is of another type than `instance` and `ip`. One registration a group, with every port named.
    pub async fn registrations_to_make(
        &self,
        identity: &Identity,
        wanted: &[Wanted],
        limit: Duration,
    ) -> Result<(Vec<Registration>, Vec<String>), Failure> {
        let mut names: Vec<String> = wanted.iter().map(|wanted| wanted.arn_or_name.clone()).collect();
        names.sort();
        names.dedup();
        let (groups, mut missing) = self.listed_groups(&names, &[], limit).await?;
        let mut registrations = Vec::new();
        for group in groups {
            let of_this = |it: &&Wanted| it.arn_or_name == group.arn.as_str() || it.arn_or_name == group.arn.name();
            let ports = wanted.iter().filter(of_this).filter_map(|wanted| wanted.port.or(group.port));
            let id = match group.target_type {
                TargetType::Instance => identity.instance_id.to_string(),
                TargetType::Ip => identity.private_ip.clone(),
            };
            let target = |port| Target { id: id.clone(), port, availability_zone: None };
            let mut targets: Vec<Target> = ports.map(target).collect();
            targets.sort();
            targets.dedup();
            if targets.is_empty() {
                missing.push(group.arn.name().to_owned());
                continue;
            }
            let deregistration_delay = self.deregistration_delay(&group.arn, limit).await?;
            let Group { arn, target_type, network, .. } = group;
            registrations.push(Registration { target_group: arn, target_type, targets, deregistration_delay, network });
        }
        let found = |name: &String| {
            let is_it = |it: &Registration| it.target_group.as_str() == name || it.name() == name;
            registrations.iter().any(is_it) || missing.contains(name)
        };
        let unusable: Vec<String> = names.iter().filter(|name| !found(name)).cloned().collect();
        missing.extend(unusable);
        Ok((registrations, missing))
    }

    async fn listed_groups(
        &self,
        listed: &[String],
        known: &[Registration],
        limit: Duration,
    ) -> Result<(Vec<Group>, Vec<String>), Failure> {
        let (mut groups, mut missing) = (BTreeMap::new(), Vec::new());
        let (mut arns, mut names) = (Vec::new(), Vec::new());
        for named in listed {
            let is_arn = named.starts_with("arn:");
            match known.iter().find(|known| if is_arn { known.target_group.as_str() } else { known.name() } == named) {
                Some(known) => drop(groups.insert(known.target_group.clone(), Group::from(known))),
                None if is_arn => arns.push(named.clone()),
                None => names.push(named.clone()),
            }
        }
        for asked in arns.chunks(BATCH).chain(names.chunks(BATCH)) {
            for group in self.describe_some(asked, &mut missing, limit).await? {
                groups.insert(group.arn.clone(), group);
            }
        }
        Ok((groups.into_values().collect(), missing))
    }

    /// AWS refuses a whole list for one group that is not there and does not say which, so then each is asked alone.
    async fn describe_some(
        &self,
        asked: &[String],
        missing: &mut Vec<String>,
        limit: Duration,
    ) -> Result<Vec<Group>, Failure> {
        match self.describe_target_groups(asked, limit).await {
            Err(failure) if is_missing(&failure) => {}
            answer => return answer,
        }
        let mut groups = Vec::new();
        for one in asked {
            match self.describe_target_groups(std::slice::from_ref(one), limit).await {
                Ok(found) => groups.extend(found),
                Err(failure) if is_missing(&failure) => missing.push(one.clone()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(groups)
    }

    /// `asked` are ARNs or names, not both. What is neither `instance` nor `ip` is passed over.
    async fn describe_target_groups(&self, asked: &[String], limit: Duration) -> Result<Vec<Group>, Failure> {
        let call = self.client.describe_target_groups();
        let call = match asked.first() {
            Some(first) if first.starts_with("arn:") => call.set_target_group_arns(Some(asked.to_vec())),
            _ => call.set_names(Some(asked.to_vec())),
        };
        let answer = self.caller.call(limit, call.send()).await?;
        Ok(answer.target_groups().iter().filter_map(group).collect())
    }

    async fn all_groups(&self, limit: Duration) -> Result<Vec<Group>, Failure> {
        let (mut groups, mut marker) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.client.describe_target_groups().page_size(PAGE_SIZE).set_marker(marker);
            let answer = self.caller.call(limit, call.send()).await?;
            groups.extend(answer.target_groups().iter().filter_map(group));
            marker = next(answer.next_marker());
            if marker.is_none() {
                break;
            }
            tokio::time::sleep(SCAN_PAUSE).await;
        }
        Ok(groups)
    }

    async fn registration(
        &self,
        identity: &Identity,
        group: Group,
        known: &[Registration],
        limit: Duration,
    ) -> Result<Option<Registration>, Failure> {
        let id = match group.target_type {
            TargetType::Instance => identity.instance_id.as_str(),
            TargetType::Ip => &identity.private_ip,
        };
        let targets = match self.describe_target_health(&group.arn, limit).await {
            // Deleted since it was described.
            Err(failure) if is_missing(&failure) => return Ok(None),
            targets => targets?,
        };
        let mut targets: Vec<Target> =
            targets.into_iter().map(|health| health.target).filter(|target| target.id == id).collect();
        if targets.is_empty() {
            return Ok(None);
        }
        targets.sort();
        let deregistration_delay = match known.iter().find(|known| known.target_group == group.arn) {
            Some(known) => known.deregistration_delay,
            None => self.deregistration_delay(&group.arn, limit).await?,
        };
        let Group { arn, target_type, network, .. } = group;
        Ok(Some(Registration { target_group: arn, target_type, targets, deregistration_delay, network }))
    }

    async fn deregistration_delay(&self, arn: &TargetGroupArn, limit: Duration) -> Result<Duration, Failure> {
        let call = self.client.describe_target_group_attributes().target_group_arn(arn.as_str());
        let answer = match self.caller.call(limit, call.send()).await {
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

impl From<&Registration> for Group {
    fn from(known: &Registration) -> Self {
        Self { arn: known.target_group.clone(), target_type: known.target_type, network: known.network, port: None }
    }
}

fn is_missing(failure: &Failure) -> bool {
    failure.has_code(&["TargetGroupNotFound", "TargetGroupNotFoundException"])
}

/// A scan's pause before one group, spread by instance so that a fleet that starts together does not ask together.
fn pause(identity: &Identity, group: &Group) -> Duration {
    SCAN_PAUSE + SCAN_PAUSE.mul_f64(fraction(seed(&format!("{} {}", identity.instance_id, group.arn))))
}

fn group(group: &TargetGroup) -> Option<Group> {
    let target_type = match group.target_type() {
        Some(TargetTypeEnum::Instance) => TargetType::Instance,
        Some(TargetTypeEnum::Ip) => TargetType::Ip,
        _ => return None,
    };
    let network = !matches!(group.protocol(), Some(ProtocolEnum::Http | ProtocolEnum::Https));
    let port = group.port().and_then(|port| u16::try_from(port).ok());
    Some(Group { arn: TargetGroupArn::new(group.target_group_arn()?), target_type, network, port })
}

fn description(target: &Target) -> TargetDescription {
    let builder = TargetDescription::builder().id(&target.id).port(target.port.into());
    builder.set_availability_zone(target.availability_zone.clone()).build()
}

fn target_health(described: &TargetHealthDescription) -> Option<TargetHealth> {
    let target = described.target()?;
    let id = target.id()?;
    // AWS refuses a zone for targets named by instance id, even where it was the one to name it.
    let availability_zone = target.availability_zone().filter(|_| !id.starts_with("i-")).map(str::to_owned);
    let health = described.target_health();
    Some(TargetHealth {
        target: Target { id: id.to_owned(), port: u16::try_from(target.port()?).ok()?, availability_zone },
        state: health.and_then(|health| health.state()).map_or_else(|| TargetState::Other(String::new()), state),
        reason: health.and_then(|health| health.reason()).map(|reason| reason.as_str().to_owned()),
    })
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
