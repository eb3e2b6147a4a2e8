//! The owner's traffic sources that are not existing target groups: deleted groups, VPC Lattice, Classic Load
//! Balancers. And whether the load balancers serve the zones where the successor may go.

use super::finding::Finding;
use super::owner;
use crate::cloud::elb::SearchScope;
use crate::core::model::{Registration, TargetGroupArn};
use crate::core::plan::Plan;
use crate::core::retry::{Failure, FailureKind};
use crate::daemon::Parties;
use crate::daemon::registrations;

pub(super) async fn look(parties: &Parties, plan: Option<&Plan>) -> Vec<Finding> {
    let Some(plan) = plan else { return Vec::new() };
    let (owner, listed) = (plan.owner(), plan.owners_target_groups());
    let others = plan.other_traffic_sources().iter();
    let mut findings: Vec<Finding> = others
        .map(|source| {
            let found = format!("Auto Scaling registers and deregisters there alone: {source}");
            Finding::ok("traffic-source", found).of(TargetGroupArn::new(source.as_str()).name())
        })
        .collect();
    if !listed.is_empty() {
        let among = SearchScope::These(listed.to_vec());
        let found = parties.aws.elb.find_registrations(&parties.identity, &among, &[]).await;
        let gone = found.map(|found| found.gone).unwrap_or_default();
        findings.extend(gone.iter().map(|target_group| {
            Finding::warn("traffic-source", format!("{owner} lists it, and AWS knows no such target group any more"))
                .of(target_group.name())
                .meaning("a handover does not need it, but a launch by the owner may fail because of it")
                .remedy(format!("detach it from {owner}"))
        }));
    }
    findings
}

/// Checks the zones of a plan that chooses the successor's zone.
pub(super) async fn zones(parties: &Parties, plan: Option<&Plan>, registrations: &[Registration]) -> Option<Finding> {
    let plan = plan.filter(|plan| plan.chooses_zones(&parties.config))?;
    let served = match registrations::find_served_zones(&parties.aws, registrations).await {
        Ok(served) => served?,
        // A read that IAM denies is among the permissions.
        Err(failure) if failure.kind == FailureKind::Denied => return None,
        Err(failure) => return Some(untold_zones(&failure)),
    };
    let unserved: Vec<&str> = plan.zones().into_iter().filter(|zone| !served.contains(*zone)).collect();
    Some(match unserved.as_slice() {
        [] => Finding::ok("successor-zones", "the load balancers serve every zone that the successor may go to"),
        zones => {
            let (goes, remedy) = match plan {
                Plan::Group { .. } => {
                    ("one that its group launches by itself may go there", "take them out of the group")
                }
                _ => ("the successor goes there last", "name subnets of other zones under [successor]"),
            };
            Finding::warn("successor-zones", format!("the load balancers do not serve {}", zones.join(", ")))
                .meaning(format!("{goes}: it would be registered and get no requests (Target.NotInUse)"))
                .remedy(format!("enable these zones for the load balancers, or {remedy}"))
        }
    })
}

fn untold_zones(failure: &Failure) -> Finding {
    Finding::warn("successor-zones", format!("the zones that the load balancers serve are not known: {failure}"))
        .meaning("no zone is preferred: the successor may go where no load balancer serves it")
        .remedy(owner::remedy(failure))
}
