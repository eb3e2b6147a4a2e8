"""Instances, tags, subnets, launch templates: what EC2 answers about the world."""

import pytest

from conftest import ZONES, refused, until


def ids(answer):
    return [one["InstanceId"] for each in answer["Reservations"] for one in each["Instances"]]


def filtered(world, **filters):
    named = [{"Name": name.replace("_", "-"), "Values": values} for name, values in filters.items()]
    return ids(world.ec2.describe_instances(Filters=named))


def test_an_instance_is_described(world):
    one = world.ec2.describe_instances(InstanceIds=[world.ours])["Reservations"][0]["Instances"][0]
    tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
    assert one["InstanceType"] == "m5.large"
    assert one["Placement"]["AvailabilityZone"] == "eu-west-1a"
    assert one["InstanceLifecycle"] == "spot"
    assert one["SubnetId"] == world.subnet("eu-west-1a")
    assert tags["aws:autoscaling:groupName"] == "web"
    assert tags["aws:ec2launchtemplate:id"] == world.template()
    assert tags["aws:ec2launchtemplate:version"] == "1"
    assert tags["Name"] == "web"


def test_only_the_low_byte_of_a_state_code_is_the_state(world):
    code = world.ec2.describe_instances(InstanceIds=[world.ours])["Reservations"][0]["Instances"][0]["State"]["Code"]
    assert code & 0xFF == 16 and code != 16


def test_instances_are_found_by_filters(world):
    everyone = {world.ours, *world.others()}
    assert set(filtered(world, instance_state_name=["running"])) == everyone
    assert set(filtered(world, instance_state_code=["16"])) == everyone
    assert filtered(world, instance_state_code=["48"]) == []
    assert filtered(world, availability_zone=["eu-west-1b"]) == [world.others()[1]]
    assert filtered(world, instance_type=["c5.large"]) == []
    assert set(filtered(world, **{"tag:aws:autoscaling:groupName": ["web"]})) == everyone
    assert filtered(world, **{"tag:Name": ["web"], "instance_state_name": ["running", "pending"]}) == [world.ours]
    assert filtered(world, tag_key=["Name"]) == [world.ours]
    assert filtered(world, instance_id=[world.ours], instance_lifecycle=["spot"]) == [world.ours]
    wrong = [{"Name": "no-such-filter", "Values": ["x"]}]
    assert refused(world.ec2.describe_instances, Filters=wrong)[0] == "InvalidParameterValue"
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html
    many = [{"Name": "instance-id", "Values": [f"i-{number:017x}" for number in range(201)]}]
    assert refused(world.ec2.describe_instances, Filters=many)[0] == "FilterLimitExceeded"
    assert refused(world.ec2.describe_spot_instance_requests, Filters=many)[0] == "FilterLimitExceeded"


def test_instances_come_in_pages(start):
    world = start(others=[{"instance_type": "m5.large", "zone": "eu-west-1b"}] * 11)
    pages = list(world.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(ids(page)) for page in pages] == [5, 5, 2]
    assert len({one for page in pages for one in ids(page)}) == 12
    assert refused(world.ec2.describe_instances, NextToken="x", MaxResults=5)[0] == "InvalidNextToken"


def test_an_unknown_instance_is_named_so(world):
    unknown = "i-0123456789abcdef0"
    assert refused(world.ec2.describe_instances, InstanceIds=[unknown])[0] == "InvalidInstanceID.NotFound"
    assert refused(world.ec2.terminate_instances, InstanceIds=[unknown])[0] == "InvalidInstanceID.NotFound"
    assert refused(world.ec2.describe_instances, InstanceIds=["web"])[0] == "InvalidInstanceID.Malformed"


