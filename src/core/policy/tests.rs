use std::collections::BTreeMap;

use super::statement::Values;
use super::*;
use crate::core::model::{
    AutoScalingGroup, BlockDevice, InstantFleet, LaunchConfiguration, LaunchOverride, LaunchTemplate, Market, Volume,
};
use crate::core::plan::{Clue, GroupRequest, LaunchPlan};

fn config(text: &str) -> Config {
    Config::parse(text, "test").unwrap()
}

fn policy(kind: OwnerKind, text: &str) -> Policy {
    let config = config(text);
    let scope = ArnScope::new(None, "eu-west-1", "123456789012");
    Policy::of(
        &config,
        &Subject {
            scope,
            needs: OwnerNeeds::of_kind(kind, &config),
            target_groups: Vec::new(),
            on_the_way: Vec::new(),
            held_by: None,
        },
    )
}

#[test]
fn a_group_that_is_not_asked_has_its_hooks_completed_all_the_same() {
    let tags = BTreeMap::from([("aws:autoscaling:groupName".to_owned(), "shop-asg".to_owned())]);
    let allowed = |text: &str, clue: Clue| {
        let (config, scope) = (config(text), ArnScope::new(None, "eu-west-1", "123456789012"));
        let (needs, target_groups, on_the_way) = (OwnerNeeds::Nobody, Vec::new(), Vec::new());
        let held_by = held_by(&clue, &tags, &config);
        let policy = Policy::of(&config, &Subject { scope, needs, target_groups, on_the_way, held_by });
        policy.actions().into_iter().filter(|it| it.starts_with("autoscaling:")).collect::<Vec<_>>()
    };
    let nobody = || Clue::Nobody("[successor] owner is \"none\"".into());
    assert_eq!(allowed("", nobody()), [HOOKS[0], READS_OF_GROUP[0], READS_OF_GROUP[1], HOOKS[1]]);
    assert!(allowed("[watch]\nlifecycle = false\n", nobody()).is_empty());
    assert!(allowed("", Clue::AutoScalingGroup("shop-asg".into())).is_empty(), "its plan says what it needs");
}

fn statement<'a>(policy: &'a Policy, sid: &str) -> &'a Statement {
    policy.statement.iter().find(|statement| statement.sid == sid).unwrap()
}

