//! What a launch needs: by CreateFleet and RunInstances that we call, or by those that Auto Scaling calls in our name for
//! LaunchInstances.
//!
//! Each action stands with the resource types that the service authorization reference knows for it, and with no other.

use super::{PassedRole, Place, Statement, allow};
use crate::core::plan::PREDECESSOR_TAG;

/// Actions that IAM asks for at another action's call: first the action that is called, then those that come with it.
pub const IN_PASSING: [(&str, &[&str]); 2] = [
    ("ec2:CreateFleet", &["ec2:RunInstances", "iam:PassRole"]),
    (
        "autoscaling:LaunchInstances",
        &[
            "ec2:CreateFleet",
            "ec2:CreateTags",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:RunInstances",
            "iam:PassRole",
        ],
    ),
];

/// Who calls EC2 for the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// We do: everything launched has to bear the tag of its predecessor.
    Us,
    /// The Auto Scaling group does, in our name: its instances do not bear our tags.
    TheGroup,
}

/// What is launched from: templates, subnets, and whatever the templates name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchSource {
    /// `lt-...`; empty: any.
    pub templates: Vec<String>,
    /// `subnet-...`; empty: any.
    pub subnets: Vec<String>,
    pub role: PassedRole,
    /// `None`: the templates have not been read, and may name anything.
    pub named: Option<TemplateNames>,
}

/// What launch templates name beside the image, and a caller needs a permission for. `*` stands for something that is named
/// in a form that makes no ARN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateNames {
    pub key_pairs: Vec<String>,
    pub security_groups: Vec<String>,
    pub placement_groups: Vec<String>,
    pub capacity_reservations: Vec<String>,
    /// ARNs of resource groups of capacity reservations.
    pub reservation_groups: Vec<String>,
    /// Names or ARNs of SSM parameters that hold the image's id.
    pub parameters: Vec<String>,
    /// Ids or ARNs of customer-managed keys of volumes.
    pub keys: Vec<String>,
    /// Tells whether they tag Spot requests.
    pub tags_spot_requests: bool,
}

impl TemplateNames {
    /// What either names.
    pub fn and(mut self, other: TemplateNames) -> TemplateNames {
        let lists = [
            (&mut self.key_pairs, other.key_pairs),
            (&mut self.security_groups, other.security_groups),
            (&mut self.placement_groups, other.placement_groups),
            (&mut self.capacity_reservations, other.capacity_reservations),
            (&mut self.reservation_groups, other.reservation_groups),
            (&mut self.parameters, other.parameters),
            (&mut self.keys, other.keys),
        ];
        for (all, more) in lists {
            all.extend(more);
            all.sort();
            all.dedup();
        }
        self.tags_spot_requests |= other.tags_spot_requests;
        self
    }
}

impl LaunchSource {
    pub(super) fn statements(&self, caller: Caller, place: &Place) -> Vec<Statement> {
        let mut statements = vec![
            allow("FleetFrom", vec!["ec2:CreateFleet"], self.fleet_resources(place)),
            allow("LaunchFrom", vec!["ec2:RunInstances"], self.run_resources(place)),
        ];
        let fleet = allow("MakeFleets", vec!["ec2:CreateFleet"], vec![place.arn("ec2", "fleet/*")]);
        let instance = vec![place.arn("ec2", "instance/*")];
        let instance = allow("LaunchSuccessors", vec!["ec2:CreateFleet", "ec2:RunInstances"], instance);
        let predecessor = format!("aws:RequestTag/{PREDECESSOR_TAG}");
        statements.extend([fleet, instance].map(|made| match caller {
            Caller::Us => made.when("StringLike", &predecessor, &["i-*"]),
            Caller::TheGroup => made,
        }));
        let tags = allow("TagWhatIsLaunched", vec!["ec2:CreateTags"], self.tagged(place));
        statements.push(tags.when("StringEquals", "ec2:CreateAction", &["CreateFleet", "RunInstances"]));
        statements.extend(self.pass_role(place));
        statements.extend(
            self.named.iter().flat_map(|named| [named.read_parameters(place), named.use_keys(place)]).flatten(),
        );
        statements
    }

