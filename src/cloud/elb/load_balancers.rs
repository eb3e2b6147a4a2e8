//! The load balancers that use target groups: the zones that they serve.
//!
//! Invariant: if one load balancer is gone, the zones of the others are still found.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types;

use super::{BATCH, Elb};
use crate::core::retry::{Failure, FailureKind};

impl Elb {
    /// The zones that each of these load balancers is enabled for, by its ARN.
    pub async fn zones_of_load_balancers(
        &self,
        arns: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        let mut zones_of = BTreeMap::new();
        let arns: Vec<String> = arns.iter().cloned().collect();
        for asked in arns.chunks(BATCH) {
            match self.zones_of_some(asked).await {
                Ok(zones) => zones_of.extend(zones),
                // AWS rejects the whole list if one load balancer is gone.
                Err(failure) if failure.kind == FailureKind::Rejected && asked.len() > 1 => {
                    for one in asked {
                        match self.zones_of_some(std::slice::from_ref(one)).await {
                            Err(failure) if failure.kind != FailureKind::Rejected => return Err(failure),
                            zones => zones_of.extend(zones.unwrap_or_default()),
                        }
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(zones_of)
    }

    async fn zones_of_some(&self, arns: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        let asked = self.client.describe_load_balancers().set_load_balancer_arns(Some(arns.to_vec()));
        let page = |marker| asked.clone().set_marker(marker).send();
        let load_balancers = self.caller.pages(page, |answer| (answer.load_balancers, answer.next_marker));
        let of = |one: &types::LoadBalancer| {
            let zones = one.availability_zones().iter().filter_map(|zone| zone.zone_name());
            Some((one.load_balancer_arn()?.to_owned(), zones.map(str::to_owned).collect()))
        };
        Ok(load_balancers.await?.iter().filter_map(of).collect())
    }
}
