//! The owner, as far as permissions go. It comes from a plan, from the tags if AWS could not be asked, or from a kind
//! of owner alone.

use std::collections::{BTreeMap, BTreeSet};

use super::arn_scope::ArnScope;
use super::launch_source::LaunchSource;
use crate::core::config::{Config, ScheduledEvents};
use crate::core::model::{CapacityUnit, TargetGroupArn};
use crate::core::plan::{
    Clue, FleetKind, FleetRequest, GroupRequest, LaunchPlan, ORIGIN_FLEET_TAG, Plan, asks_launch_instances,
    may_launch_first, template,
};

/// The call that tells which zones the load balancers serve. It is needed where the successor's zone can be chosen.
pub(super) const ZONES_OF_LOAD_BALANCERS: &str = "elasticloadbalancing:DescribeLoadBalancers";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerNeeds {
    Group(GroupNeeds),
    Fleet(FleetNeeds),
    Launch(LaunchNeeds),
    Nobody,
}

/// The needs of an Auto Scaling group. A group that is only observed needs neither `detach` nor `terminate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNeeds {
    /// `None`: any.
    pub arn: Option<String>,
    pub detach: bool,
    pub terminate: bool,
    /// The group is asked for one more before this instance leaves.
    pub launch: bool,
    /// The zone of that one more is chosen among several.
    pub chooses_zones: bool,
    /// It has termination hooks.
    pub hooks: bool,
    /// It has launching hooks: if they are abandoned, the group replaces a member that is not in service yet.
    pub launch_hooks: bool,
    /// We register the successor in some target group, because the group does not.
    pub registers_successor: bool,
    /// The source of the group's launches, for LaunchInstances.
    pub source: LaunchSource,
}

/// A fleet of type `maintain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetNeeds {
    pub kind: FleetKind,
    /// `None`: any.
    pub id: Option<String>,
    /// Its capacity is raised; otherwise it is observed.
    pub raise: bool,
    /// Its members count by the memory of their types.
    pub counts_memory: bool,
    pub registers_successor: bool,
}

/// CreateFleet, from a launch template or from those of a fleet that does not replace by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchNeeds {
    /// The look-ups of the owner and its pools.
    pub reads: Vec<&'static str>,
    pub source: LaunchSource,
}

/// A kind of owner, as a person names it where nothing else is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    AutoScalingGroup,
    /// A fleet of type `maintain`.
    Ec2Fleet,
    /// A fleet of type `maintain`.
    SpotFleet,
    /// An EC2 Fleet of type `instant` or `request`: neither replaces an instance.
    Ec2FleetInstant,
    SpotFleetRequest,
    LaunchTemplate,
    DrainOnly,
}

impl OwnerKind {
    /// Each kind by its name on the command line, with a word on it.
    pub const ALL: [(&str, &str, OwnerKind); 7] = [
        ("auto-scaling-group", "An Auto Scaling group", OwnerKind::AutoScalingGroup),
        ("ec2-fleet", "An EC2 Fleet of type maintain", OwnerKind::Ec2Fleet),
        ("spot-fleet", "A Spot Fleet of type maintain", OwnerKind::SpotFleet),
        ("ec2-fleet-instant", "An EC2 Fleet of type instant or request", OwnerKind::Ec2FleetInstant),
        ("spot-fleet-request", "A Spot Fleet of type request", OwnerKind::SpotFleetRequest),
        ("launch-template", "A launch template alone", OwnerKind::LaunchTemplate),
        ("drain-only", "Nobody launches a successor", OwnerKind::DrainOnly),
    ];
}

impl OwnerNeeds {
    /// Everything that this kind of owner may need, whatever its settings.
    pub fn of_kind(kind: OwnerKind, config: &Config) -> OwnerNeeds {
        match kind {
            OwnerKind::AutoScalingGroup => any_group(None, config),
            OwnerKind::Ec2Fleet => any_fleet(FleetKind::Ec2, None),
            OwnerKind::SpotFleet => any_fleet(FleetKind::Spot, None),
            OwnerKind::Ec2FleetInstant => launch(of_fleet(FleetKind::Ec2), config),
            OwnerKind::SpotFleetRequest => launch(of_fleet(FleetKind::Spot), config),
            OwnerKind::LaunchTemplate => launch(of_template(), config),
            OwnerKind::DrainOnly => OwnerNeeds::Nobody,
        }
    }

