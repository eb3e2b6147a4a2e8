//! Settings of an Auto Scaling group that hinder a handover. They are the decision of the group's owner.

use std::collections::BTreeMap;

use super::finding::Finding;
use crate::cloud::autoscaling::GroupTraits;
use crate::core::config::{Config, Rebalance, Then};
use crate::core::model::{AutoScalingGroup, Registration};
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::{GroupRequest, Plan, asks_launch_instances};
use crate::daemon::Parties;

pub(super) async fn look(parties: &Parties, group: &AutoScalingGroup, how: GroupRequest) -> Vec<Finding> {
    let traits = match parties.aws.autoscaling.group_traits(&group.name).await {
        Ok(traits) => traits.ok_or_else(|| "there is no such group".to_owned()),
        Err(failure) => Err(failure.to_string()),
    };
    let (processes, zones) = match &traits {
        Ok(traits) => (processes(group, how, traits, &parties.config), zones(group, traits)),
        Err(why) => (not_known("group-processes", why), not_known("zones", why)),
    };
    vec![
        capacity_rebalancing(group, how),
        processes,
        zones,
        size(group, how, &parties.config),
        health_check(group, &parties.config),
    ]
}

/// Reports an owner that replaces instances by itself, so spot-relay does not ask it.
pub(super) fn by_itself(check: &'static str, found: String) -> Finding {
    Finding::warn(check, found)
        .meaning(
            "spot-relay does not ask it for a successor, because two would come: it watches for the one that is launched, \
             and a recommendation alone may replace this instance",
        )
        .remedy("nothing, if that is intended; turned off, spot-relay asks at the notice and knows its successor")
}

fn capacity_rebalancing(group: &AutoScalingGroup, how: GroupRequest) -> Finding {
    let name = &group.name;
    match group.capacity_rebalance {
        // Capacity Rebalancing acts on Spot instances only (docs/aws.md 4).
        true if how.asks() => Finding::ok(
            "capacity-rebalancing",
            format!("on, and not for this on-demand instance: group {name} is asked for its successor"),
        ),
        true => by_itself("capacity-rebalancing", format!("group {name} has Capacity Rebalancing on")),
        false => Finding::ok("capacity-rebalancing", format!("off: group {name} launches when it is asked")),
    }
}

fn not_known(check: &'static str, why: &str) -> Finding {
    Finding::warn(check, format!("not known: {why}"))
        .meaning("a suspended process or a setting of the group may be in the way of a handover")
        .remedy("look at the group, or check again")
}

fn processes(group: &AutoScalingGroup, how: GroupRequest, traits: &GroupTraits, config: &Config) -> Finding {
    let name = &group.name;
    let in_the_way = [
        ("Launch", true, "the group launches no successor, asked or not"),
        (
            "AddToLoadBalancer",
            // Other groups do not need it: we register the successor there, or with [arrive] register it does so
            // itself.
            !group.target_groups.is_empty() && !config.arrive.register,
            "the successor is launched and gets no requests from the target groups of its group",
        ),
        (
            "Terminate",
            how == GroupRequest::Terminate,
            "the group does not let this instance go, and launches no successor",
        ),
    ];
    if let Some((process, _, meaning)) = in_the_way.iter().find(|(it, matters, _)| *matters && traits.suspends(it)) {
        return Finding::fail("group-processes", format!("the process {process} of group {name} is suspended"))
            .meaning(*meaning)
            .remedy(format!(
                "aws autoscaling resume-processes --auto-scaling-group-name {name} --scaling-processes {process}"
            ));
    }
    Finding::ok("group-processes", format!("group {name} launches"))
}

/// Checks the zones. If they have unequal numbers of members, AZRebalance takes a member from the fullest.
fn zones(group: &AutoScalingGroup, traits: &GroupTraits) -> Finding {
    let mut members: BTreeMap<&str, usize> = group.availability_zones.iter().map(|zone| (zone.as_str(), 0)).collect();
    for member in &group.members {
        *members.entry(&member.availability_zone).or_default() += 1;
    }
    let (fewest, most) = (members.values().min().copied(), members.values().max().copied());
    let is_uneven = most.unwrap_or_default() > fewest.unwrap_or_default() + 1;
    if traits.balanced_only {
        return Finding::warn("zones", "the group launches in the zone with the fewest members only (balanced-only)")
            .meaning(
                "if AWS has no Spot capacity there, which is likely where it just took an instance, no successor comes",
            )
            .remedy("set its capacity distribution to balanced-best-effort");
    }
    if is_uneven && !traits.suspends("AZRebalance") {
        let found: Vec<String> = members.iter().map(|(zone, count)| format!("{zone}: {count}")).collect();
        return Finding::warn("zones", format!("the group's zones are uneven ({})", found.join(", ")))
            .meaning("its AZRebalance may terminate a member, a successor too, to even them out while this one leaves")
            .remedy(format!(
                "find out why they are; or aws autoscaling suspend-processes --auto-scaling-group-name {} \
                 --scaling-processes AZRebalance",
                group.name
            ));
    }
    Finding::ok("zones", "the group's zones have equal numbers of members, or it does not rebalance them")
}

