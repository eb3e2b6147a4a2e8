//! The permissions that a launch needs: for CreateFleet and RunInstances, which we call, or which Auto Scaling calls in
//! our name for LaunchInstances.
//!
//! Each action stands with the resource types that the service authorization reference knows for it, and with no other.

use super::arn_scope::ArnScope;
use super::launch_source::{LaunchSource, PassedRole, TemplateNames};
use super::statement::{Statement, allow};
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

/// The caller of EC2 for the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaunchedBy {
    /// We do: everything launched has to bear the tag of its predecessor.
    Us,
    /// The Auto Scaling group does, in our name: its instances do not bear our tags.
    TheGroup,
}

impl LaunchSource {
    pub(super) fn statements(&self, caller: LaunchedBy, scope: &ArnScope) -> Vec<Statement> {
        let mut statements = vec![
            allow("FleetFrom", vec!["ec2:CreateFleet"], self.fleet_resources(scope)),
            allow("LaunchFrom", vec!["ec2:RunInstances"], self.run_resources(scope)),
        ];
        let fleet = allow("MakeFleets", vec!["ec2:CreateFleet"], vec![scope.arn("ec2", "fleet/*")]);
        let instance = vec![scope.arn("ec2", "instance/*")];
        let instance = allow("LaunchSuccessors", vec!["ec2:CreateFleet", "ec2:RunInstances"], instance);
        let predecessor = format!("aws:RequestTag/{PREDECESSOR_TAG}");
        statements.extend([fleet, instance].map(|made| match caller {
            LaunchedBy::Us => made.when("StringLike", &predecessor, &["i-*"]),
            LaunchedBy::TheGroup => made,
        }));
        let tags = allow("TagWhatIsLaunched", vec!["ec2:CreateTags"], self.tagged(scope));
        statements.push(tags.when("StringEquals", "ec2:CreateAction", &["CreateFleet", "RunInstances"]));
        statements.extend(self.pass_role(scope));
        statements.extend(
            self.named.iter().flat_map(|named| [named.read_parameters(scope), named.use_keys(scope)]).flatten(),
        );
        statements
    }

    fn fleet_resources(&self, scope: &ArnScope) -> Vec<String> {
        let mut from = each(scope, "launch-template", &any_if_none(&self.templates));
        from.extend(each(scope, "subnet", &any_if_none(&self.subnets)));
        from.push(scope.of_aws("ec2", "image/*"));
        from.extend(each(scope, "placement-group", &self.of(|named| &named.placement_groups)));
        from.extend(self.tags_volumes().then(|| scope.arn("ec2", "volume/*")));
        from
    }

    /// CreateFleet and CreateTags need volumes only if these are tagged; RunInstances makes them, tagged or not.
    fn tags_volumes(&self) -> bool {
        self.named.as_ref().is_none_or(|named| named.tags_volumes)
    }

    fn run_resources(&self, scope: &ArnScope) -> Vec<String> {
        let mut from = each(scope, "launch-template", &any_if_none(&self.templates));
        from.extend(each(scope, "subnet", &any_if_none(&self.subnets)));
        from.extend(["image/*", "snapshot/*"].map(|resource| scope.of_aws("ec2", resource)));
        from.extend(["network-interface/*", "volume/*"].map(|resource| scope.arn("ec2", resource)));
        // A template that names no security group gets the default one of its VPC.
        from.extend(each(scope, "security-group", &any_if_none(&self.of(|named| &named.security_groups))));
        from.extend(each(scope, "key-pair", &self.of(|named| &named.key_pairs)));
        from.extend(each(scope, "placement-group", &self.of(|named| &named.placement_groups)));
        from.extend(each(scope, "capacity-reservation", &self.of(|named| &named.capacity_reservations)));
        from.extend(self.named.iter().flat_map(|named| &named.reservation_groups).cloned());
        from
    }

    fn tagged(&self, scope: &ArnScope) -> Vec<String> {
        let spot_requests = self.named.as_ref().is_none_or(|named| named.tags_spot_requests);
        let kinds = ["fleet", "instance", "network-interface"].into_iter();
        let kinds = kinds.chain(self.tags_volumes().then_some("volume"));
        let kinds = kinds.chain(spot_requests.then_some("spot-instances-request"));
        kinds.map(|kind| scope.arn("ec2", &format!("{kind}/*"))).collect()
    }

    /// The names of one kind in the templates; any, where they have not been read.
    fn of(&self, list: impl Fn(&TemplateNames) -> &Vec<String>) -> Vec<String> {
        self.named.as_ref().map_or_else(|| vec!["*".to_owned()], |named| list(named).clone())
    }

    fn pass_role(&self, scope: &ArnScope) -> Option<Statement> {
        let roles = match &self.role {
            PassedRole::None => return None,
            PassedRole::Unknown => vec![scope.role(PassedRole::PLACEHOLDER)],
            // The role's path, if it has one, is not known.
            PassedRole::Named(name) => vec![scope.role(name), scope.role(&format!("*/{name}"))],
        };
        let pass = allow("PassTheTemplatesRole", vec!["iam:PassRole"], roles);
        Some(pass.when("StringEquals", "iam:PassedToService", scope.ec2_service()))
    }
}

impl TemplateNames {
    /// Allows EC2 to read the image's id with the caller's permissions.
    fn read_parameters(&self, scope: &ArnScope) -> Option<Statement> {
        // A version or a label after a colon is no part of the resource.
        let arn = |name: &String| match name.as_str() {
            arn if arn.starts_with("arn:") => arn.split(':').take(6).collect::<Vec<_>>().join(":"),
            name => {
                let name = name.split(':').next().unwrap_or(name).trim_start_matches('/');
                let parameter = format!("parameter/{name}");
                // AWS's own parameters belong to no account.
                if name.starts_with("aws/") { scope.of_aws("ssm", &parameter) } else { scope.arn("ssm", &parameter) }
            }
        };
        let arns: Vec<String> = self.parameters.iter().map(arn).collect();
        (!arns.is_empty()).then(|| allow("ReadTheImagesId", vec!["ssm:GetParameters"], arns))
    }

    /// Allows EC2 to use the keys of volumes with the caller's permissions.
    fn use_keys(&self, scope: &ArnScope) -> Option<Statement> {
        let arn = |key: &String| match key.as_str() {
            arn if arn.starts_with("arn:") && !arn.contains(":alias/") => arn.to_owned(),
            // An alias is no resource of these actions.
            alias if alias.contains("alias/") => scope.arn("kms", "key/*"),
            id => scope.arn("kms", &format!("key/{id}")),
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
        let through_ec2 = format!("ec2.{}.*", scope.region);
        (!arns.is_empty()).then(|| {
            allow("UseTheVolumesKeys", actions.to_vec(), arns).when("StringLike", "kms:ViaService", &[&through_ec2])
        })
    }
}

/// Sorts the ids, because AWS returns them in any order; `*` where there are none.
fn any_if_none(ids: &[String]) -> Vec<String> {
    let mut ids = if ids.is_empty() { vec!["*".to_owned()] } else { ids.to_vec() };
    ids.sort();
    ids.dedup();
    ids
}

fn each(scope: &ArnScope, kind: &str, ids: &[String]) -> Vec<String> {
    ids.iter().map(|id| scope.arn("ec2", &format!("{kind}/{id}"))).collect()
}
