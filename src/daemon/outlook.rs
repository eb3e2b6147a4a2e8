//! The outlook: the effect of a notice, as sentences for the log, for `systemctl status` and for the status.
//!
//! Each function knows only its arguments, and says what is not known yet.

use crate::cloud::elb::{FoundRegistrations, UnclearReason};
use crate::core::config::When;
use crate::core::handover::OnNotice;
use crate::core::model::{Registration, TargetGroupArn};
use crate::core::plan::Plan;

/// The end of a sentence: what follows if this machine's connections do not show its requests, and what to do.
const UNSEEN: &str = "spot-relay cannot see the open requests, and waits until the reserve; to end them, let a unit of \
                      spot-relay-drained.target stop the server gracefully";

/// The effect of a notice, as in "deregister from web (ports 80, 81), detach from group shop, which launches the
/// successor".
pub(super) fn on_a_notice(registrations: Option<&[Registration]>, plan: Option<&Plan>, when: When) -> String {
    let leave = match registrations {
        None => "leave the target groups once they are found".to_owned(),
        Some([]) => "leave no target group, because this instance is in none".to_owned(),
        Some(several) => {
            format!("deregister from {}", list(several, |it| format!("{} ({})", it.name(), it.ports_in_words())))
        }
    };
    let Some(plan) = plan else { return format!("{leave}, find out who launches a successor") };
    match OnNotice::of(when, Some(plan)) {
        OnNotice::AtOnce { why } => format!("{leave}, {plan}; at once if another target serves, because {why}"),
        OnNotice::ServeOn => format!(
            "serve on, because the successor comes without taking this instance out: {}; once it is healthy, and early \
             enough to drain, {leave}",
            plan.successor_first()
        ),
        OnNotice::ServeOnIfAllowed => format!(
            "{} (LaunchInstances), serve on until that one is healthy, then {leave}; if AWS refuses LaunchInstances, {leave} \
             at once, if another target serves, and {plan}",
            plan.successor_first()
        ),
    }
}

/// The owner, as in "owner: Auto Scaling group web".
pub(super) fn owner(plan: &Plan) -> String {
    match plan {
        Plan::Group { group, .. } if group.other_traffic_sources.is_empty() => {
            format!("owner: Auto Scaling group {}", group.name)
        }
        Plan::Group { group, .. } => format!(
            "owner: Auto Scaling group {}; its other traffic sources are left to Auto Scaling: {}; requests come from there \
             too, so {UNSEEN}",
            group.name,
            group.other_traffic_sources.join(", ")
        ),
        Plan::Fleet { kind, fleet, .. } => format!("owner: {kind} {}", fleet.id),
        Plan::Launch(launch) => format!("owner: {}", launch.from),
        Plan::Nobody { why, .. } => format!("owner: nobody ({why})"),
    }
}

/// Remarks about the target groups that were looked into, a sentence each.
pub(super) fn doubts(found: &FoundRegistrations) -> Vec<String> {
    let unclear = found.unclear.iter().map(|(target_group, doubt)| {
        let name = target_group.name();
        match doubt {
            UnclearReason::Vpc => format!(
                "{name} holds this instance's address, and neither the metadata nor EC2 tells this instance's VPC: an instance \
                 of another VPC may have the same address, so {name} is left alone; list it in target-groups if it is ours"
            ),
            UnclearReason::Addresses => format!(
                "{name} holds IPv6 addresses, and neither the metadata nor EC2 has told those of this instance: whether it \
                 is in {name} is not known, and is looked into again"
            ),
            UnclearReason::Refused(failure) => {
                format!("AWS does not describe target group {name}, so it is left alone unless this instance is known to be in it: {failure}")
            }
            UnclearReason::Untold(failure) => {
                format!("AWS has not told of target group {name}, which is asked for again (on a notice this instance leaves it on the ports \
                 that are known, if the configuration or the owner names it): {failure}")
            }
            UnclearReason::Undescribed(failure) => {
                format!("IAM denies describing target group {name}: on a notice this instance leaves it on the ports that target \
                 health shows, and waits until the reserve; {failure}")
            }
        }
    });
    let unserved = found.unserved.iter().map(|target_group| {
        format!(
            "this instance is registered in {}, and its zone is enabled for none of the load balancers (Target.NotInUse): it \
             gets no requests there; enable the zone for the load balancer",
            target_group.name()
        )
    });
    let gone = found.gone.iter().map(|target_group| {
        format!(
            "the owner names target group {}, which does not exist any more: spot-relay ignores it",
            target_group.name()
        )
    });
    let multiplexed = found.registrations.iter().filter(|it| it.multiplexed).map(|it| {
        format!(
            "target group {} speaks HTTP/2 or gRPC: many requests share one connection there, so {UNSEEN}",
            it.name()
        )
    });
    let unheard = found.unheard.iter().map(|port| {
        format!(
            "nobody listens on port {port} here although it is in service (it is redirected, or published from a \
             container), so {UNSEEN}"
        )
    });
    let untold_zones = found.untold_zones.iter().map(|failure| {
        format!("the zones that the load balancers serve are not known, so no zone is preferred: {failure}")
    });
    unclear.chain(unserved).chain(gone).chain(multiplexed).chain(unheard).chain(untold_zones).collect()
}

