//! Launching from a launch template: an instant fleet of one, and what the template says.
//!
//! An instant fleet is never deleted: that would terminate its instance. Invariant: one client token goes with one set
//! of parameters; the caller makes both.

use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetFluentBuilder;
use aws_sdk_ec2::types::{
    CreateFleetError, DefaultTargetCapacityType, FleetOnDemandAllocationStrategy, FleetType, LaunchTemplateVersion,
    MarketType, OnDemandOptionsRequest, ResourceType, ResponseLaunchTemplateData, SpotAllocationStrategy,
    SpotInstanceType, SpotOptionsRequest, Tag, TagSpecification, TargetCapacitySpecificationRequest,
};

use super::caller::would_be_done;
use super::ec2::Ec2;
use super::launch_configuration;
use crate::core::model::{InstanceId, InstantFleet, LaunchTemplate, Launched, Market};
use crate::core::plan::{TemplateMarket, TemplateTraits};
use crate::core::policy::TemplateNames;
use crate::core::retry::{Failure, FailureKind, VERSION_NOT_FOUND};

/// The parts of a launch template version that matter to a successor. What is absent has to come from elsewhere at the
/// launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFacts {
    /// `lt-...`
    pub id: String,
    pub name: String,
    /// The number behind `$Default` or `$Latest`.
    pub version: i64,
    pub instance_type: Option<String>,
    pub image_id: Option<String>,
    /// The subnet of its first network interface.
    pub subnet_id: Option<String>,
    /// ARN or name. Whoever launches from the template must be allowed to pass its role.
    pub instance_profile: Option<String>,
    pub traits: TemplateTraits,
    pub names: TemplateNames,
}

impl Ec2 {
    /// Calls CreateFleet of type `instant` for one instance. AWS answers with instances, errors, or both. It answers
    /// with neither while a call with the same token is still at work.
    pub async fn create_fleet(&self, fleet: &InstantFleet, client_token: &str) -> Result<Launched, Failure> {
        let call = self.creating_fleet(fleet).client_token(client_token);
        let answer = self.caller.call(call.send()).await?;
        let instances = answer.instances().iter().flat_map(|launched| launched.instance_ids()).map(InstanceId::new);
        Ok(Launched::new(instances, answer.errors().iter().map(error)))
    }

    /// Tells whether CreateFleet would be allowed, but not whether EC2's own checks at the launch would pass.
    pub async fn create_fleet_dry_run(&self, fleet: &InstantFleet) -> Result<(), Failure> {
        would_be_done(self.caller.call(self.creating_fleet(fleet).dry_run(true).send()).await)
    }

    fn creating_fleet(&self, fleet: &InstantFleet) -> CreateFleetFluentBuilder {
        let tag_specifications = [tagged(ResourceType::Instance, fleet), tagged(ResourceType::Fleet, fleet)];
        let configurations = launch_configuration::for_one_instance(&fleet.launch_configurations);
        let call = self.client.create_fleet().r#type(FleetType::Instant);
        let call =
            call.target_capacity_specification(one(fleet.market)).set_launch_template_configs(Some(configurations));
        let call = call.set_tag_specifications(Some(tag_specifications.to_vec()).filter(|_| !fleet.tags.is_empty()));
        match fleet.market {
            Market::Spot => call.spot_options(price_capacity_optimized()),
            Market::OnDemand => call.on_demand_options(lowest_price()),
        }
    }

    /// Calls DescribeLaunchTemplateVersions for one version; `None` if there is no such template or version.
    pub async fn describe_launch_template(&self, template: &LaunchTemplate) -> Result<Option<TemplateFacts>, Failure> {
        match self.launch_template_version(template).await {
            Err(failure) if is_missing(&failure) => Ok(None),
            version => Ok(Some(facts(&version?))),
        }
    }

    /// The data of one version, under the template's id and the version's number.
    pub(super) async fn template_data(
        &self,
        template: &LaunchTemplate,
    ) -> Result<(LaunchTemplate, ResponseLaunchTemplateData), Failure> {
        let version = self.launch_template_version(template).await?;
        let id_or_name = version.launch_template_id().unwrap_or(&template.id_or_name).to_owned();
        let number = version.version_number().map_or_else(|| template.version.clone(), |number| number.to_string());
        let data =
            version.launch_template_data().cloned().unwrap_or_else(|| ResponseLaunchTemplateData::builder().build());
        Ok((LaunchTemplate { id_or_name, version: number }, data))
    }

    async fn launch_template_version(&self, template: &LaunchTemplate) -> Result<LaunchTemplateVersion, Failure> {
        let asked = self.client.describe_launch_template_versions().versions(&template.version);
        let asked = match template.id_or_name.starts_with("lt-") {
            true => asked.launch_template_id(&template.id_or_name),
            false => asked.launch_template_name(&template.id_or_name),
        };
        let page = |token| asked.clone().set_next_token(token).send();
        let versions = self.caller.pages(page, |answer| (answer.launch_template_versions, answer.next_token));
        versions.await?.into_iter().next().ok_or_else(|| Failure {
            kind: FailureKind::Rejected,
            code: Some(VERSION_NOT_FOUND.to_owned()),
            message: format!("AWS answers nothing for version {} of {}", template.version, template.id_or_name),
        })
    }
}