    /// The owner as the tags tell it, where AWS could not be asked for the rest: everything that an owner of this kind
    /// may need.
    pub fn of_clue(clue: &Clue, scope: &ArnScope, config: &Config) -> OwnerNeeds {
        match clue {
            Clue::AutoScalingGroup(name) => any_group(Some(scope.group(name)), config),
            Clue::Fleet(kind, id) => any_fleet(*kind, Some(id.clone())),
            Clue::LaunchTemplate(_) => launch(of_template(), config),
            Clue::Nobody(_) => OwnerNeeds::Nobody,
        }
    }

    /// Exactly what this plan needs. `registered_in` are the target groups of this instance.
    pub fn of_plan(plan: &Plan, registered_in: &[TargetGroupArn], config: &Config) -> OwnerNeeds {
        let by_us = |owners: &[TargetGroupArn]| registered_in.iter().any(|arn| !owners.contains(arn));
        match plan {
            Plan::Group { group, how } => OwnerNeeds::Group(GroupNeeds {
                arn: Some(group.arn.clone()).filter(|arn| !arn.is_empty()),
                detach: how.all(group, config).contains(&GroupRequest::Detach),
                terminate: how.all(group, config).contains(&GroupRequest::Terminate),
                launch: asks_launch_instances(config, *how) && group.launches_none_first().is_none(),
                chooses_zones: plan.chooses_zones(config),
                hooks: !group.termination_hooks.is_empty(),
                launch_hooks: !group.launch_hooks.is_empty(),
                registers_successor: by_us(&group.target_groups),
                source: LaunchSource { subnets: group.subnets.clone(), ..LaunchSource::default() },
            }),
            Plan::Fleet { kind, fleet, how } => OwnerNeeds::Fleet(FleetNeeds {
                kind: *kind,
                id: Some(fleet.id.clone()),
                raise: *how == FleetRequest::Raise || config.watch.scheduled_events == ScheduledEvents::HandOver,
                counts_memory: fleet.unit == CapacityUnit::MemoryMib,
                registers_successor: by_us(&fleet.target_groups),
            }),
            Plan::Launch(launch) => OwnerNeeds::Launch(of_launch_plan(launch, plan.chooses_zones(config))),
            Plan::Nobody { .. } => OwnerNeeds::Nobody,
        }
    }

    pub(super) fn registers_successor(&self) -> bool {
        match self {
            OwnerNeeds::Group(group) => group.registers_successor,
            OwnerNeeds::Fleet(fleet) => fleet.registers_successor,
            OwnerNeeds::Launch(_) => true,
            OwnerNeeds::Nobody => false,
        }
    }

    /// The source of the launches that this policy has to allow.
    pub fn source_mut(&mut self) -> Option<&mut LaunchSource> {
        match self {
            OwnerNeeds::Group(group) => Some(&mut group.source),
            OwnerNeeds::Launch(launch) => Some(&mut launch.source),
            OwnerNeeds::Fleet(_) | OwnerNeeds::Nobody => None,
        }
    }
}

/// Lists the reads of the owner that the tags name, if the plan asks another owner or nobody. Every round makes them,
/// and the plan itself does not show them.
pub fn reads_on_the_way(
    clue: &Clue,
    tags: &BTreeMap<String, String>,
    plan: &Plan,
    config: &Config,
) -> Vec<&'static str> {
    let second = Clue::second_owner(tags, &config.successor);
    let mut reads = match second.as_ref().unwrap_or(clue) {
        Clue::AutoScalingGroup(_) if second.is_some() => Vec::new(),
        Clue::AutoScalingGroup(_) => vec!["autoscaling:DescribeAutoScalingGroups"],
        Clue::Fleet(FleetKind::Ec2, _) => vec!["ec2:DescribeFleets"],
        Clue::Fleet(FleetKind::Spot, _) => vec!["ec2:DescribeSpotFleetRequests"],
        Clue::LaunchTemplate(_) | Clue::Nobody(_) => Vec::new(),
    };
    // A template whose plan is nobody belongs to a Spot request that launches again by itself.
    let template = match clue {
        Clue::LaunchTemplate(_) => true,
        Clue::Fleet(..) => template(tags, &config.successor).is_some(),
        Clue::AutoScalingGroup(_) | Clue::Nobody(_) => false,
    };
    if matches!(plan, Plan::Nobody { .. }) && template {
        reads.push("ec2:DescribeSpotInstanceRequests");
    }
    reads
}