/// The registrations, as in "registered in web (port 80; deregistration delay 300 s)".
/// The delay of the groups in `without_delay` is not known yet.
pub(super) fn registered(registrations: &[Registration], without_delay: &[TargetGroupArn]) -> String {
    if registrations.is_empty() {
        return "registered in no target group".to_owned();
    }
    let one = |it: &Registration| {
        let delay = match without_delay.contains(&it.target_group) {
            true => "not asked for yet".to_owned(),
            false => format!("{} s", it.deregistration_delay.as_secs()),
        };
        format!("{} ({}; deregistration delay {delay})", it.name(), it.ports_in_words())
    };
    format!("registered in {}", list(registrations, one))
}

/// Sorts the list, because every look-up has an order of its own.
fn list(registrations: &[Registration], one: impl Fn(&Registration) -> String) -> String {
    let mut each: Vec<String> = registrations.iter().map(one).collect();
    each.sort_unstable();
    each.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{Target, TargetType};

    fn registration(name: &str, ports: &[u16]) -> Registration {
        let target = |port: &u16| Target { id: "i-us".to_owned(), port: *port };
        Registration::new(
            TargetGroupArn::new(format!("arn:aws:elasticloadbalancing:r:1:targetgroup/{name}/0")),
            TargetType::Instance,
            ports.iter().map(target).collect(),
        )
    }

    fn nobody() -> Plan {
        Plan::nobody("no tag")
    }

    #[test]
    fn a_notice_is_told_in_a_sentence_whatever_is_known() {
        let plan = nobody();
        let say = |registrations: Option<&[Registration]>, plan| on_a_notice(registrations, plan, When::AtOnce);
        assert_eq!(say(None, None), "leave the target groups once they are found, find out who launches a successor");
        assert_eq!(
            say(Some(&[registration("web", &[81, 80]), registration("api", &[9000])]), Some(&plan)),
            "deregister from api (port 9000) and web (ports 80, 81), launch no successor: no tag; at once if another target \
             serves, because [leave] when is \"at-once\""
        );
        assert_eq!(
            say(Some(&[]), Some(&plan)),
            "leave no target group, because this instance is in none, launch no successor: no tag; at once if another \
             target serves, because [leave] when is \"at-once\""
        );
    }

    #[test]
    fn serving_on_says_what_comes_first() {
        let launch = Plan::Launch(crate::core::plan::LaunchPlan {
            from: "launch template lt-1".to_owned(),
            attempts: Vec::new(),
            ..Default::default()
        });
        let say = |plan| on_a_notice(Some(&[registration("web", &[80])]), Some(plan), When::Auto);
        assert_eq!(
            say(&launch),
            "serve on, because the successor comes without taking this instance out: launch the successor from launch \
             template lt-1; once it is healthy, and early enough to drain, deregister from web (port 80)"
        );
        assert_eq!(
            say(&nobody()),
            "deregister from web (port 80), launch no successor: no tag; at once if another target serves, because no \
             successor is launched"
        );
    }

    #[test]
    fn what_hides_requests_is_told_once_for_each_group_and_port() {
        let grpc = Registration { multiplexed: true, ..registration("grpc", &[50051]) };
        let registrations = vec![grpc, registration("web", &[80, 81])];
        let found = FoundRegistrations { registrations, unheard: [81].into(), ..FoundRegistrations::default() };
        let doubts = doubts(&found);
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(doubts[0].starts_with("target group grpc speaks HTTP/2 or gRPC"), "{doubts:?}");
        assert!(doubts[1].starts_with("nobody listens on port 81 here"), "{doubts:?}");
        assert!(doubts.iter().all(|doubt| doubt.contains("until the reserve")), "{doubts:?}");
    }

    #[test]
    fn registrations_are_told_with_every_port_and_their_delay() {
        assert_eq!(registered(&[], &[]), "registered in no target group");
        let web = registration("web", &[81, 80]);
        let known = std::slice::from_ref(&web);
        assert_eq!(registered(known, &[]), "registered in web (ports 80, 81; deregistration delay 300 s)");
        assert_eq!(
            registered(known, std::slice::from_ref(&web.target_group)),
            "registered in web (ports 80, 81; deregistration delay not asked for yet)"
        );
    }
}
