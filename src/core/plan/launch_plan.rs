//! The launches of a successor as data: attempts, what is known of the pools and the templates, and the tags of what is
//! launched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::config::Successor;
use crate::core::model::{InstantFleet, LaunchConfiguration, LaunchOverride, LaunchTemplate};

/// The tag of every successor that we launch: the id of the instance that it replaces.
pub const PREDECESSOR_TAG: &str = "spot-relay:predecessor";
/// The tag of every successor that we launch in a fleet's stead: that fleet's id. The instant fleet that launched the
/// successor knows only the pools of one attempt.
pub const ORIGIN_FLEET_TAG: &str = "spot-relay:origin-fleet";
/// The tag of a successor that was launched by a template's settings and not from the template: the template, as
/// `lt-...:3`.
pub const TEMPLATE_TAG: &str = "spot-relay:launch-template";
/// The tag that AWS sets on what an EC2 Fleet has launched: the fleet's id.
pub const FLEET_TAG: &str = "aws:ec2:fleet-id";
/// The tag that AWS sets on what a Spot Fleet has launched: the id of its request.
pub const SPOT_FLEET_TAG: &str = "aws:ec2spot:fleet-request-id";
/// The tag of this instance from a signal to its end, with the deadline: nothing may take it for a successor. It is
/// deleted if the instance lives on.
pub const LEAVING_TAG: &str = "spot-relay:leaving";
/// The tag of a `maintain` fleet while its capacity is raised: see [`super::RaisedCapacity`].
pub const BASE_CAPACITY_TAG: &str = "spot-relay:base-capacity";

/// Instant fleets of capacity 1, tried one after the other until one launches. There is at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The source for a person, as in "launch template lt-0abc".
    pub from: String,
    pub attempts: Vec<InstantFleet>,
    /// The pool that is being reclaimed is the only one to choose from.
    pub only_reclaimed: bool,
    /// Instances of the same origin that ran when the plan was made, where they were counted.
    #[serde(default)]
    pub running: Option<usize>,
    /// Remarks for a person about the launch: sentences without their full stops.
    #[serde(default)]
    pub remarks: Vec<String>,
    #[serde(default)]
    pub missing: Vec<MissingTemplate>,
    /// The zones of pools that name only a subnet: see [`Surroundings::zone_of_subnet`].
    #[serde(default)]
    pub zone_of_subnet: BTreeMap<String, String>,
    /// See [`Surroundings::stands_in_for`].
    #[serde(default)]
    pub stands_in_for: Option<String>,
}

impl LaunchPlan {
    pub fn launch_configurations(&self) -> impl Iterator<Item = &LaunchConfiguration> {
        self.attempts.iter().flat_map(|attempt| &attempt.launch_configurations)
    }

    /// The id of the fleet in whose stead this launches; `None` for a bare launch template.
    pub fn origin_fleet(&self) -> Option<&str> {
        self.attempts.first()?.tags.get(ORIGIN_FLEET_TAG).map(String::as_str)
    }

    /// The pools of all attempts.
    pub fn pools(&self) -> impl Iterator<Item = &LaunchOverride> {
        self.launch_configurations().flat_map(|configuration| &configuration.overrides)
    }
}

/// A launch template of this launch that AWS does not know by the version named, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingTemplate {
    pub template: LaunchTemplate,
    /// The default version, which is launched in the place of a version that was deleted.
    pub has_default: bool,
}

impl fmt::Display for MissingTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LaunchTemplate { id_or_name, version } = &self.template;
        match self.has_default {
            true => write!(
                f,
                "launch template {id_or_name} has no version {version} (any more): the successor is launched from the \
                 template's default version, which may be another image; name a version that is there under \
                 [successor] launch-template, or launch the instances anew from one"
            ),
            false => write!(
                f,
                "AWS knows no launch template {id_or_name} (any more): no successor can be launched from it; name one that \
                 is there under [successor] launch-template"
            ),
        }
    }
}

/// The facts about the pools that are needed to choose among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Subnet id to zone, of every subnet that the configurations or the settings name.
    pub zone_of_subnet: BTreeMap<String, String>,
    /// Named subnets whose zone could not be looked up.
    pub subnets_without_zone: BTreeSet<String>,
    /// Named subnets that AWS does not know.
    pub unknown_subnets: BTreeSet<String>,
    /// Running members of the group (state code 16) by zone.
    pub running_by_zone: BTreeMap<String, usize>,
    /// The traits of the launch templates that decide how they are launched.
    pub traits: TemplateTraits,
    /// The reason why the fleet of the tags launches nothing: the launch template of the tags stands in for it.
    pub stands_in_for: Option<String>,
    /// A sentence about the owner that replaces this instance too.
    pub replaced_too: Option<String>,
}

/// The traits of launch templates that decide how they can be launched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTraits {
    /// The template names its subnet in a network interface. Any other subnet would make EC2 ignore the addresses and
    /// security groups of that interface.
    pub own_subnet: Option<OwnSubnet>,
    pub market: TemplateMarket,
    /// The template tags Spot requests, so that it cannot be launched on demand.
    pub tags_spot_requests: bool,
    /// Its Spot options ask for a request of type `persistent`.
    pub is_persistent: bool,
    /// A network interface of it names addresses or prefixes.
    pub names_addresses: bool,
    /// It names a network interface that exists: `NetworkInterfaceId`.
    pub names_interface: bool,
    pub missing: Vec<MissingTemplate>,
    /// The templates that could not be read, each with the reason in a sentence.
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSubnet {
    pub zone: Option<String>,
}

/// `InstanceMarketOptions` of a launch template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TemplateMarket {
    /// It leaves the choice to whoever launches.
    #[default]
    Open,
    Spot {
        max_price: Option<String>,
    },
}

impl TemplateTraits {
    fn is_spot_only(&self) -> bool {
        self.tags_spot_requests || self.market != TemplateMarket::Open
    }

    pub(super) fn remarks(&self, choice: &Successor) -> Vec<String> {
        let mut remarks = self.unread.clone();
        if self.own_subnet.is_some() && !choice.subnets.is_empty() {
            remarks.push(
                "the launch template names its subnet in a network interface, so [successor] subnets are not used: \
                 another subnet would make EC2 ignore that interface; take the subnet out of the template to have a choice"
                    .to_owned(),
            );
        }
        if self.market != TemplateMarket::Open {
            remarks.push(
                "the launch template has InstanceMarketOptions: should CreateFleet refuse it, RunInstances launches the \
                 successor from it, one pool at a time; without them AWS chooses among all pools"
                    .to_owned(),
            );
        }
        if self.names_addresses {
            remarks.push(
                "the launch template names addresses or prefixes in a network interface, and no two instances can have the \
                 same: AWS may refuse to launch from it, and RunInstances launches without them where it describes the \
                 interface itself; let the template ask for numbers of them instead"
                    .to_owned(),
            );
        }
        if self.names_interface {
            remarks.push(
                "the launch template names a network interface (NetworkInterfaceId), and no two instances can have the same: AWS \
                 launches no successor from it while that is in use; let the template describe the interface instead"
                    .to_owned(),
            );
        }
        if choice.on_demand_fallback && self.is_spot_only() {
            let why = match self.tags_spot_requests {
                true => "tags spot-instances-request",
                false => "asks for Spot",
            };
            remarks.push(format!(
                "the launch template {why}, which AWS refuses on demand: the fallback launches what the template says by \
                 RunInstances, without that part"
            ));
        }
        remarks
    }
}
