//! The owner, as far as permissions go: from a plan, from what the tags say where AWS could not be
//! asked, or from a kind of owner alone.

use std::collections::BTreeSet;

use super::{LaunchSource, Place};
use crate::core::config::{Config, ScheduledEvents};
use crate::core::model::TargetGroupArn;
use crate::core::plan::{
    Clue, FleetKind, FleetRequest, GroupRequest, LaunchPlan, ORIGIN_FLEET_TAG, Plan, asks_launch_instances,
};

/// Called where there is a choice: the successor goes where the load balancers serve it.
const ZONES_OF_LOAD_BALANCERS: &str = "elasticloadbalancing:DescribeLoadBalancers";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    Group(GroupMeans),
    Fleet(FleetMeans),
    Launch(LaunchMeans),
    Nobody,
}

/// An Auto Scaling group. One that is observed is neither detached from nor terminated in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMeans {
    /// `None`: any.
    pub arn: Option<String>,
    pub detach: bool,
    pub terminate: bool,
    /// It is asked for one more before this instance leaves.
    pub launch: bool,
    /// It has termination hooks.
    pub hooks: bool,
    /// It has launching hooks: abandoned, they make it replace a member that is not in service yet.
    pub launch_hooks: bool,
    /// We register the successor in some target group, because the group does not.
    pub registers_successor: bool,
    /// What the group launches from, for LaunchInstances.
    pub source: LaunchSource,
}

/// A fleet of type `maintain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetMeans {
    pub kind: FleetKind,
    /// `None`: any.
    pub id: Option<String>,
    /// Its capacity is raised; otherwise it is observed.
    pub raise: bool,
    pub registers_successor: bool,
}

/// CreateFleet, from a launch template or from those of a fleet that does not replace by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchMeans {
    /// The look-ups of the owner and its pools.
    pub reads: Vec<&'static str>,
    pub source: LaunchSource,
}

/// The role that what is launched gets from its template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PassedRole {
    /// It gets none.
    None,
    Named(String),
    #[default]
    Unknown,
}

impl PassedRole {
    /// Stands for a role that is not known: it grants nothing until a person writes the name.
    pub const PLACEHOLDER: &str = "NAME-OF-THE-TEMPLATES-ROLE";
}

/// A kind of owner, as a person names it where nothing else is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AutoScalingGroup,
    /// A fleet of type `maintain`.
    Ec2Fleet,
    /// A fleet of type `maintain`.
    SpotFleet,
    /// Or of type `request`: neither replaces an instance.
    Ec2FleetInstant,
    SpotFleetRequest,
    LaunchTemplate,
    DrainOnly,
}

impl Means {
    /// Everything that this kind of owner may need, whatever its settings.
    pub fn of_kind(kind: Kind, config: &Config) -> Means {
        match kind {
            Kind::AutoScalingGroup => any_group(None, config),
            Kind::Ec2Fleet => any_fleet(FleetKind::Ec2, None),
            Kind::SpotFleet => any_fleet(FleetKind::Spot, None),
            Kind::Ec2FleetInstant => launch(of_fleet(FleetKind::Ec2), config),
            Kind::SpotFleetRequest => launch(of_fleet(FleetKind::Spot), config),
            Kind::LaunchTemplate => launch(of_template(), config),
            Kind::DrainOnly => Means::Nobody,
        }
    }

    /// The owner as the tags tell it, where AWS could not be asked for the rest: everything that an owner of this kind may need.
    pub fn of_clue(clue: &Clue, place: &Place, config: &Config) -> Means {
        match clue {
            Clue::AutoScalingGroup(name) => any_group(Some(place.group(name)), config),
            Clue::Ec2Fleet(id) => any_fleet(FleetKind::Ec2, Some(id.clone())),
            Clue::SpotFleet(id) => any_fleet(FleetKind::Spot, Some(id.clone())),
            Clue::LaunchTemplate(_) => launch(of_template(), config),
            Clue::Nobody(_) => Means::Nobody,
        }
    }

