//! IAM: asked what a role may do, where that cannot be tried without doing it.
//!
//! The daemon never asks. Invariant: IAM answers for the policies of the role alone, as
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html> says.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_iam::Client;
use aws_sdk_iam::types::PolicyEvaluationDecisionType;

use super::Caller;
use crate::core::retry::Failure;

#[derive(Clone, Debug)]
pub struct Iam {
    client: Client,
    caller: Caller,
}

impl Iam {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// Whether the role with this ARN may do each action on all of the resources.
    pub async fn simulate_principal_policy(
        &self,
        role_arn: &str,
        actions: &[&str],
        resources: &[String],
        limit: Duration,
    ) -> Result<BTreeMap<String, bool>, Failure> {
        let actions: Vec<String> = actions.iter().map(|action| (*action).to_owned()).collect();
        let (mut allowed, mut marker) = (BTreeMap::new(), None);
        loop {
            let call = self.client.simulate_principal_policy().policy_source_arn(role_arn).set_marker(marker);
            let call = call.set_action_names(Some(actions.clone())).set_resource_arns(Some(resources.to_vec()));
            let answer = self.caller.call(limit, call.send()).await?;
            for result in answer.evaluation_results() {
                let is_allowed = *result.eval_decision() == PolicyEvaluationDecisionType::Allowed;
                *allowed.entry(result.eval_action_name().to_owned()).or_insert(true) &= is_allowed;
            }
            // The answers of many resources come in pages.
            marker = answer.marker().map(str::to_owned).filter(|_| answer.is_truncated());
            if marker.is_none() {
                return Ok(allowed);
            }
        }
    }
}
