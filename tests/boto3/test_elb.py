"""Target groups: a target is an id and a port, draining takes its whole delay, only health proves anything."""

import time

from conftest import refused, until


def web(**more):
    return {"name": "web", "port": 80, "ports": [8080], **more}


def test_a_deregistration_without_the_port_succeeds_and_does_nothing(start):
    world = start(target_groups=[web()])
    arn = world.target_group()
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": world.ours}])
    assert world.health() == ("healthy", None)
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": world.ours, "Port": 8080}])
    assert world.health() == ("draining", "Target.DeregistrationInProgress")


def test_without_a_port_the_groups_own_is_meant(world):
    world.elb.deregister_targets(TargetGroupArn=world.target_group(), Targets=[{"Id": world.ours}])
    assert world.health()[0] == "draining"


def test_one_call_drains_all_ports_of_an_instance_and_nobody_elses(start):
    world = start(target_groups=[web(ports=[8080, 8081])])
    targets = [{"Id": world.ours, "Port": port} for port in (8080, 8081)]
    world.elb.deregister_targets(TargetGroupArn=world.target_group(), Targets=targets)
    assert [world.health(port=port)[0] for port in (8080, 8081)] == ["draining", "draining"]
    assert world.health(world.others()[0], 8080)[0] == "healthy"


def test_draining_lasts_for_the_whole_delay_and_then_the_target_is_gone(start):
    world = start(target_groups=[web(deregistration_delay="600ms")])
    arn = world.target_group()
    target = {"Id": world.ours, "Port": 8080}
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[target])
    began = time.monotonic()
    time.sleep(0.4)
    assert world.health()[0] == "draining"
    until(lambda: world.health() is None)
    assert time.monotonic() - began >= 0.55
    named = world.elb.describe_target_health(TargetGroupArn=arn, Targets=[target])["TargetHealthDescriptions"]
    assert [(one["TargetHealth"]["State"], one["TargetHealth"]["Reason"]) for one in named] == [
        ("unused", "Target.NotRegistered")
    ]


def test_a_repeated_deregistration_neither_fails_nor_prolongs_the_draining(start):
    world = start(target_groups=[web(deregistration_delay="500ms")])
    call = {"TargetGroupArn": world.target_group(), "Targets": [{"Id": world.ours, "Port": 8080}]}
    world.elb.deregister_targets(**call)
    time.sleep(0.3)
    world.elb.deregister_targets(**call)
    time.sleep(0.3)
    assert world.health() is None
    world.elb.deregister_targets(**call)


def test_deregistering_what_never_was_there_succeeds(world):
    targets = [{"Id": "i-0123456789abcdef0", "Port": 80}]
    answer = world.elb.deregister_targets(TargetGroupArn=world.target_group(), Targets=targets)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_target_registered_again_while_it_drains_comes_back(world):
    arn, targets = world.target_group(), [{"Id": world.ours, "Port": 80}]
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=targets)
    world.elb.register_targets(TargetGroupArn=arn, Targets=targets)
    assert world.health() == ("initial", "Elb.RegistrationInProgress")
    until(lambda: world.health() == ("healthy", None))


def test_registering_a_healthy_target_again_changes_nothing(world):
    world.elb.register_targets(TargetGroupArn=world.target_group(), Targets=[{"Id": world.ours}])
    assert world.health() == ("healthy", None)


def test_only_a_running_instance_can_be_registered(start):
    world = start(owner={"kind": "launch-template"}, timings={"running_after": "1h"})
    fleet = world.ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {"LaunchTemplateSpecification": {"LaunchTemplateId": world.template(), "Version": "1"}}
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
    )
    pending = fleet["Instances"][0]["InstanceIds"][0]
    arn = world.target_group()
    code, _ = refused(world.elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": pending}])
    assert code == "InvalidTarget"
    code, _ = refused(world.elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": "i-0123456789abcdef0"}])
    assert code == "InvalidTarget"


def test_an_ip_group_holds_the_address_and_its_zone(start):
    world = start(target_groups=[web(kind="ip", ports=[80])])
    arn = world.target_group()
    address = world.instances(id=world.ours)[0]["private_ip"]
    shown = world.elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert {"Id": address, "Port": 80, "AvailabilityZone": "eu-west-1a"} in [one["Target"] for one in shown]
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": world.ours, "Port": 80}])
    assert world.health(address)[0] == "healthy"
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": 80}])
    assert world.health(address)[0] == "draining"
    code, _ = refused(world.elb.register_targets, TargetGroupArn=arn, Targets=[{"Id": world.ours}])
    assert code == "ValidationError"


def test_an_address_outside_the_vpc_is_deregistered_with_its_zone_only(start):
    world = start(target_groups=[web(kind="ip")])
    arn = world.target_group()
    target = {"Id": "192.168.7.7", "Port": 80}
    world.elb.register_targets(TargetGroupArn=arn, Targets=[{**target, "AvailabilityZone": "all"}])
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[target])
    assert world.health("192.168.7.7")[0] != "draining"
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{**target, "AvailabilityZone": "all"}])
    assert world.health("192.168.7.7")[0] == "draining"


