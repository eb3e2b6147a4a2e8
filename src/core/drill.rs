//! A drill before it begins: its steps, its calls, its costs, and the reasons against it, from what a survey found.
//!
//! Invariant: the handover does what is said here; a test of the real binary compares the calls.

use std::collections::BTreeSet;

use crate::core::config::{Leave, When};
use crate::core::handover::{LookedUp, OnNotice, asked_in_a_drill};
use crate::core::incident::{Closed, Incident};
use crate::core::model::{
    AutoScalingGroup, ExcessCapacity, GroupState, Identity, LifeCycle, Registration, TargetHealth,
};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, FleetRequest, GroupRequest, LEAVING_TAG, Plan};

/// The facts before a drill.
#[derive(Clone, Debug)]
pub struct Survey {
    pub identity: Identity,
    pub boot_id: String,
    /// The settings that decide what comes first.
    pub leave: Leave,
    /// The facts that the look-ups found, a plan and registrations among them.
    pub known: LookedUp,
    pub others: Vec<HealthyOthers>,
    /// This instance's Auto Scaling group as it is now.
    pub group_state: Option<GroupState>,
    /// The body of a notice that stands.
    pub notice: Option<String>,
    pub lifecycle_state: Option<String>,
    pub record: Option<Incident>,
    /// Calls of the way back that the policy of this configuration leaves out. With `[survive] then = "stay-out"` there
    /// is no way back but a drill's.
    pub not_in_the_policy: Vec<&'static str>,
}

/// The other targets that serve in a target group. They are none where all of them leave as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthyOthers {
    pub name: String,
    pub healthy: usize,
}

/// The ids of the other targets that get requests; `None` where this instance is out of service: its leaving costs
/// nothing there. A handover counts the same way.
pub(crate) fn others_that_serve(
    registration: &Registration,
    identity: &Identity,
    rows: &[TargetHealth],
) -> Option<BTreeSet<String>> {
    let (ours, others) = registration.divide(identity, rows);
    let serves = ours.iter().any(|row| !row.has_left());
    serves.then(|| others.iter().filter(|row| row.gets_requests()).map(|row| row.target.id.clone()).collect())
}

/// One kind of call that changes something at AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillCall {
    /// The API action, as in `DeregisterTargets`.
    pub action: &'static str,
    /// The things that it acts on, for a person, as in `web: ports 8080, 8081`.
    pub on: String,
    /// Tells whether it is made on the way back.
    pub comes_back: bool,
}

impl Survey {
    /// Tells whether this instance serves on until the successor does.
    fn serves_on(&self) -> bool {
        let drilled = self.known.plan.clone().map(Plan::for_drill);
        !matches!(OnNotice::of(self.leave.when, drilled.as_ref()), OnNotice::AtOnce { .. })
    }

    /// Lists the calls that change something, in order. Each stands once, though some are made several times.
    pub fn calls(&self) -> Vec<DrillCall> {
        let forth = |action, on: String| DrillCall { action, on, comes_back: false };
        let back = |action, on: String| DrillCall { action, on, comes_back: true };
        let registrations: Vec<_> = self.known.registrations.iter().flatten().collect();
        let ports =
            |ports: Vec<String>| format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "));
        let named =
            |it: &&Registration| format!("{}: {}", it.name(), ports(it.ports().iter().map(u16::to_string).collect()));
        // spot-relay knows no server ids, so it registers nobody in such groups.
        let registrable = || registrations.iter().filter(|it| !it.needs_server_id);
        let plan = self.known.plan.as_ref();
        let asked = plan.map(|plan| asks(plan, &self.leave)).unwrap_or_default();
        let mut successor: Vec<DrillCall> = asked.into_iter().map(|(action, on)| forth(action, on)).collect();
        if plan.is_some_and(launches_in_a_drill) {
            let by_owner = plan.map(Plan::owners_target_groups).unwrap_or_default();
            let ours = registrable().filter(|it| !by_owner.contains(&it.target_group));
            successor.extend(ours.map(|it| forth("RegisterTargets", format!("the successor in {}", named(it)))));
        }
        let mut exit: Vec<DrillCall> = registrations.iter().map(|it| forth("DeregisterTargets", named(it))).collect();
        let asked_group = self.group_that_it_leaves().map(|group| &group.name);
        exit.extend(asked_group.map(|name| forth("DetachInstances", format!("this instance, from group {name}"))));
        let (first, then) = if self.serves_on() { (successor, exit) } else { (exit, successor) };
        let mut calls: Vec<DrillCall> = first.into_iter().chain(then).collect();
        calls.push(forth("CreateTags", format!("{LEAVING_TAG} on this instance")));
        calls.extend(asked_group.map(|name| back("AttachInstances", format!("this instance, to group {name}"))));
        calls.extend(registrable().map(|it| back("RegisterTargets", named(it))));
        calls.push(back("DeleteTags", format!("{LEAVING_TAG} on this instance")));
        calls
    }