/// The Auto Scaling group that the tags name, if somebody else is asked for a successor. Its hooks are completed all
/// the same when it terminates this instance.
pub fn held_by(clue: &Clue, tags: &BTreeMap<String, String>, config: &Config) -> Option<String> {
    match (clue, Clue::group(tags)?) {
        (Clue::AutoScalingGroup(_), _) => None,
        (_, Clue::AutoScalingGroup(name)) => Some(name).filter(|_| config.watch.lifecycle),
        _ => None,
    }
}

impl GroupNeeds {
    /// Tells whether the configuration asks for serving on until the successor does, which takes LaunchInstances. By
    /// default this instance serves on only where that takes no permission to launch.
    pub fn launches_first(&self) -> bool {
        self.launch && (self.detach || self.terminate)
    }
}

fn any_group(arn: Option<String>, config: &Config) -> OwnerNeeds {
    let launch = asks_launch_instances(config, GroupRequest::Detach);
    OwnerNeeds::Group(GroupNeeds {
        arn,
        detach: true,
        terminate: true,
        launch,
        chooses_zones: may_launch_first(config, GroupRequest::Detach),
        hooks: true,
        launch_hooks: true,
        registers_successor: true,
        source: LaunchSource::default(),
    })
}

fn any_fleet(kind: FleetKind, id: Option<String>) -> OwnerNeeds {
    OwnerNeeds::Fleet(FleetNeeds { kind, id, raise: true, counts_memory: true, registers_successor: true })
}

fn launch(mut reads: Vec<&'static str>, config: &Config) -> OwnerNeeds {
    reads.extend((config.successor.subnets.len() > 1).then_some(ZONES_OF_LOAD_BALANCERS));
    let chosen = config.successor.launch_template.as_ref().map(|choice| choice.id_or_name.clone());
    let source = LaunchSource {
        templates: chosen.into_iter().filter(|id| id.starts_with("lt-")).collect(),
        subnets: config.successor.subnets.clone(),
        ..LaunchSource::default()
    };
    OwnerNeeds::Launch(LaunchNeeds { reads, source })
}

fn of_fleet(kind: FleetKind) -> Vec<&'static str> {
    match kind {
        // AWS forgets an instant fleet after a while; then its members' template is looked at.
        FleetKind::Ec2 => ["ec2:DescribeFleets", ZONES_OF_LOAD_BALANCERS].into_iter().chain(of_template()).collect(),
        FleetKind::Spot => vec![
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:DescribeSpotFleetRequests",
            "ec2:DescribeSubnets",
            ZONES_OF_LOAD_BALANCERS,
        ],
    }
}

/// The reads for a template. What it names decides how it is launched. The Spot request of this instance is read
/// because one of type `persistent` launches again by itself.
fn of_template() -> Vec<&'static str> {
    vec!["ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSpotInstanceRequests", "ec2:DescribeSubnets"]
}

fn of_launch_plan(plan: &LaunchPlan, chooses_zones: bool) -> LaunchNeeds {
    let templates: BTreeSet<&str> = plan.launch_configurations().map(|it| it.template.id_or_name.as_str()).collect();
    let origin = plan.attempts.iter().find_map(|attempt| attempt.tags.get(ORIGIN_FLEET_TAG));
    let mut reads = match origin {
        Some(id) => of_fleet(FleetKind::of_id(id)),
        None => std::iter::once(ZONES_OF_LOAD_BALANCERS).chain(of_template()).collect(),
    };
    reads.retain(|action| *action != ZONES_OF_LOAD_BALANCERS || chooses_zones);
    // A template that is known by its name only stands for any id.
    let all_ids = templates.iter().all(|template| template.starts_with("lt-"));
    let source = LaunchSource {
        templates: templates.iter().filter(|_| all_ids).map(|id| (*id).to_owned()).collect(),
        subnets: launched_into(plan, &BTreeMap::new()),
        ..LaunchSource::default()
    };
    LaunchNeeds { reads, source }
}

/// The subnets into which a plan may launch; empty: any. A pool without a subnet goes into its template's own, which is
/// told by the template's id or name where it is known.
pub fn launched_into(plan: &LaunchPlan, own_subnets: &BTreeMap<String, String>) -> Vec<String> {
    let subnets = plan.launch_configurations().flat_map(|configuration| {
        let own = own_subnets.get(&configuration.template.id_or_name);
        let of_pools = configuration.overrides.iter().map(move |pool| pool.subnet_id.as_ref().or(own));
        let of_template = configuration.overrides.is_empty().then_some(own);
        of_pools.chain(of_template)
    });
    let subnets: Option<BTreeSet<String>> = subnets.map(Option::<&String>::cloned).collect();
    subnets.unwrap_or_default().into_iter().collect()
}