def test_a_terminated_instance_leaves_its_groups(world):
    other = world.others()[0]
    world.ec2.terminate_instances(InstanceIds=[other])
    assert world.health(other) == ("unused", "Target.InvalidState")
    until(lambda: world.health(other) is None)


def test_target_groups_come_in_pages(start):
    names = [f"group-{number}" for number in range(5)]
    world = start(target_groups=[{"name": name} for name in names])
    pages = world.elb.get_paginator("describe_target_groups").paginate(PaginationConfig={"PageSize": 2})
    sizes, seen = [], []
    for page in pages:
        sizes.append(len(page["TargetGroups"]))
        seen += [group["TargetGroupName"] for group in page["TargetGroups"]]
    assert (sizes, seen) == ([2, 2, 1], names)


def test_target_groups_are_found_by_name_arn_and_load_balancer(start):
    world = start(target_groups=[{"name": "one"}, {"name": "two", "load_balancer": "network", "protocol": "TCP"}])
    by_name = world.elb.describe_target_groups(Names=["two"])["TargetGroups"]
    assert [(group["Protocol"], group["Port"], group["TargetType"]) for group in by_name] == [("TCP", 80, "instance")]
    by_arn = world.elb.describe_target_groups(TargetGroupArns=[world.target_group("one")])["TargetGroups"]
    assert [group["TargetGroupName"] for group in by_arn] == ["one"]
    balancer = by_name[0]["LoadBalancerArns"][0]
    by_balancer = world.elb.describe_target_groups(LoadBalancerArn=balancer)["TargetGroups"]
    assert [group["TargetGroupName"] for group in by_balancer] == ["two"]
    shown = world.elb.describe_load_balancers(LoadBalancerArns=[balancer])["LoadBalancers"]
    assert [(one["Type"], one["State"]["Code"]) for one in shown] == [("network", "active")]


def test_an_unknown_target_group_is_named_so(world):
    arn = world.target_group().replace("web", "other")
    target = [{"Id": world.ours}]
    assert refused(world.elb.describe_target_groups, Names=["other"])[0] == "TargetGroupNotFound"
    assert refused(world.elb.describe_target_health, TargetGroupArn=arn)[0] == "TargetGroupNotFound"
    assert refused(world.elb.deregister_targets, TargetGroupArn=arn, Targets=target)[0] == "TargetGroupNotFound"
    assert refused(world.elb.register_targets, TargetGroupArn=arn, Targets=target)[0] == "TargetGroupNotFound"
    assert refused(world.elb.describe_load_balancers, Names=["other"])[0] == "LoadBalancerNotFound"


def test_the_deregistration_delay_is_read_and_changed_and_counts(world):
    arn, key = world.target_group(), "deregistration_delay.timeout_seconds"

    def delay(answer):
        return {one["Key"]: one["Value"] for one in answer["Attributes"]}[key]

    assert delay(world.elb.describe_target_group_attributes(TargetGroupArn=arn)) == "300"
    change = {"TargetGroupArn": arn, "Attributes": [{"Key": key, "Value": "0"}]}
    assert delay(world.elb.modify_target_group_attributes(**change)) == "0"
    world.elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": world.ours, "Port": 80}])
    assert world.health() is None
    change["Attributes"][0]["Value"] = "3601"
    assert refused(world.elb.modify_target_group_attributes, **change)[0] == "ValidationError"


def test_a_new_target_group_is_in_no_load_balancer_and_bears_its_tags(world):
    created = world.elb.create_target_group(
        Name="new", Protocol="HTTP", Port=8000, VpcId="vpc-1", Tags=[{"Key": "team", "Value": "a&b"}]
    )
    arn = created["TargetGroups"][0]["TargetGroupArn"]
    world.elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": world.ours}])
    assert world.health(name="new") == ("unused", "Target.NotInUse")
    tags = world.elb.describe_tags(ResourceArns=[arn])["TagDescriptions"]
    assert tags == [{"ResourceArn": arn, "Tags": [{"Key": "team", "Value": "a&b"}]}]
    again = {"Name": "new", "Protocol": "HTTP", "Port": 8000, "VpcId": "vpc-1"}
    assert refused(world.elb.create_target_group, **again)[0] == "DuplicateTargetGroupName"


def test_the_zone_of_an_address_in_the_vpc_is_not_to_be_overridden(start):
    world = start(target_groups=[web(kind="ip", ports=[])])
    arn = world.target_group()
    ours = world.instances(id=world.ours)[0]
    target = {"Id": ours["private_ip"], "Port": 80}
    for zone in ["all", "eu-west-1b"]:
        code, message = refused(
            world.elb.register_targets, TargetGroupArn=arn, Targets=[{**target, "AvailabilityZone": zone}]
        )
        assert code == "ValidationError" and "cannot have its Availability Zone overridden" in message
    world.elb.register_targets(TargetGroupArn=arn, Targets=[{**target, "AvailabilityZone": ours["zone"]}])
    world.elb.register_targets(TargetGroupArn=arn, Targets=[target])
    shown = world.elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert [one["Target"] for one in shown] == [{**target, "AvailabilityZone": ours["zone"]}]