    /// Lists the steps.
    pub fn steps(&self) -> Vec<String> {
        let names: Vec<&str> = self.known.registrations.iter().flatten().map(|one| one.name()).collect();
        let leave = if names.is_empty() {
            "this instance is in no target group: nothing is left".to_owned()
        } else {
            format!("leave {}, and wait until no request is open", names.join(", "))
        };
        let plan = self.known.plan.as_ref();
        let ask = plan.map(|plan| asked_in_a_drill(plan, self.leave.when)).unwrap_or_default();
        let back = match self.group_that_it_leaves().map(|group| &group.name) {
            Some(name) => format!("attach this instance to group {name} again"),
            None => "nothing to put back at the owner".to_owned(),
        };
        let back = if names.is_empty() { back } else { format!("{back}; register it in {} again", names.join(", ")) };
        let back = format!("then, as soon as the handover is over: {back}, and see it healthy");
        match self.serves_on() {
            true => vec![ask, format!("once the successor is healthy, and early enough to drain: {leave}"), back],
            false => vec![leave, ask, back],
        }
    }

    /// Lists the lasting effects, and how to take them back.
    pub fn costs(&self) -> Vec<String> {
        let fewer =
            "from its leaving to its coming back this instance serves nothing; its hooks run, and the webhook is told"
                .to_owned();
        let stays = match &self.known.plan {
            Some(Plan::Group { group, how }) if how.asks() => Some(format!(
                "its successor stays: one instance more runs and is paid for, and the desired capacity of group {} is one \
                 higher. To take both back: aws autoscaling terminate-instance-in-auto-scaling-group --instance-id SUCCESSOR \
                 --should-decrement-desired-capacity",
                group.name
            )),
            Some(Plan::Fleet { kind, fleet, how: FleetRequest::Raise }) => Some(format!(
                "its successor stays: {kind} {} has one instance more than its target capacity, and it is paid for. To end it: aws \
                 ec2 terminate-instances --instance-ids SUCCESSOR{}",
                fleet.id,
                if fleet.excess == ExcessCapacity::Terminates {
                    format!(
                        ". Until then the fleet keeps what exceeds its target, as its tag {BASE_CAPACITY_TAG} notes; a daemon \
                         puts both right after it"
                    )
                } else {
                    String::new()
                }
            )),
            Some(Plan::Launch(_)) => Some(
                "its successor stays: one instance more runs and is paid for. To end it: aws ec2 terminate-instances \
                 --instance-ids SUCCESSOR"
                    .to_owned(),
            ),
            _ => None,
        };
        let unprotected = self
            .group_that_it_leaves()
            .filter(|group| group.member(&self.identity.instance_id).is_some_and(|member| member.loses_protection));
        let unprotected = unprotected.map(|group| {
            format!(
                "this instance's scale-in protection is lost once it is detached. To set it again: aws autoscaling \
                 set-instance-protection --auto-scaling-group-name {} --instance-ids {} --protected-from-scale-in",
                group.name, self.identity.instance_id
            )
        });
        std::iter::once(fewer).chain(stays).chain(unprotected).chain(self.late_returns()).collect()
    }

    /// Tells which target groups take an address back only when it has drained to the end (docs/aws.md 3).
    fn late_returns(&self) -> impl Iterator<Item = String> {
        let slow = self.known.registrations.iter().flatten().filter(|it| it.drains_to_the_end());
        slow.map(|it| {
            format!(
                "{} takes this instance's address back only after its deregistration delay: it serves nothing there for {} s \
                 at least",
                it.name(),
                it.deregistration_delay.as_secs()
            )
        })
    }

