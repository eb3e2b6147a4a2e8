//! EC2's instances, tags and subnets.
//!
//! It does not know which instance succeeds which. Invariant: an instance's state is its code's low byte, else its
//! name.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::create_tags::builders::CreateTagsFluentBuilder;
use aws_sdk_ec2::operation::delete_tags::builders::DeleteTagsFluentBuilder;
use aws_sdk_ec2::operation::describe_instances::builders::DescribeInstancesFluentBuilder;
use aws_sdk_ec2::types::{self, Filter, HttpTokensState, InstanceStateName, SpotInstanceState, SpotInstanceType, Tag};

use super::caller::{timestamp, would_be_done};
use super::ec2::Ec2;
use crate::core::model::{Instance, InstanceId, InstanceState, StateReason};
use crate::core::retry::Failure;

/// The most ids in one DescribeInstances call: a choice of ours, because AWS documents no limit.
const IDS_A_CALL: usize = 500;
/// The most values of a filter. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
pub(super) const FILTER_VALUES_A_CALL: usize = 200;

/// One row of DescribeSubnets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub subnet_id: String,
    pub availability_zone: String,
}

/// A Spot request that launches again by itself when its instance ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentRequest {
    /// `sir-...`
    pub id: String,
    /// `terminate`, `stop` or `hibernate`.
    pub behavior: String,
}

/// The settings of one instance's metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataOptions {
    /// The service accepts IMDSv2 only.
    pub tokens_required: bool,
    pub hop_limit: Option<i32>,
}