fn size(group: &AutoScalingGroup, how: GroupRequest, config: &Config) -> Finding {
    let AutoScalingGroup { min_size, max_size, desired_capacity, .. } = group;
    let sizes = format!("minimum {min_size}, desired {desired_capacity}, maximum {max_size}");
    let launches_first = asks_launch_instances(config, how);
    let is_asked = how.all(group, config).into_iter().any(GroupRequest::asks);
    let is_full = desired_capacity >= max_size;
    let raise = format!(
        "raise its maximum to {}: aws autoscaling update-auto-scaling-group --auto-scaling-group-name {} --max-size {}",
        desired_capacity + 1,
        group.name,
        desired_capacity + 1
    );
    if let (true, Some(why)) = (launches_first && is_asked, group.launches_none_first()) {
        return Finding::warn("group-size", why)
            .meaning("at a notice this instance leaves at once; at a recommendation it stays")
            .remedy(
                "make its policy wholly Spot or wholly on demand, give it a launch template alone, or write [leave] when = \
                 \"at-once\"",
            );
    }
    if launches_first && is_asked && is_full {
        return Finding::warn("group-size", format!("the group is full ({sizes})"))
            .meaning("it launches no successor before this instance leaves: on a notice this instance leaves at once")
            .remedy(raise);
    }
    if how == GroupRequest::Detach && is_full && config.survive.then != Then::StayOut {
        return Finding::warn("group-size", format!("the group is full ({sizes})"))
            .meaning("after an interruption that is withdrawn this instance cannot be attached again; it serves outside of it")
            .remedy(raise);
    }
    Finding::ok("group-size", format!("the group can grow ({sizes})"))
}

fn health_check(group: &AutoScalingGroup, config: &Config) -> Finding {
    let kind = &group.health_check_type;
    if kind.contains("ELB") && config.watch.rebalance == Rebalance::HandOver {
        return Finding::warn("group-health-check", format!("the group's health check is {kind}"))
            .meaning(
                "after a handover by recommendation this instance is out of its target groups, which the group may take for \
                 unhealthy: it replaces it a second time",
            )
            .remedy("set the group's health check to EC2, or write [watch] rebalance = \"prepare\"");
    }
    Finding::ok("group-health-check", format!("{kind}: it does not interfere with a handover"))
}

/// Checks the termination hooks. A group drains before it opens them (docs/aws.md 4); an interruption does not wait.
pub(super) fn termination_hooks(plan: Option<&Plan>, registrations: &[Registration]) -> Option<Finding> {
    let Some(Plan::Group { group, .. }) = plan else { return None };
    let hooks: Vec<&str> = group.termination_hooks.iter().map(|hook| hook.name.as_str()).collect();
    let drained = registrations.iter().filter(|it| group.target_groups.contains(&it.target_group));
    let longest = drained.max_by_key(|registration| registration.deregistration_delay)?;
    if hooks.is_empty() {
        return None;
    }
    let (hooks, delay) = (hooks.join(", "), longest.deregistration_delay);
    let found = format!(
        "group {} opens {hooks} after its load balancer has drained, for {} s ({})",
        group.name,
        delay.as_secs(),
        longest.name()
    );
    if delay < TWO_MINUTES {
        return Some(Finding::ok("termination-hook", found));
    }
    Some(
        Finding::warn("termination-hook", found)
            .meaning("on a notice that is after this instance is gone: whatever the hook starts is not done in time")
            .remedy(format!(
                "aws elbv2 modify-target-group-attributes --target-group-arn {} --attributes \
                 Key=deregistration_delay.timeout_seconds,Value=60",
                longest.target_group
            )),
    )
}