    /// The reasons why there can be no drill now.
    pub fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if let Some(notice) = &self.notice {
            obstacles.push(format!(
                "a real notice stands ({}): the daemon hands over, and has to be started at once if it does not run",
                notice.split_whitespace().collect::<Vec<_>>().join(" ")
            ));
        }
        if let Some(state) = self.lifecycle_state.as_deref().filter(|state| state.trim() == "Terminated") {
            obstacles.push(format!("its Auto Scaling group terminates this instance (lifecycle state {state})"));
        }
        if self.record.as_ref().is_some_and(|record| !record.is_closed()) {
            obstacles.push(
                "the last handover of this instance is not put back yet: start the daemon, which sees to that"
                    .to_owned(),
            );
        }
        if self.record.as_ref().is_some_and(|record| self.stays_out_after(record)) {
            obstacles.push(
                "this instance stays out of its target groups after an earlier handover: register it in all of them, or \
                 reboot it, and it can be drilled again"
                    .to_owned(),
            );
        }
        obstacles
    }

    /// Tells whether this instance was left out after that handover, and nobody has registered it again in every target
    /// group: only this record knows where it was.
    fn stays_out_after(&self, record: &Incident) -> bool {
        let serves = |left: &Registration| {
            self.known.registrations.iter().flatten().any(|it| it.target_group == left.target_group)
        };
        let left = record.registrations.known();
        let is_back = !left.is_empty() && left.iter().all(serves);
        let is_out = matches!(record.closed(), Some(Closed::StayedOut | Closed::Terminated));
        is_out && record.id.boot_id == self.boot_id && !is_back
    }

    /// Lists the reasons against the drill that a person can overrule.
    pub fn objections(&self) -> Vec<String> {
        let alone = self.others.iter().filter(|others| others.healthy == 0);
        let mut objections: Vec<String> = alone
            .map(|others| format!("{} has no other healthy target: its requests would fail", others.name))
            .collect();
        if let (Some(group), Some(current)) = (self.group_that_it_leaves(), &self.group_state)
            && current.desired_capacity >= current.max_size
        {
            objections.push(format!(
                "group {} is as large as it may be (desired capacity {}, MaxSize {}): its successor takes this instance's \
                 place, and this instance could not be attached again",
                group.name, current.desired_capacity, current.max_size
            ));
        }
        if let Some(group) = self.group_that_it_stays_in()
            && group.health_check_type.contains("ELB")
        {
            objections.push(format!(
                "this instance stays a member of group {}, whose health check asks the load balancer: the group may replace it \
                 while it is out of its target groups",
                group.name
            ));
        }
        if !self.not_in_the_policy.is_empty() {
            objections.push(format!(
                "the way back, which a drill always goes, calls {}, and with [survive] then = \"stay-out\" the policy that \
                 spot-relay policy prints does not allow that",
                self.not_in_the_policy.join(" and ")
            ));
        }
        objections
    }

    /// The group that is asked for a successor, and that this instance leaves.
    fn group_that_it_leaves(&self) -> Option<&AutoScalingGroup> {
        match &self.known.plan {
            Some(Plan::Group { group, how }) if how.asks() => Some(group),
            _ => None,
        }
    }

    /// The group that launches by itself: a drill asks it for nothing, and takes nobody out of it.
    fn group_that_it_stays_in(&self) -> Option<&AutoScalingGroup> {
        match &self.known.plan {
            Some(Plan::Group { group, how: GroupRequest::Observe }) => Some(group),
            _ => None,
        }
    }

    /// Lists further remarks.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self
            .known
            .missing
            .iter()
            .map(|name| {
                format!("target-groups names {name}, and there is no such target group: the outcome is partial")
            })
            .collect();
        if let Some(Plan::Group { how: GroupRequest::Terminate, .. }) = &self.known.plan {
            remarks.push(
                "a drill of a group with a termination hook needs autoscaling:DetachInstances and \
                 autoscaling:AttachInstances, which the daemon does not"
                    .to_owned(),
            );
        }
        if self.identity.life_cycle == LifeCycle::OnDemand {
            remarks.push("this is an on-demand instance: AWS gives no Spot notice for it".to_owned());
        }
        remarks
    }
}

/// Tells whether the owner launches a successor in a drill: an owner that launches by itself waits for a real signal.
fn launches_in_a_drill(plan: &Plan) -> bool {
    let observes =
        matches!(plan, Plan::Group { how: GroupRequest::Observe, .. } | Plan::Fleet { how: FleetRequest::Observe, .. });
    plan.has_successor() && !observes
}