impl Ec2 {
    /// Describes the instances that AWS knows. If a single id is unknown, or not known yet, it errs with
    /// `InvalidInstanceID.NotFound`.
    pub async fn describe_instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>, Failure> {
        let mut found = Vec::new();
        for ids in ids.chunks(IDS_A_CALL) {
            let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
            match self.described(self.client.describe_instances().set_instance_ids(Some(ids.clone()))).await {
                Ok(instances) => found.extend(instances),
                // AWS rejects a whole list for one unknown id; a filter skips that id.
                Err(failure) if ids.len() > 1 && failure.has_code(&["InvalidInstanceID.NotFound"]) => {
                    for ids in ids.chunks(FILTER_VALUES_A_CALL) {
                        found.extend(self.filtered(vec![one_of("instance-id", ids)]).await?);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(found)
    }

    /// The VPC of an instance and its IPv6 addresses; `None` if EC2 does not say.
    pub async fn place_of(&self, id: &InstanceId) -> Result<Option<(String, Vec<String>)>, Failure> {
        let call = self.client.describe_instances().instance_ids(id.as_str());
        let answer = self.caller.call(call.send()).await?;
        let mut instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
        Ok(instances.find_map(|instance| {
            let addresses = ipv6_addresses(instance).map(str::to_owned).collect();
            Some((instance.vpc_id()?.to_owned(), addresses))
        }))
    }

    /// The instances with this tag, in any state, also those that terminated lately.
    pub async fn describe_instances_by_tag(&self, key: &str, value: &str) -> Result<Vec<Instance>, Failure> {
        self.filtered(vec![filter(&format!("tag:{key}"), value)]).await
    }

    /// The instances of a VPC with one of these addresses on any network interface: either all IPv6 or all private IPv4
    /// addresses.
    pub async fn describe_instances_by_address(
        &self,
        vpc_id: &str,
        addresses: &[String],
    ) -> Result<Vec<Instance>, Failure> {
        let name = match addresses.first() {
            Some(first) if first.contains(':') => "network-interface.ipv6-addresses.ipv6-address",
            _ => "network-interface.addresses.private-ip-address",
        };
        self.filtered(vec![one_of(name, addresses), filter("vpc-id", vpc_id)]).await
    }

    async fn filtered(&self, filters: Vec<Filter>) -> Result<Vec<Instance>, Failure> {
        self.described(self.client.describe_instances().set_filters(Some(filters))).await
    }

    async fn described(&self, asked: DescribeInstancesFluentBuilder) -> Result<Vec<Instance>, Failure> {
        let page = |token| asked.clone().set_next_token(token).send();
        let reservations = self.caller.pages(page, |answer| (answer.reservations, answer.next_token)).await?;
        Ok(reservations.iter().flat_map(|reservation| reservation.instances()).filter_map(instance).collect())
    }

    pub async fn describe_tags(&self, resource: &str) -> Result<BTreeMap<String, String>, Failure> {
        let asked = self.client.describe_tags().filters(filter("resource-id", resource));
        let page = |token| asked.clone().set_next_token(token).send();
        let tags = self.caller.pages(page, |answer| (answer.tags, answer.next_token));
        let pair =
            |tag: &types::TagDescription| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
        let tags = tags.await?;
        let its_own = tags.iter().filter(|tag| tag.resource_id().is_none_or(|id| id == resource));
        Ok(its_own.filter_map(pair).collect())
    }

    /// Sets tags of an instance or a fleet. An existing tag gets the new value.
    pub async fn create_tags(&self, resource: &str, tags: &[(&str, &str)]) -> Result<(), Failure> {
        self.caller.accepted(self.creating_tags(resource, tags).send()).await
    }

    /// Tells whether CreateTags would be allowed.
    pub async fn create_tags_dry_run(&self, resource: &str, tags: &[(&str, &str)]) -> Result<(), Failure> {
        would_be_done(self.caller.call(self.creating_tags(resource, tags).dry_run(true).send()).await)
    }

    fn creating_tags(&self, resource: &str, tags: &[(&str, &str)]) -> CreateTagsFluentBuilder {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
        self.client.create_tags().resources(resource).set_tags(Some(tags))
    }

    /// Deletes tags, whatever their values. AWS answers success for absent tags.
    pub async fn delete_tags(&self, resource: &str, keys: &[&str]) -> Result<(), Failure> {
        self.caller.accepted(self.deleting_tags(resource, keys).send()).await
    }

    /// Tells whether DeleteTags would be allowed.
    pub async fn delete_tags_dry_run(&self, resource: &str, keys: &[&str]) -> Result<(), Failure> {
        would_be_done(self.caller.call(self.deleting_tags(resource, keys).dry_run(true).send()).await)
    }

    fn deleting_tags(&self, resource: &str, keys: &[&str]) -> DeleteTagsFluentBuilder {
        let tags = keys.iter().map(|key| Tag::builder().key(*key).build()).collect();
        self.client.delete_tags().resources(resource).set_tags(Some(tags))
    }

    /// Terminates this instance, when it is to end in any case.
    pub async fn terminate_instances(&self, id: &InstanceId) -> Result<(), Failure> {
        self.caller.accepted(self.client.terminate_instances().instance_ids(id.as_str()).send()).await
    }

    /// Tells whether TerminateInstances would be allowed.
    pub async fn terminate_instances_dry_run(&self, id: &InstanceId) -> Result<(), Failure> {
        let call = self.client.terminate_instances().instance_ids(id.as_str()).dry_run(true);
        would_be_done(self.caller.call(call.send()).await)
    }

    /// The settings of one instance's metadata service; `None` if AWS does not say.
    pub async fn metadata_options(&self, id: &InstanceId) -> Result<Option<MetadataOptions>, Failure> {
        let answer = self.caller.call(self.client.describe_instances().instance_ids(id.as_str()).send()).await?;
        let mut instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
        let options = instances.find_map(|instance| instance.metadata_options());
        Ok(options.map(|options| MetadataOptions {
            tokens_required: options.http_tokens() == Some(&HttpTokensState::Required),
            hop_limit: options.http_put_response_hop_limit(),
        }))
    }

    /// The Spot request of an instance, if it is of type `persistent` and not cancelled.
    pub async fn persistent_request(&self, id: &InstanceId) -> Result<Option<PersistentRequest>, Failure> {
        let requests = self.describe_spot_instance_requests(filter("instance-id", id.as_str()));
        let launches_again = |request: &&types::SpotInstanceRequest| {
            let over = [SpotInstanceState::Cancelled, SpotInstanceState::Closed, SpotInstanceState::Failed];
            request.r#type() == Some(&SpotInstanceType::Persistent)
                && !request.state().is_some_and(|state| over.contains(state))
        };
        let request = requests.await?.into_iter().find(|it| launches_again(&it));
        Ok(request.map(|request| PersistentRequest {
            id: request.spot_instance_request_id().unwrap_or_default().to_owned(),
            behavior: request.instance_interruption_behavior().map_or("terminate", |it| it.as_str()).to_owned(),
        }))
    }

    /// The Spot requests that match the filter.
    pub(super) async fn describe_spot_instance_requests(
        &self,
        filter: Filter,
    ) -> Result<Vec<types::SpotInstanceRequest>, Failure> {
        let asked = self.client.describe_spot_instance_requests().filters(filter);
        let page = |token| asked.clone().set_next_token(token).send();
        self.caller.pages(page, |answer| (answer.spot_instance_requests, answer.next_token)).await
    }

    /// The subnets with these ids, or all of the account for an empty list. An unknown id is skipped, because it goes
    /// into a filter: in `SubnetIds` it would make AWS reject the whole list.
    pub async fn describe_subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, Failure> {
        let filters = (!ids.is_empty()).then(|| vec![one_of("subnet-id", ids)]);
        let asked = self.client.describe_subnets().set_filters(filters);
        let page = |token| asked.clone().set_next_token(token).send();
        let subnets = self.caller.pages(page, |answer| (answer.subnets, answer.next_token));
        Ok(subnets.await?.iter().filter_map(subnet).collect())
    }
}

pub(super) fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

pub(super) fn one_of(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

fn ipv6_addresses(described: &types::Instance) -> impl Iterator<Item = &str> + Clone {
    let addresses = described.network_interfaces().iter().flat_map(|interface| interface.ipv6_addresses());
    addresses.filter_map(|address| address.ipv6_address())
}

fn instance(described: &types::Instance) -> Option<Instance> {
    let placement = described.placement();
    let interfaces = described.network_interfaces();
    let ipv4 = interfaces.iter().flat_map(|interface| interface.private_ip_addresses());
    let ipv4 = ipv4.filter_map(|address| address.private_ip_address());
    let ipv6 = ipv6_addresses(described);
    Some(Instance {
        instance_id: InstanceId::new(described.instance_id()?),
        state: described.state().map_or(InstanceState::Unknown, state),
        instance_type: described.instance_type().map(|name| name.as_str().to_owned()).unwrap_or_default(),
        availability_zone: placement.and_then(|placement| placement.availability_zone()).unwrap_or_default().to_owned(),
        private_ip: described.private_ip_address().map(str::to_owned),
        ipv6_address: described.ipv6_address().or(ipv6.clone().next()).map(str::to_owned),
        addresses: ipv4.chain(ipv6).map(str::to_owned).collect(),
        subnet_id: described.subnet_id().map(str::to_owned),
        launch_time: described.launch_time().and_then(timestamp),
        state_reason: described.state_reason().and_then(|reason| {
            let code = reason.code().filter(|code| !code.is_empty())?.to_owned();
            Some(StateReason { code, message: reason.message().unwrap_or_default().to_owned() })
        }),
        tags: tags(described.tags()),
        is_on_demand: described.instance_lifecycle().is_none() && described.spot_instance_request_id().is_none(),
        vcpus: described.cpu_options().and_then(|options| {
            let vcpus = options.core_count()?.checked_mul(options.threads_per_core().unwrap_or(1))?;
            u32::try_from(vcpus).ok()
        }),
    })
}

/// Reads the state from its code, or from its name if there is no code.
fn state(state: &types::InstanceState) -> InstanceState {
    let by_name = || match state.name() {
        Some(InstanceStateName::Pending) => InstanceState::Pending,
        Some(InstanceStateName::Running) => InstanceState::Running,
        Some(InstanceStateName::ShuttingDown) => InstanceState::ShuttingDown,
        Some(InstanceStateName::Terminated) => InstanceState::Terminated,
        Some(InstanceStateName::Stopping) => InstanceState::Stopping,
        Some(InstanceStateName::Stopped) => InstanceState::Stopped,
        _ => InstanceState::Unknown,
    };
    state.code().map_or_else(by_name, InstanceState::from_code)
}

fn subnet(described: &types::Subnet) -> Option<Subnet> {
    Some(Subnet {
        subnet_id: described.subnet_id()?.to_owned(),
        availability_zone: described.availability_zone()?.to_owned(),
    })
}