def test_a_terminated_instance_shuts_down_first(start):
    world = start(owner={"kind": "launch-template"})
    change = world.ec2.terminate_instances(InstanceIds=[world.ours])["TerminatingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert world.state(world.ours) == "shutting-down"
    until(lambda: world.state(world.ours) == "terminated")
    assert not world.successors()


def test_tags_are_made_found_and_deleted(world):
    tags = [{"Key": "spot-relay:predecessor", "Value": "i-1"}, {"Key": "b", "Value": "2"}]
    world.ec2.create_tags(Resources=[world.ours], Tags=tags)

    def found(*filters):
        return {(one["Key"], one["Value"]) for one in world.ec2.describe_tags(Filters=list(filters))["Tags"]}

    mine = {"Name": "resource-id", "Values": [world.ours]}
    assert {("spot-relay:predecessor", "i-1"), ("b", "2"), ("aws:autoscaling:groupName", "web")} <= found(mine)
    assert found(mine, {"Name": "key", "Values": ["b"]}) == {("b", "2")}
    assert found(mine, {"Name": "key", "Values": ["spot-relay:*"]}) == {("spot-relay:predecessor", "i-1")}
    world.ec2.delete_tags(Resources=[world.ours], Tags=[{"Key": "b", "Value": "another"}])
    assert ("b", "2") in found(mine)
    world.ec2.delete_tags(Resources=[world.ours], Tags=[{"Key": "b"}])
    assert ("b", "2") not in found(mine)


def test_tags_come_in_pages_with_their_resources(world):
    pages = list(world.ec2.get_paginator("describe_tags").paginate(PaginationConfig={"PageSize": 5}))
    everything = [tag for page in pages for tag in page["Tags"]]
    assert len(pages) > 1
    assert {tag["ResourceType"] for tag in everything} == {"instance"}


def test_aws_keeps_its_tags_to_itself(world):
    tags = [{"Key": "aws:autoscaling:groupName", "Value": "x"}]
    assert refused(world.ec2.create_tags, Resources=[world.ours], Tags=tags)[0] == "InvalidParameterValue"
    unknown = "i-0123456789abcdef0"
    tags = [{"Key": "a", "Value": "b"}]
    assert refused(world.ec2.create_tags, Resources=[unknown], Tags=tags)[0] == "InvalidInstanceID.NotFound"


def test_there_is_a_subnet_in_each_zone(world):
    subnets = world.ec2.describe_subnets()["Subnets"]
    assert [subnet["AvailabilityZone"] for subnet in subnets] == ZONES
    one = world.ec2.describe_subnets(SubnetIds=[subnets[1]["SubnetId"]])["Subnets"]
    assert [subnet["AvailabilityZone"] for subnet in one] == ["eu-west-1b"]
    by_zone = [{"Name": "availability-zone", "Values": ["eu-west-1c"]}]
    assert len(world.ec2.describe_subnets(Filters=by_zone)["Subnets"]) == 1
    assert refused(world.ec2.describe_subnets, SubnetIds=["subnet-1"])[0] == "InvalidSubnetID.NotFound"


def test_a_launch_template_is_made_and_described(world):
    data = {
        "ImageId": "ami-1",
        "InstanceType": "c5.large",
        "SecurityGroupIds": ["sg-1"],
        "IamInstanceProfile": {"Name": "profile"},
        "InstanceMarketOptions": {"MarketType": "spot"},
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1"}],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "web"}]}],
    }
    made = world.ec2.create_launch_template(LaunchTemplateName="new", LaunchTemplateData=data)["LaunchTemplate"]
    shown = world.ec2.describe_launch_templates(LaunchTemplateNames=["new"])["LaunchTemplates"]
    assert [(one["LaunchTemplateId"], one["LatestVersionNumber"]) for one in shown] == [(made["LaunchTemplateId"], 1)]
    for version in ("$Latest", "$Default", "1"):
        versions = world.ec2.describe_launch_template_versions(LaunchTemplateName="new", Versions=[version])
        version = versions["LaunchTemplateVersions"][0]
        assert (version["VersionNumber"], version["DefaultVersion"]) == (1, True)
        assert version["LaunchTemplateData"] == data
    again = {"LaunchTemplateName": "new", "LaunchTemplateData": data}
    code, _ = refused(world.ec2.create_launch_template, **again)
    assert code == "InvalidLaunchTemplateName.AlreadyExistsException"


@pytest.mark.parametrize(
    "parameters, code",
    [
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidLaunchTemplateId.NotFound"),
        ({"LaunchTemplateName": "other"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateName": "web", "Versions": ["7"]}, "InvalidLaunchTemplateId.VersionNotFound"),
    ],
)
def test_an_unknown_launch_template_is_named_so(world, parameters, code):
    assert refused(world.ec2.describe_launch_template_versions, **parameters)[0] == code


def fleet(world, overrides=(), market="spot", **more):
    template = {"LaunchTemplateId": world.template(), "Version": "1"}
    return dict(
        Type="instant",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": list(overrides)}],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": market},
        **more,
    )


def run(world, **more):
    template = {"LaunchTemplateId": world.template(), "Version": "1"}
    return dict({"LaunchTemplate": template, "MinCount": 1, "MaxCount": 1}, **more)


def test_two_pools_of_one_type_and_zone_are_refused(start):
    world = start(owner={"kind": "launch-template"}, subnets_in_a_zone=2)
    subnets = [one["SubnetId"] for one in world.ec2.describe_subnets()["Subnets"] if one["AvailabilityZone"] == ZONES[0]]
    overrides = [{"InstanceType": "m5.large", "SubnetId": subnet} for subnet in subnets]
    assert len(overrides) == 2
    assert refused(world.ec2.create_fleet, **fleet(world, overrides))[0] == "InvalidFleetConfig"
    assert world.ec2.create_fleet(**fleet(world, overrides[:1]))["Instances"]


def test_a_template_for_spot_may_be_refused_and_is_launched_by_run_instances(start):
    template = {"asks_for_spot": True, "max_price": "0.05"}
    world = start(owner={"kind": "launch-template"}, template=template)
    assert refused(world.ec2.create_fleet, **fleet(world))[0] == "InvalidParameterCombination"
    one = world.ec2.run_instances(**run(world, ClientToken="a"))["Instances"][0]
    assert one["InstanceLifecycle"] == "spot"
    again = world.ec2.run_instances(**run(world, ClientToken="a"))["Instances"][0]
    assert again["InstanceId"] == one["InstanceId"] and len(world.successors()) == 1
    other = run(world, ClientToken="a", InstanceType="m5.xlarge")
    assert refused(world.ec2.run_instances, **other)[0] == "IdempotentParameterMismatch"
    versions = world.ec2.describe_launch_template_versions(LaunchTemplateId=world.template(), Versions=["1"])
    options = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["InstanceMarketOptions"]
    assert options == {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.05"}}
    world = start(owner={"kind": "launch-template"}, template=template, fleets_take_market_options=True)
    assert world.ec2.create_fleet(**fleet(world))["Instances"]


def test_tags_on_spot_requests_are_refused_on_demand(start):
    world = start(owner={"kind": "launch-template"}, template={"tags_spot_requests": True})
    errors = world.ec2.create_fleet(**fleet(world, market="on-demand"))["Errors"]
    assert [one["ErrorCode"] for one in errors] == ["InvalidParameterValue"]
    code, message = refused(world.ec2.run_instances, **run(world))
    assert code == "InvalidParameterValue" and "spot-instances-request" in message
    on_spot = run(world, InstanceMarketOptions={"MarketType": "spot"})
    assert world.ec2.run_instances(**on_spot)["Instances"][0]["InstanceLifecycle"] == "spot"


def test_a_subnet_beside_interfaces_is_refused(start):
    world = start(owner={"kind": "launch-template"}, template={"names_its_subnet": True})
    beside = run(world, SubnetId=world.subnet(ZONES[1]))
    assert refused(world.ec2.run_instances, **beside)[0] == "InvalidParameterCombination"
    one = world.ec2.run_instances(**run(world))["Instances"][0]
    assert one["SubnetId"] == world.subnet(ZONES[0])


def test_what_a_call_says_itself_needs_no_template(world):
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    spelled = dict(ImageId="ami-1", InstanceType="m5.large", MinCount=1, MaxCount=1, TagSpecifications=tags)
    one = world.ec2.run_instances(**spelled)["Instances"][0]
    assert one["Tags"] == [{"Key": "a", "Value": "b"}] and "InstanceLifecycle" not in one
    del spelled["ImageId"]
    assert refused(world.ec2.run_instances, **spelled)[0] == "MissingParameter"


def test_no_capacity_is_an_error_of_500(start):
    world = start(owner={"kind": "launch-template"}, no_capacity=[{}])
    assert refused(world.ec2.run_instances, **run(world))[0] == "InsufficientInstanceCapacity"


def test_an_instance_that_dies_at_birth_tells_why(start):
    death = {"reason": "Client.InternalError", "count": 1}
    world = start(owner={"kind": "launch-template"}, dies_at_birth=death)
    ids_ = [world.ec2.run_instances(**run(world))["Instances"][0]["InstanceId"] for _ in range(2)]
    until(lambda: world.state(ids_[0]) == "terminated")
    assert world.state(ids_[1]) in ("pending", "running")
    one = world.ec2.describe_instances(InstanceIds=ids_[:1])["Reservations"][0]["Instances"][0]
    assert one["StateReason"]["Code"] == "Client.InternalError"


def test_an_address_may_show_late(start):
    world = start(owner={"kind": "launch-template"}, timings={"address_after": "300ms"})
    new = world.ec2.run_instances(**run(world))["Instances"][0]["InstanceId"]

    def address():
        one = world.ec2.describe_instances(InstanceIds=[new])["Reservations"][0]["Instances"][0]
        return one["State"]["Name"] == "running" and one.get("PrivateIpAddress")

    until(lambda: world.state(new) == "running")
    assert not address()
    until(address)


def test_a_persistent_request_launches_again(start):
    world = start(owner={"kind": "launch-template"}, persistent_request=True)
    mine = [{"Name": "instance-id", "Values": [world.ours]}]
    assert world.ec2.describe_spot_instance_requests(Filters=mine)["SpotInstanceRequests"][0]["Type"] == "persistent"
    world.ec2.terminate_instances(InstanceIds=[world.ours])
    until(lambda: len(world.successors()) == 1)


def test_a_new_instance_may_not_be_known_yet(start):
    world = start(owner={"kind": "launch-template"}, timings={"visible_after": "300ms"})
    template = {"LaunchTemplateId": world.template(), "Version": "1"}
    made = world.ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template}],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
    )
    new = made["Instances"][0]["InstanceIds"]
    assert refused(world.ec2.describe_instances, InstanceIds=new)[0] == "InvalidInstanceID.NotFound"
    until(lambda: new[0] in filtered(world, instance_state_name=["pending", "running"]))
    assert world.state(new[0]) == "running"


@pytest.mark.parametrize("imds_v1, hop_limit, tags", [(False, 1, True), (True, 2, False)])
def test_the_metadata_options_are_told(start, imds_v1, hop_limit, tags):
    world = start(imds_v1=imds_v1, hop_limit=hop_limit, tags_in_metadata=tags)
    one = world.ec2.describe_instances(InstanceIds=[world.ours])["Reservations"][0]["Instances"][0]
    options = one["MetadataOptions"]
    assert options["HttpTokens"] == ("optional" if imds_v1 else "required")
    assert options["HttpPutResponseHopLimit"] == hop_limit
    assert options["InstanceMetadataTags"] == ("enabled" if tags else "disabled")