#[test]
fn draining_alone_needs_no_compute_but_the_mark() {
    let policy = policy(OwnerKind::DrainOnly, "[survive]\nthen = \"stay-out\"\n");
    let expected = [
        "ec2:CreateTags",
        "ec2:DeleteTags",
        "ec2:DescribeInstances",
        "ec2:DescribeTags",
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    assert_eq!(policy.actions().into_iter().collect::<Vec<_>>(), expected);
}

fn any(values: &[&str]) -> Values {
    Values::Any(values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn an_instance_may_tag_and_end_itself_and_no_other() {
    let policy = policy(OwnerKind::DrainOnly, "[survive]\nthen = \"terminate\"\n");
    for sid in ["MarkItself", "EndItself"] {
        let condition = &statement(&policy, sid).condition["ArnLike"]["ec2:SourceInstanceARN"];
        assert_eq!(*condition, any(&["arn:aws:ec2:eu-west-1:123456789012:instance/${ec2:InstanceId}"]), "{sid}");
    }
    // Under the caller's own id DeleteTags would never match: a survivor would keep its mark for ever.
    let unmark = statement(&policy, "Unmark");
    assert!(unmark.action == ["ec2:DeleteTags"] && !unmark.condition.contains_key("ArnLike"), "{unmark:?}");
    for sid in ["MarkItself", "Unmark"] {
        let condition = &statement(&policy, sid).condition;
        assert_eq!(condition["ForAllValues:StringEquals"]["aws:TagKeys"], any(&[LEAVING_TAG]), "{sid}");
        // Without it a DeleteTags that names no key, which takes every tag off, would be allowed.
        assert_eq!(condition["Null"]["aws:TagKeys"], Values::One("false"), "{sid}");
    }
}

#[test]
fn what_was_asked_on_the_way_to_another_owner_or_to_none_stays_allowed() {
    let config = config("");
    let template = || Clue::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "3".into() });
    let tags = BTreeMap::from([("aws:ec2launchtemplate:id".to_owned(), "lt-1".to_owned())]);
    let nobody = Plan::nobody("it launches again");
    let of = |clue: &Clue, tags: &BTreeMap<String, String>| {
        let scope = ArnScope::new(None, "eu-west-1", "123456789012");
        let needs = OwnerNeeds::of_plan(&nobody, &[], &config);
        let on_the_way = reads_on_the_way(clue, tags, &nobody, &config);
        let policy =
            Policy::of(&config, &Subject { scope, needs, target_groups: Vec::new(), on_the_way, held_by: None });
        let reads: Vec<&str> = statement(&policy, "LookUp").action.clone();
        reads
            .into_iter()
            .filter(|action| !action.starts_with("elastic"))
            .filter(|action| !["ec2:DescribeTags", "ec2:DescribeInstances"].contains(action))
            .collect::<Vec<_>>()
    };
    let none = BTreeMap::new();
    let requests = "ec2:DescribeSpotInstanceRequests";
    let nothing: Vec<&str> = Vec::new();
    assert_eq!(of(&Clue::AutoScalingGroup("web".into()), &tags), ["autoscaling:DescribeAutoScalingGroups"]);
    assert_eq!(of(&Clue::Fleet(FleetKind::Ec2, "fleet-1".into()), &none), ["ec2:DescribeFleets"]);
    assert_eq!(of(&Clue::Fleet(FleetKind::Ec2, "fleet-1".into()), &tags), ["ec2:DescribeFleets", requests]);
    assert_eq!(of(&Clue::Fleet(FleetKind::Spot, "sfr-1".into()), &none), ["ec2:DescribeSpotFleetRequests"]);
    assert_eq!(of(&template(), &none), [requests]);
    assert_eq!(of(&Clue::Nobody("no tags".into()), &tags), nothing);
}

#[test]
fn listed_target_groups_are_named_and_others_are_not_touched() {
    let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/api/0123456789abcdef";
    let policy = policy(OwnerKind::DrainOnly, &format!("target-groups = [\"web:8080\", \"{arn}:81\"]\n"));
    let web = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/*";
    assert_eq!(statement(&policy, "TargetGroups").resource, [arn, web]);
}

#[test]
fn a_drill_comes_back_where_the_policy_of_one_that_stays_out_has_no_way_back() {
    let web =
        [TargetGroupArn::new("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef")];
    let left_out =
        |text: &str, plan: &Plan, groups: &[TargetGroupArn]| left_out_of_the_way_back(&config(text), plan, groups);
    let nobody = Plan::nobody("no tags");
    let stays_out = "[survive]\nthen = \"stay-out\"\n";
    let arrives = format!("target-groups = [\"web\"]\n[arrive]\nregister = true\n{stays_out}");
    assert_eq!(left_out("", &nobody, &web), Vec::<&str>::new());
    assert_eq!(left_out(stays_out, &nobody, &[]), Vec::<&str>::new(), "nothing is registered again");
    assert_eq!(left_out(stays_out, &nobody, &web), ["elasticloadbalancing:RegisterTargets"]);
    assert_eq!(left_out(&arrives, &nobody, &web), Vec::<&str>::new());
}

#[test]
fn launching_first_is_allowed_only_where_the_configuration_asks_for_it_and_with_all_that_comes_with_it() {
    let of = |text: &str| policy(OwnerKind::AutoScalingGroup, text).actions();
    let launches = |text: &str| of(text).contains("autoscaling:LaunchInstances");
    assert!(!launches(""));
    assert!(launches("[leave]\nwhen = \"successor-healthy\"\n"));
    assert!(launches("[watch]\nrebalance = \"hand-over\"\n"));
    assert!(launches("[watch]\nscheduled-events = \"hand-over\"\n"));
    let (_, with_it) = IN_PASSING.into_iter().find(|(action, _)| *action == "autoscaling:LaunchInstances").unwrap();
    for action in with_it {
        assert!(of("[leave]\nwhen = \"successor-healthy\"\n").contains(action), "{action}");
        assert!(*action == "ec2:CreateTags" || !of("").contains(action), "{action} only with it");
    }
    let first = config("[leave]\nwhen = \"successor-healthy\"\n");
    for has_launch_configuration in [false, true] {
        let group = AutoScalingGroup { has_launch_configuration, ..AutoScalingGroup::default() };
        let plan = Plan::Group { group, how: GroupRequest::Detach };
        let OwnerNeeds::Group(needs) = OwnerNeeds::of_plan(&plan, &[], &first) else { panic!("a group's") };
        assert_eq!(needs.launches_first(), !has_launch_configuration, "AWS refuses it there");
    }
}

#[test]
fn a_role_that_is_not_known_is_a_placeholder_and_no_wildcard() {
    let policy = policy(OwnerKind::LaunchTemplate, "");
    let pass = statement(&policy, "PassTheTemplatesRole");
    assert_eq!(pass.resource, ["arn:aws:iam::123456789012:role/NAME-OF-THE-TEMPLATES-ROLE"]);
    assert_eq!(pass.condition["StringEquals"]["iam:PassedToService"], any(&["ec2.amazonaws.com"]));
}

#[test]
fn volumes_are_tagged_only_where_the_template_tags_them_and_made_in_any_case() {
    for (tags_volumes, granted) in
        [(true, ["FleetFrom", "LaunchFrom", "TagWhatIsLaunched"].as_slice()), (false, &["LaunchFrom"])]
    {
        let config = Config::default();
        let mut needs = OwnerNeeds::of_kind(OwnerKind::LaunchTemplate, &config);
        needs.source_mut().unwrap().named = Some(TemplateNames { tags_volumes, ..TemplateNames::default() });
        let scope = ArnScope::new(None, "eu-west-1", "123456789012");
        let subject = Subject { scope, needs, target_groups: Vec::new(), on_the_way: Vec::new(), held_by: None };
        let policy = Policy::of(&config, &subject);
        let names_volumes = |it: &&Statement| it.resource.iter().any(|arn| arn.ends_with(":volume/*"));
        let sids: Vec<&str> = policy.statement.iter().filter(names_volumes).map(|it| it.sid).collect();
        assert_eq!(sids, granted, "{tags_volumes}");
    }
}

#[test]
fn a_template_that_is_named_is_the_only_one_to_launch_from() {
    let text = "[successor]\nlaunch-template = \"lt-0abc:3\"\nsubnets = [\"subnet-1\", \"subnet-2\"]\n";
    let policy = policy(OwnerKind::LaunchTemplate, text);
    let from = &statement(&policy, "LaunchFrom").resource;
    let of = |kind: &str| -> Vec<&String> { from.iter().filter(|arn| arn.contains(kind)).collect() };
    assert_eq!(of("launch-template/"), ["arn:aws:ec2:eu-west-1:123456789012:launch-template/lt-0abc"]);
    assert_eq!(of("subnet/").len(), 2);
    let named_by_it =
        ["image/", "key-pair/", "network-interface/", "placement-group/", "security-group/", "volume/", "snapshot/"];
    for named_by_it in named_by_it {
        assert_eq!(of(named_by_it).len(), 1, "a launch by a template that names one is denied without {named_by_it}");
    }
    assert!(
        policy.actions().contains("ec2:DescribeLaunchTemplateVersions"),
        "what it names decides how it is launched"
    );
}

#[test]
fn what_the_template_names_is_all_that_is_allowed_of_its_kind() {
    let config = config("");
    let scope = ArnScope::new(None, "eu-west-1", "123456789012");
    let mut needs = OwnerNeeds::of_kind(OwnerKind::LaunchTemplate, &config);
    needs.source_mut().unwrap().named = Some(TemplateNames {
        key_pairs: vec!["operators".into()],
        security_groups: vec!["sg-1".into()],
        capacity_reservations: vec!["cr-1".into()],
        parameters: vec![
            "/images/web:3".into(),
            "/aws/service/ami-amazon-linux-latest/al2023:prod".into(),
            "arn:aws:ssm:eu-west-1:210987654321:parameter/shared:7".into(),
        ],
        keys: vec!["alias/volumes".into(), "arn:aws:kms:eu-west-1:210987654321:key/1234".into()],
        ..TemplateNames::default()
    });
    let policy = Policy::of(
        &config,
        &Subject { scope, needs, target_groups: Vec::new(), on_the_way: Vec::new(), held_by: None },
    );
    let from = &statement(&policy, "LaunchFrom").resource;
    let here = |resource: &str| format!("arn:aws:ec2:eu-west-1:123456789012:{resource}");
    for named in ["key-pair/operators", "security-group/sg-1", "capacity-reservation/cr-1", "network-interface/*"] {
        assert!(from.contains(&here(named)), "{named} in {from:?}");
    }
    for other in ["key-pair/*", "security-group/*", "capacity-reservation/*", "placement-group/*"] {
        assert!(!from.contains(&here(other)), "{other} in {from:?}");
    }
    let image = statement(&policy, "ReadTheImagesId");
    assert_eq!(
        image.resource,
        [
            "arn:aws:ssm:eu-west-1:123456789012:parameter/images/web",
            "arn:aws:ssm:eu-west-1::parameter/aws/service/ami-amazon-linux-latest/al2023",
            "arn:aws:ssm:eu-west-1:210987654321:parameter/shared",
        ]
    );
    let keys = statement(&policy, "UseTheVolumesKeys");
    assert_eq!(
        keys.resource,
        ["arn:aws:kms:eu-west-1:123456789012:key/*", "arn:aws:kms:eu-west-1:210987654321:key/1234"]
    );
    assert!(!statement(&policy, "TagWhatIsLaunched").resource.iter().any(|arn| arn.contains("spot-instances-request")));
}

#[test]
fn the_partition_is_the_metadatas_and_else_the_regions() {
    for (region, partition, services) in [
        ("cn-north-1", "aws-cn", ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"].as_slice()),
        ("us-gov-west-1", "aws-us-gov", &["ec2.amazonaws.com"]),
        ("eusc-de-east-1", "aws-eusc", &["ec2.amazonaws.com"]),
        ("us-iso-east-1", "aws-iso", &["ec2.amazonaws.com"]),
        ("us-isob-east-1", "aws-iso-b", &["ec2.amazonaws.com"]),
        ("eu-isoe-west-1", "aws-iso-e", &["ec2.amazonaws.com"]),
        ("us-isof-south-1", "aws-iso-f", &["ec2.amazonaws.com"]),
        ("eu-central-1", "aws", &["ec2.amazonaws.com"]),
        ("*", "aws", &["ec2.amazonaws.com"]),
    ] {
        let scope = ArnScope::new(None, region, "*");
        assert_eq!(scope.arn("ec2", "fleet/*"), format!("arn:{partition}:ec2:{region}:*:fleet/*"));
        assert_eq!(scope.ec2_service(), services);
        let told = ArnScope::new(Some("aws-new"), region, "*");
        assert_eq!(told.arn("ec2", "fleet/*"), format!("arn:aws-new:ec2:{region}:*:fleet/*"));
    }
}

#[test]
fn it_reads_as_iam_spells_it() {
    let policy = serde_json::to_value(policy(OwnerKind::Ec2Fleet, "")).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let modify = policy["Statement"].as_array().unwrap().iter().find(|it| it["Sid"] == "AskTheFleet").unwrap();
    let expected = serde_json::json!({
        "Sid": "AskTheFleet",
        "Effect": "Allow",
        "Action": ["ec2:ModifyFleet"],
        "Resource": ["arn:aws:ec2:eu-west-1:123456789012:fleet/*"],
    });
    assert_eq!(*modify, expected);
}

/// A plan of one attempt: pools, as `subnet` or without one, of each template.
fn launching(templates: &[(&str, &[Option<&str>])]) -> LaunchPlan {
    let pool = |subnet: &Option<&str>| LaunchOverride { subnet_id: subnet.map(str::to_owned), ..Default::default() };
    let configuration = |(template, pools): &(&str, &[Option<&str>])| LaunchConfiguration {
        template: LaunchTemplate { id_or_name: (*template).into(), version: "1".into() },
        overrides: pools.iter().map(pool).collect(),
    };
    let launch_configurations = templates.iter().map(configuration).collect();
    LaunchPlan {
        from: "launch template lt-1".into(),
        attempts: vec![InstantFleet { launch_configurations, market: Market::Spot, tags: BTreeMap::new() }],
        ..LaunchPlan::default()
    }
}

#[test]
fn a_templates_own_subnet_stands_beside_those_of_the_pools() {
    let own = BTreeMap::from([("lt-1".to_owned(), "s-own".to_owned())]);
    let both = launching(&[("lt-1", &[None]), ("lt-2", &[Some("s-1"), Some("s-2")])]);
    assert_eq!(launched_into(&both, &own), ["s-1", "s-2", "s-own"]);
    let of_the_pools = launching(&[("lt-1", &[Some("s-1")])]);
    assert_eq!(launched_into(&of_the_pools, &own), ["s-1"], "the override decides");
    let alone = launching(&[("lt-1", &[])]);
    assert_eq!(launched_into(&alone, &own), ["s-own"]);
    let any: [&str; 0] = [];
    assert_eq!(launched_into(&both, &BTreeMap::new()), any, "any where one is not known");
}

#[test]
fn what_an_override_names_is_allowed_as_what_its_template_names() {
    let device = BlockDevice {
        volume: Some(Volume { kms_key_id: Some("key-1".into()), ..Volume::default() }),
        ..BlockDevice::default()
    };
    let pool = LaunchOverride {
        placement_group: Some("rack".into()),
        image_id: Some("resolve:ssm:/images/web".into()),
        block_devices: vec![device],
        ..LaunchOverride::default()
    };
    let named = TemplateNames::of_override(&pool);
    assert_eq!((named.placement_groups, named.keys), (vec!["rack".to_owned()], vec!["key-1".to_owned()]));
    assert_eq!(named.parameters, ["/images/web"]);
}

#[test]
fn a_sign_of_iam_s_in_a_group_s_name_is_the_sign_itself() {
    let scope = ArnScope::new(None, "eu-west-1", "1");
    assert!(scope.group("web*$?").ends_with("autoScalingGroupName/web${*}${$}${?}"), "{}", scope.group("web*$?"));
}