def test_an_address_outside_the_vpc_is_registered_with_all(start):
    network = {"load_balancer": "network", "protocol": "TCP"}
    world = start(target_groups=[web(kind="ip"), {**web(kind="ip", ports=[]), "name": "net", **network}])
    target = {"Id": "192.168.7.7", "Port": 80}
    for zone in [{}, {"AvailabilityZone": "eu-west-1a"}]:
        code, message = refused(
            world.elb.register_targets, TargetGroupArn=world.target_group(), Targets=[{**target, **zone}]
        )
        assert code == "ValidationError" and "outside the VPC" in message
    with_zone = [{**target, "AvailabilityZone": "eu-west-1a"}]
    world.elb.register_targets(TargetGroupArn=world.target_group("net"), Targets=with_zone)
    shown = world.elb.describe_target_health(TargetGroupArn=world.target_group("net"))["TargetHealthDescriptions"]
    assert [one["Target"] for one in shown] == with_zone


def test_a_group_of_another_vpc_may_hold_our_address_as_a_strangers(start):
    other = {**web(kind="ip", ports=[]), "name": "theirs", "vpc": "vpc-2", "strangers": ["10.0.1.7"]}
    world = start(private_ip="10.0.1.7", target_groups=[web(), other])
    groups = world.elb.describe_target_groups()["TargetGroups"]
    assert [group["VpcId"] for group in groups] == ["vpc-0123456789abcdef0", "vpc-2"]
    assert world.health("10.0.1.7", name="theirs") == ("healthy", None)
    mac = world.get("/latest/meta-data/mac")[1]
    vpc = world.get(f"/latest/meta-data/network/interfaces/macs/{mac}/vpc-id")
    assert vpc == (200, "vpc-0123456789abcdef0")
    assert world.get("/latest/meta-data/network/interfaces/macs/")[1].split() == [f"{mac}/"]
    silent = start(vpc_in_metadata=False)
    mac = silent.get("/latest/meta-data/mac")[1]
    assert silent.get(f"/latest/meta-data/network/interfaces/macs/{mac}/vpc-id")[0] == 404


def test_a_target_in_a_zone_that_the_load_balancer_does_not_serve_is_not_in_use(start):
    world = start(target_groups=[web(load_balancer_zones=["eu-west-1b", "eu-west-1c"])])
    assert world.health() == ("unused", "Target.NotInUse")
    served = [one["id"] for one in world.instances(zone="eu-west-1b")]
    assert [world.health(id) for id in served] == [("healthy", None)]
    balancer = world.elb.describe_load_balancers()["LoadBalancers"][0]
    assert [zone["ZoneName"] for zone in balancer["AvailabilityZones"]] == ["eu-west-1b", "eu-west-1c"]
    group = world.elb.describe_target_groups()["TargetGroups"][0]
    assert group["LoadBalancerArns"] == [balancer["LoadBalancerArn"]]


def test_an_arn_of_another_service_makes_the_whole_list_wrong(start):
    lattice = "arn:aws:vpc-lattice:eu-west-1:123456789012:targetgroup/tg-0123456789abcdef0"
    world = start(other_traffic_sources=[lattice])
    arns = [world.target_group(), lattice]
    code, message = refused(world.elb.describe_target_groups, TargetGroupArns=arns)
    assert code == "ValidationError" and lattice in message
    sources = world.group()["TrafficSources"]
    assert [(one["Identifier"], one["Type"]) for one in sources] == list(zip(arns, ["elbv2", "vpc-lattice"]))
    states = world.asg.describe_traffic_sources(AutoScalingGroupName="web")["TrafficSources"]
    assert [one["Type"] for one in states] == ["elbv2", "vpc-lattice"]


def test_a_draining_address_is_taken_back_only_after_the_delay(start):
    for what, delay in [("refused", "500ms"), ("kept", "500ms")]:
        world = start(draining_address=what, target_groups=[web(kind="ip", ports=[80], deregistration_delay=delay)])
        address = world.instances(id=world.ours)[0]["private_ip"]
        call = {"TargetGroupArn": world.target_group(), "Targets": [{"Id": address, "Port": 80}]}
        world.elb.deregister_targets(**call)
        if what == "refused":
            code, message = refused(world.elb.register_targets, **call)
            assert code == "ValidationError" and "draining" in message
        else:
            world.elb.register_targets(**call)
        assert world.health(address)[0] == "draining"
        until(lambda: world.health(address) is None)
        world.elb.register_targets(**call)
        until(lambda: world.health(address) == ("healthy", None))


def test_a_quic_group_wants_a_server_id(start):
    world = start(target_groups=[web(protocol="QUIC", load_balancer="network", ports=[])])
    target = {"Id": world.ours, "Port": 80}
    code, message = refused(world.elb.register_targets, TargetGroupArn=world.target_group(), Targets=[target])
    assert code == "ValidationError" and "QUIC server ID" in message
    with_id = {**target, "QuicServerId": "0x0123456789abcdef"}
    world.elb.register_targets(TargetGroupArn=world.target_group(), Targets=[with_id])