    /// Exactly what this plan needs. `registered_in` are the target groups of this instance.
    pub fn of_plan(plan: &Plan, registered_in: &[TargetGroupArn], config: &Config) -> Means {
        let by_us = |owners: &[TargetGroupArn]| registered_in.iter().any(|arn| !owners.contains(arn));
        match plan {
            Plan::Group { group, how } => Means::Group(GroupMeans {
                arn: Some(group.arn.clone()).filter(|arn| !arn.is_empty()),
                detach: how.all(group, config).contains(&GroupRequest::Detach),
                terminate: how.all(group, config).contains(&GroupRequest::Terminate),
                launch: asks_launch_instances(config, *how),
                hooks: !group.termination_hooks.is_empty(),
                launch_hooks: !group.launch_hooks.is_empty(),
                registers_successor: by_us(&group.target_groups),
                source: LaunchSource { subnets: group.subnets.clone(), ..LaunchSource::default() },
            }),
            Plan::Fleet { kind, fleet, how } => Means::Fleet(FleetMeans {
                kind: *kind,
                id: Some(fleet.id.clone()),
                raise: *how == FleetRequest::Raise || config.watch.scheduled_events == ScheduledEvents::HandOver,
                registers_successor: by_us(&fleet.target_groups),
            }),
            Plan::Launch(plan) => Means::Launch(of_launch_plan(plan)),
            Plan::Nobody { .. } => Means::Nobody,
        }
    }

    pub(super) fn registers_successor(&self) -> bool {
        match self {
            Means::Group(group) => group.registers_successor,
            Means::Fleet(fleet) => fleet.registers_successor,
            Means::Launch(_) => true,
            Means::Nobody => false,
        }
    }

    /// What is launched from by calls that this policy has to allow.
    pub fn source_mut(&mut self) -> Option<&mut LaunchSource> {
        match self {
            Means::Group(group) => Some(&mut group.source),
            Means::Launch(launch) => Some(&mut launch.source),
            Means::Fleet(_) | Means::Nobody => None,
        }
    }
}

impl GroupMeans {
    /// Tells whether the configuration asks for serving on until the successor does, which takes LaunchInstances. By default this
    /// instance serves on only where that takes no permission to launch.
    pub fn launches_first(&self) -> bool {
        self.launch && (self.detach || self.terminate)
    }
}

fn any_group(arn: Option<String>, config: &Config) -> Means {
    let launch = asks_launch_instances(config, GroupRequest::Detach);
    Means::Group(GroupMeans {
        arn,
        detach: true,
        terminate: true,
        launch,
        hooks: true,
        launch_hooks: true,
        registers_successor: true,
        source: LaunchSource::default(),
    })
}

fn any_fleet(kind: FleetKind, id: Option<String>) -> Means {
    Means::Fleet(FleetMeans { kind, id, raise: true, registers_successor: true })
}

fn launch(mut reads: Vec<&'static str>, config: &Config) -> Means {
    reads.extend((config.successor.subnets.len() > 1).then_some(ZONES_OF_LOAD_BALANCERS));
    let chosen = config.successor.launch_template.as_ref().map(|choice| choice.id_or_name.clone());
    let source = LaunchSource {
        templates: chosen.into_iter().filter(|id| id.starts_with("lt-")).collect(),
        subnets: config.successor.subnets.clone(),
        ..LaunchSource::default()
    };
    Means::Launch(LaunchMeans { reads, source })
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

/// The template is read, because what it names decides how it is launched; and the Spot request of this instance, because
/// one of type `persistent` launches again by itself.
fn of_template() -> Vec<&'static str> {
    vec!["ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSpotInstanceRequests", "ec2:DescribeSubnets"]
}

fn of_launch_plan(plan: &LaunchPlan) -> LaunchMeans {
    let configurations = || plan.attempts.iter().flat_map(|attempt| &attempt.launch_configurations);
    let templates: BTreeSet<&str> = configurations().map(|it| it.template.id_or_name.as_str()).collect();
    let pools = configurations().flat_map(|configuration| &configuration.overrides);
    let subnets: BTreeSet<String> = pools.clone().filter_map(|pool| pool.subnet_id.clone()).collect();
    let origin = plan.attempts.iter().find_map(|attempt| attempt.tags.get(ORIGIN_FLEET_TAG));
    let mut reads = match origin {
        Some(id) if id.starts_with("sfr-") => of_fleet(FleetKind::Spot),
        Some(_) => of_fleet(FleetKind::Ec2),
        None => std::iter::once(ZONES_OF_LOAD_BALANCERS).chain(of_template()).collect(),
    };
    reads.retain(|action| *action != ZONES_OF_LOAD_BALANCERS || plan.zones().len() > 1);
    // One that is told by its name stands for any id.
    let all_ids = templates.iter().all(|template| template.starts_with("lt-"));
    // A pool without a subnet goes into its template's.
    let all_subnets = pools.clone().all(|pool| pool.subnet_id.is_some());
    let source = LaunchSource {
        templates: templates.iter().filter(|_| all_ids).map(|id| (*id).to_owned()).collect(),
        subnets: subnets.into_iter().filter(|_| all_subnets).collect(),
        ..LaunchSource::default()
    };
    LaunchMeans { reads, source }
}