/// The calls that ask the owner before anything else, and what each acts on.
fn asks(plan: &Plan, leave: &Leave) -> Vec<(&'static str, String)> {
    match plan {
        Plan::Group { group, how } if how.asks() => match leave.when {
            When::AtOnce => Vec::new(),
            When::Auto => vec![("LaunchInstances", format!("one more in group {}, if AWS allows it", group.name))],
            When::SuccessorHealthy => vec![("LaunchInstances", format!("one more in group {}", group.name))],
        },
        Plan::Fleet { kind, fleet, how: FleetRequest::Raise } => {
            let modify = match kind {
                FleetKind::Ec2 => "ModifyFleet",
                FleetKind::Spot => "ModifySpotFleetRequest",
            };
            vec![
                ("CreateTags", format!("{BASE_CAPACITY_TAG} on {}", fleet.id)),
                (modify, format!("the target capacity of {}: raised, and put back", fleet.id)),
                ("DeleteTags", format!("{BASE_CAPACITY_TAG} on {}", fleet.id)),
            ]
        }
        Plan::Launch(launch) => vec![("CreateFleet", format!("one instance from {}", launch.from))],
        Plan::Group { .. } | Plan::Fleet { .. } | Plan::Nobody { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::handover::tests::identity_of;
    use crate::core::incident::{Phase, Registrations, Start};
    use crate::core::model::{
        BootInstant, IncidentId, InstanceId, Signal, Target, TargetGroupArn, TargetState, TargetType,
    };

    fn in_group(name: &str) -> Registration {
        let arn = format!("arn:aws:elasticloadbalancing:r:1:targetgroup/{name}/0");
        Registration::new(TargetGroupArn::new(arn), TargetType::Instance, Vec::new())
    }

    #[test]
    fn there_is_none_of_an_instance_that_stays_out_and_serves_nothing() {
        let survey = |how: Closed, serves: &[&str], boot_id: &str| {
            let id =
                IncidentId { instance_id: InstanceId::new("i-us"), boot_id: "boot".into(), action: None, number: 0 };
            let mut record = Incident::new(id, Signal::Notice, BootInstant::default(), Start::default());
            record.registrations = Registrations::SoFar(vec![in_group("web")]);
            record.phase = Phase::Closed(how);
            let serves = serves.iter().map(|name| in_group(name)).collect();
            Survey {
                identity: identity_of("i-us"),
                boot_id: boot_id.into(),
                leave: Leave::default(),
                known: LookedUp { registrations: Some(serves), ..LookedUp::default() },
                others: Vec::new(),
                group_state: None,
                notice: None,
                lifecycle_state: None,
                record: Some(record),
                not_in_the_policy: Vec::new(),
            }
        };
        let is_refused = |survey: Survey| !survey.obstacles().is_empty();
        assert!(is_refused(survey(Closed::StayedOut, &[], "boot")));
        assert!(is_refused(survey(Closed::StayedOut, &["api"], "boot")), "its place in web would be forgotten");
        assert!(!is_refused(survey(Closed::StayedOut, &["web"], "boot")), "somebody has registered it again");
        assert!(!is_refused(survey(Closed::StayedOut, &[], "next boot")), "it came into service with the boot");
        assert!(is_refused(survey(Closed::Terminated, &[], "boot")), "it has asked for its own end");
        assert!(!is_refused(survey(Closed::Reinstated, &[], "boot")));
    }

    #[test]
    fn others_are_counted_as_a_handover_counts_them() {
        let target = |id: &str| Target { id: id.into(), port: 80 };
        let row = |id: &str, state: TargetState, reason: Option<&str>| TargetHealth {
            target: target(id),
            state,
            reason: reason.map(str::to_owned),
        };
        let mut web = in_group("web");
        (web.target_type, web.targets) = (TargetType::Ip, [target("2001:db8::7")].into_iter().collect());
        let others = |rows: &[TargetHealth]| others_that_serve(&web, &identity_of("i-us"), rows);
        let ours = || row("2001:db8:0:0:0:0:0:7", TargetState::Healthy, None);
        let shifted = row("2001:db8::8", TargetState::Healthy, Some("zonal_shift_active"));
        assert_eq!(others(&[ours(), shifted]), Some(BTreeSet::new()));
        let serves = row("2001:db8::9", TargetState::Healthy, None);
        assert_eq!(others(&[ours(), serves.clone()]), Some(BTreeSet::from(["2001:db8::9".to_owned()])));
        let not_in_use = row("2001:db8::7", TargetState::Unused, Some("Target.NotInUse"));
        assert_eq!(others(&[not_in_use, serves]), None, "it serves nothing there");
    }
}