fn is_missing(failure: &Failure) -> bool {
    failure.code.as_deref().is_some_and(|code| code.starts_with("InvalidLaunchTemplate") && code.contains("NotFound"))
}

fn tagged(resource: ResourceType, fleet: &InstantFleet) -> TagSpecification {
    let tags = fleet.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    TagSpecification::builder().resource_type(resource).set_tags(Some(tags)).build()
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

fn facts(version: &LaunchTemplateVersion) -> TemplateFacts {
    let data = version.launch_template_data();
    let interfaces = data.map(|data| data.network_interfaces()).unwrap_or_default();
    let profile = data.and_then(|data| data.iam_instance_profile());
    let spot_options = data.and_then(|data| data.instance_market_options()).and_then(|market| market.spot_options());
    let market = match data {
        Some(data) if asks_for_spot(data) => {
            TemplateMarket::Spot { max_price: spot_options.and_then(|options| options.max_price()).map(str::to_owned) }
        }
        _ => TemplateMarket::Open,
    };
    let request_type = spot_options.and_then(|options| options.spot_instance_type());
    TemplateFacts {
        id: version.launch_template_id().unwrap_or_default().to_owned(),
        name: version.launch_template_name().unwrap_or_default().to_owned(),
        version: version.version_number().unwrap_or_default(),
        instance_type: data.and_then(|data| data.instance_type()).map(|name| name.as_str().to_owned()),
        image_id: data.and_then(|data| data.image_id()).map(str::to_owned),
        subnet_id: interfaces.first().and_then(|interface| interface.subnet_id()).map(str::to_owned),
        instance_profile: profile.and_then(|profile| profile.arn().or(profile.name())).map(str::to_owned),
        traits: TemplateTraits {
            market,
            tags_spot_requests: data.is_some_and(tags_spot_requests),
            is_persistent: request_type == Some(&SpotInstanceType::Persistent),
            names_addresses: data.is_some_and(names_addresses),
            names_interface: interfaces.iter().any(|it| it.network_interface_id().is_some()),
            ..TemplateTraits::default()
        },
        names: data.map(names).unwrap_or_default(),
    }
}

fn names_addresses(data: &ResponseLaunchTemplateData) -> bool {
    let primary = data.network_interfaces().iter().any(|interface| {
        let prefixes = !interface.ipv4_prefixes().is_empty() || !interface.ipv6_prefixes().is_empty();
        let addresses = !interface.private_ip_addresses().is_empty() || !interface.ipv6_addresses().is_empty();
        prefixes || addresses || interface.private_ip_address().is_some()
    });
    primary || data.secondary_interfaces().iter().any(|interface| !interface.private_ip_addresses().is_empty())
}

pub(super) fn asks_for_spot(data: &ResponseLaunchTemplateData) -> bool {
    data.instance_market_options().and_then(|market| market.market_type()) == Some(&MarketType::Spot)
}

pub(super) fn tags_spot_requests(data: &ResponseLaunchTemplateData) -> bool {
    tags(data, &ResourceType::SpotInstancesRequest)
}

fn tags(data: &ResponseLaunchTemplateData, kind: &ResourceType) -> bool {
    data.tag_specifications().iter().any(|it| it.resource_type() == Some(kind))
}

/// The names in the template for which a caller needs permissions.
fn names(data: &ResponseLaunchTemplateData) -> TemplateNames {
    let any = || "*".to_owned();
    let interfaces = data.network_interfaces();
    let mut security_groups: Vec<String> = data.security_group_ids().to_vec();
    security_groups.extend(interfaces.iter().flat_map(|interface| interface.groups().to_vec()));
    security_groups.extend(data.security_groups().iter().map(|_| any()));
    let placement = data.placement();
    let placement_group = placement.and_then(|placement| placement.group_name()).map(str::to_owned);
    let placement_group =
        placement_group.or_else(|| placement.and_then(|placement| placement.group_id()).map(|_| any()));
    let reservation = data.capacity_reservation_specification().and_then(|it| it.capacity_reservation_target());
    let reservation_id = reservation.and_then(|target| target.capacity_reservation_id());
    let reservation_group = reservation.and_then(|target| target.capacity_reservation_resource_group_arn());
    let parameter = data.image_id().and_then(|image| image.strip_prefix("resolve:ssm:"));
    let keys = data.block_device_mappings().iter().filter_map(|device| device.ebs()?.kms_key_id());
    TemplateNames {
        key_pairs: data.key_name().map(str::to_owned).into_iter().collect(),
        security_groups,
        placement_groups: placement_group.into_iter().collect(),
        capacity_reservations: reservation_id.map(str::to_owned).into_iter().collect(),
        reservation_groups: reservation_group.map(str::to_owned).into_iter().collect(),
        parameters: parameter.map(str::to_owned).into_iter().collect(),
        keys: keys.map(str::to_owned).collect(),
        tags_spot_requests: tags_spot_requests(data),
        tags_volumes: tags(data, &ResourceType::Volume),
    }
}