    fn fleet_resources(&self, place: &Place) -> Vec<String> {
        let mut from = each(place, "launch-template", &any_if_none(&self.templates));
        from.extend(each(place, "subnet", &any_if_none(&self.subnets)));
        from.push(place.ec2_without_account("image/*"));
        from.extend(each(place, "placement-group", &self.of(|named| &named.placement_groups)));
        from.push(place.arn("ec2", "volume/*"));
        from
    }

    fn run_resources(&self, place: &Place) -> Vec<String> {
        let mut from = each(place, "launch-template", &any_if_none(&self.templates));
        from.extend(each(place, "subnet", &any_if_none(&self.subnets)));
        from.extend(["image/*", "snapshot/*"].map(|resource| place.ec2_without_account(resource)));
        from.extend(["network-interface/*", "volume/*"].map(|resource| place.arn("ec2", resource)));
        // A template that names no security group gets the default one of its VPC.
        from.extend(each(place, "security-group", &any_if_none(&self.of(|named| &named.security_groups))));
        from.extend(each(place, "key-pair", &self.of(|named| &named.key_pairs)));
        from.extend(each(place, "placement-group", &self.of(|named| &named.placement_groups)));
        from.extend(each(place, "capacity-reservation", &self.of(|named| &named.capacity_reservations)));
        from.extend(self.named.iter().flat_map(|named| &named.reservation_groups).cloned());
        from
    }

    fn tagged(&self, place: &Place) -> Vec<String> {
        let spot_requests = self.named.as_ref().is_none_or(|named| named.tags_spot_requests);
        let kinds = ["fleet", "instance", "network-interface", "volume"].into_iter();
        let kinds = kinds.chain(spot_requests.then_some("spot-instances-request"));
        kinds.map(|kind| place.arn("ec2", &format!("{kind}/*"))).collect()
    }

    /// What the templates name of one kind; where they have not been read, any.
    fn of(&self, list: impl Fn(&TemplateNames) -> &Vec<String>) -> Vec<String> {
        self.named.as_ref().map_or_else(|| vec!["*".to_owned()], |named| list(named).clone())
    }

    fn pass_role(&self, place: &Place) -> Option<Statement> {
        let roles = match &self.role {
            PassedRole::None => return None,
            PassedRole::Unknown => vec![place.role(PassedRole::PLACEHOLDER)],
            // Its path, if it has one, is not told.
            PassedRole::Named(name) => vec![place.role(name), place.role(&format!("*/{name}"))],
        };
        let pass = allow("PassTheTemplatesRole", vec!["iam:PassRole"], roles);
        Some(pass.when("StringEquals", "iam:PassedToService", place.ec2_service()))
    }
}

impl TemplateNames {
    /// The image's id is read by EC2 with the caller's permissions.
    fn read_parameters(&self, place: &Place) -> Option<Statement> {
        let arn = |name: &String| match name.as_str() {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            // A version or a label after a colon is no part of the resource.
            name => {
                let name = name.split(':').next().unwrap_or(name);
                place.arn("ssm", &format!("parameter/{}", name.trim_start_matches('/')))
            }
        };
        let arns: Vec<String> = self.parameters.iter().map(arn).collect();
        (!arns.is_empty()).then(|| allow("ReadTheImagesId", vec!["ssm:GetParameters"], arns))
    }

    /// EC2 uses the keys of volumes with the caller's permissions.
    fn use_keys(&self, place: &Place) -> Option<Statement> {
        let arn = |key: &String| match key.as_str() {
            arn if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.to_owned(),
            // An alias is no resource of these actions.
            alias if alias.contains("alias/") => place.arn("kms", "key/*"),
            id => place.arn("kms", &format!("key/{id}")),
        };
        let arns: Vec<String> = self.keys.iter().map(arn).collect();
        let actions = [
            "kms:CreateGrant",
            "kms:Decrypt",
            "kms:DescribeKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ];
        let through_ec2 = format!("ec2.{}.*", place.region);
        (!arns.is_empty()).then(|| {
            allow("UseTheVolumesKeys", actions.to_vec(), arns).when("StringLike", "kms:ViaService", &[&through_ec2])
        })
    }
}

/// In order, because AWS tells them in any.
fn any_if_none(ids: &[String]) -> Vec<String> {
    let mut ids = if ids.is_empty() { vec!["*".to_owned()] } else { ids.to_vec() };
    ids.sort();
    ids.dedup();
    ids
}

fn each(place: &Place, kind: &str, ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| place.arn("ec2", &format!("{kind}/{id}"))).collect()
}
