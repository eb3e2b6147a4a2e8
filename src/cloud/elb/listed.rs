//! The target groups that somebody lists by name or ARN, read with DescribeTargetGroups. If AWS refuses that call, only
//! their targets describe them.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::TargetGroup as Described;

use super::{BATCH, Elb, group, is_missing};
use crate::core::model::{Registration, TargetGroupArn, TargetType};
use crate::core::ours::TargetGroup;
use crate::core::retry::{Failure, FailureKind};

impl Elb {
    pub(super) async fn listed_groups(
        &self,
        listed: &[String],
        known: &[Registration],
        missing: &mut Vec<String>,
    ) -> Result<Vec<TargetGroup>, Failure> {
        let mut groups = BTreeMap::new();
        let (mut arns, mut names, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let listed: BTreeSet<&String> = listed.iter().collect();
        for named in listed {
            let is_arn = named.starts_with("arn:");
            match known.iter().find(|known| if is_arn { known.target_group.as_str() } else { known.name() } == named) {
                Some(known) => {
                    again.push(known.target_group.to_string());
                    groups.insert(known.target_group.clone(), as_known(known));
                }
                None if !is_arn => names.push(named.clone()),
                // AWS rejects a whole list for one ARN of another service, such as VPC Lattice.
                None if TargetGroupArn::new(named.as_str()).is_of_elb() => arns.push(named.clone()),
                None => missing.push(named.clone()),
            }
        }
        for asked in arns.chunks(BATCH).chain(names.chunks(BATCH)) {
            let described = match self.describe_some(asked, missing).await {
                Err(failure) if failure.is_refusal() && asked.iter().all(|it| it.starts_with("arn:")) => {
                    asked.iter().map(|arn| undescribed(arn, &failure)).collect()
                }
                described => described?,
            };
            groups.extend(described.into_iter().map(|group| (group.arn.clone(), group)));
        }
        // The load balancers of a known group may have changed. If AWS does not answer now, the old ones stay.
        for asked in again.chunks(BATCH) {
            let described = self.describe_some(asked, &mut Vec::new()).await.unwrap_or_default();
            groups.extend(described.into_iter().map(|it| (it.arn.clone(), TargetGroup { vpc_id: None, ..it })));
        }
        Ok(groups.into_values().collect())
    }

    /// AWS rejects a whole list for one missing group, and does not say which. Then, or when it answers with fewer
    /// groups, this asks for each group alone. It skips groups that are neither `instance` nor `ip`.
    async fn describe_some(&self, asked: &[String], missing: &mut Vec<String>) -> Result<Vec<TargetGroup>, Failure> {
        match self.describe_target_groups(asked).await {
            Err(failure) if failure.kind == FailureKind::Rejected => {}
            Ok(described) if described.len() < asked.len() => {}
            answer => return Ok(answer?.iter().filter_map(group).collect()),
        }
        let mut groups = Vec::new();
        for one in asked {
            match self.describe_target_groups(std::slice::from_ref(one)).await {
                Ok(told) if !told.is_empty() => groups.extend(told.iter().filter_map(group)),
                Err(failure) if !can_never_be(&failure) => return Err(failure),
                Ok(_) | Err(_) => missing.push(one.clone()),
            }
        }
        Ok(groups)
    }

    /// Calls DescribeTargetGroups. `ids` are all ARNs or all names.
    async fn describe_target_groups(&self, ids: &[String]) -> Result<Vec<Described>, Failure> {
        let asked = match ids.first() {
            Some(first) if first.starts_with("arn:") => {
                self.client.describe_target_groups().set_target_group_arns(Some(ids.to_vec()))
            }
            _ => self.client.describe_target_groups().set_names(Some(ids.to_vec())),
        };
        let page = |marker| asked.clone().set_marker(marker).send();
        self.caller.pages(page, |answer| (answer.target_groups, answer.next_marker)).await
    }
}

/// Tells whether there is no such group, or no group can have that name.
fn can_never_be(failure: &Failure) -> bool {
    is_missing(failure) || failure.has_code(&["ValidationError"])
}

/// The group of a registration of ours.
fn as_known(known: &Registration) -> TargetGroup {
    TargetGroup {
        arn: known.target_group.clone(),
        target_type: known.target_type,
        ipv6: known.holds_ipv6(),
        network: known.network,
        multiplexed: known.multiplexed,
        tls: known.tls,
        needs_server_id: known.needs_server_id,
        vpc_id: None,
        port: known.group_port,
        load_balancers: known.load_balancers.clone(),
        undescribed: None,
    }
}

/// A group of which only the ARN is known. It may be behind a Network Load Balancer, for which a target waits longest.
fn undescribed(arn: &str, failure: &Failure) -> TargetGroup {
    TargetGroup {
        arn: TargetGroupArn::new(arn),
        target_type: TargetType::Instance,
        ipv6: false,
        network: true,
        multiplexed: false,
        tls: false,
        needs_server_id: false,
        vpc_id: None,
        port: None,
        load_balancers: Vec::new(),
        undescribed: Some(failure.clone()),
    }
}
