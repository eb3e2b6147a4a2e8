//! Launching from a launch template: an instant fleet of one, and what the template says.
//!
//! An instant fleet is never deleted: that would terminate what it launched. Invariant: one client token, one set of
//! parameters; both are the caller's.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    CreateFleetError, DefaultTargetCapacityType, FleetOnDemandAllocationStrategy, FleetType, OnDemandOptionsRequest,
    ResourceType, SpotAllocationStrategy, SpotOptionsRequest, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};

use super::{Caller, launch_configuration};
use crate::model::{InstanceId, InstantFleet, LaunchTemplate, Launched, Market};
use crate::retry::Failure;

#[derive(Clone, Debug)]
pub struct LaunchTemplates {
    client: Client,
    caller: Caller,
}

/// What one version of a launch template says, as far as it matters to a successor. What it does not say has to come
/// from somewhere else at the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFacts {
    /// `lt-...`
    pub id: String,
    pub name: String,
    /// What `$Default` or `$Latest` stood for.
    pub version: i64,
    pub instance_type: Option<String>,
    /// Whether it selects types by attributes instead.
    pub selects_by_attributes: bool,
    pub image_id: Option<String>,
    /// Of its first network interface.
    pub subnet_id: Option<String>,
    /// ARN or name: who launches from the template must be allowed to pass its role.
    pub instance_profile: Option<String>,
}

impl LaunchTemplates {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// CreateFleet of type `instant` for one instance. AWS answers with instances, errors, or both, and with neither
    /// while a repeat of the same token is still at work.
    pub async fn create_fleet(
        &self,
        fleet: &InstantFleet,
        client_token: &str,
        limit: Duration,
    ) -> Result<Launched, Failure> {
        let tags: Vec<Tag> =
            fleet.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tagged =
            |resource| TagSpecification::builder().resource_type(resource).set_tags(Some(tags.clone())).build();
        let tag_specifications = [tagged(ResourceType::Instance), tagged(ResourceType::Fleet)];
        let call = self.client.create_fleet().r#type(FleetType::Instant).client_token(client_token);
        let call = call.target_capacity_specification(one(fleet.market));
        let call = call
            .set_launch_template_configs(Some(launch_configuration::for_one_instance(&fleet.launch_configurations)));
        let call = call.set_tag_specifications(Some(tag_specifications.to_vec()).filter(|_| !tags.is_empty()));
        let call = match fleet.market {
            Market::Spot => call.spot_options(price_capacity_optimized()),
            Market::OnDemand => call.on_demand_options(lowest_price()),
        };
        let answer = self.caller.call(limit, call.send()).await?;
        let mut errors: Vec<String> = answer.errors().iter().map(error).collect();
        errors.sort();
        errors.dedup();
        let instances = answer.instances().iter().flat_map(|launched| launched.instance_ids()).map(InstanceId::new);
        Ok(Launched { instances: instances.collect(), errors })
    }

    /// DescribeLaunchTemplateVersions of one; `None` if there is no such template or version.
    pub async fn describe_launch_template(
        &self,
        template: &LaunchTemplate,
        limit: Duration,
    ) -> Result<Option<TemplateFacts>, Failure> {
        let call = self.client.describe_launch_template_versions().versions(&template.version);
        let call = if template.id_or_name.starts_with("lt-") {
            call.launch_template_id(&template.id_or_name)
        } else {
            call.launch_template_name(&template.id_or_name)
        };
        let answer = match self.caller.call(limit, call.send()).await {
            Err(failure) if is_missing(&failure) => return Ok(None),
            answer => answer?,
        };
        Ok(answer.launch_template_versions().first().map(facts))
    }
}

fn is_missing(failure: &Failure) -> bool {
    failure.code.as_deref().is_some_and(|code| code.starts_with("InvalidLaunchTemplate") && code.contains("NotFound"))
}

fn one(market: Market) -> TargetCapacitySpecificationRequest {
    let default_type = match market {
        Market::Spot => DefaultTargetCapacityType::Spot,
        Market::OnDemand => DefaultTargetCapacityType::OnDemand,
    };
    TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(1)
        .default_target_capacity_type(default_type)
        .build()
}

fn price_capacity_optimized() -> SpotOptionsRequest {
    SpotOptionsRequest::builder().allocation_strategy(SpotAllocationStrategy::PriceCapacityOptimized).build()
}

fn lowest_price() -> OnDemandOptionsRequest {
    OnDemandOptionsRequest::builder().allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice).build()
}

fn error(error: &CreateFleetError) -> String {
    format!("{}: {}", error.error_code().unwrap_or("unknown"), error.error_message().unwrap_or_default())
}

fn facts(version: &aws_sdk_ec2::types::LaunchTemplateVersion) -> TemplateFacts {
    let data = version.launch_template_data();
    let interface = data.and_then(|data| data.network_interfaces().first());
    let profile = data.and_then(|data| data.iam_instance_profile());
    TemplateFacts {
        id: version.launch_template_id().unwrap_or_default().to_owned(),
        name: version.launch_template_name().unwrap_or_default().to_owned(),
        version: version.version_number().unwrap_or_default(),
        instance_type: data.and_then(|data| data.instance_type()).map(|name| name.as_str().to_owned()),
        selects_by_attributes: data.is_some_and(|data| data.instance_requirements().is_some()),
        image_id: data.and_then(|data| data.image_id()).map(str::to_owned),
        subnet_id: interface.and_then(|interface| interface.subnet_id()).map(str::to_owned),
        instance_profile: profile.and_then(|profile| profile.arn().or(profile.name())).map(str::to_owned),
    }
}
