"""Spot Fleets and Spot Instance requests."""

import time

from conftest import refused, until

MAINTAIN = {"kind": "spot-fleet", "type": "maintain"}


def fleet_of(world):
    return world.instances(id=world.ours)[0]["tags"]["aws:ec2spot:fleet-request-id"]


def config(world):
    answer = world.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_of(world)])
    return answer["SpotFleetRequestConfigs"][0]["SpotFleetRequestConfig"]


def status(world, instance):
    filters = [{"Name": "instance-id", "Values": [instance]}]
    answer = world.ec2.describe_spot_instance_requests(Filters=filters)["SpotInstanceRequests"]
    return answer[0]["State"], answer[0]["Status"]["Code"]


def test_a_spot_fleet_is_described_with_its_target_groups(start):
    world = start(owner=MAINTAIN)
    shown = config(world)
    groups = shown["LoadBalancersConfig"]["TargetGroupsConfig"]["TargetGroups"]
    assert groups == [{"Arn": world.target_group()}]
    assert (shown["TargetCapacity"], shown["FulfilledCapacity"], shown["Type"]) == (3, 3.0, "maintain")
    template = shown["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]
    assert (template["LaunchTemplateId"], template["Version"]) == (world.template(), "1")
    active = world.ec2.describe_spot_fleet_instances(SpotFleetRequestId=fleet_of(world))["ActiveInstances"]
    assert world.ours in [one["InstanceId"] for one in active]


def test_a_spot_fleet_registers_what_it_launches(start):
    world = start(owner=MAINTAIN)
    world.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_of(world), TargetCapacity=4)
    successor = until(world.successors)[0]["id"]
    until(lambda: world.health(successor) == ("healthy", None))


def test_a_target_put_back_without_termination_leaves_one_successor(start):
    world = start(owner=MAINTAIN)
    fleet = fleet_of(world)
    world.control("/notice", {"action": "terminate", "seconds": 1})
    world.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet, TargetCapacity=4)
    until(lambda: config(world)["FulfilledCapacity"] == 4.0)
    world.ec2.modify_spot_fleet_request(
        SpotFleetRequestId=fleet, TargetCapacity=3, ExcessCapacityTerminationPolicy="noTermination"
    )
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.5)
    assert len(world.successors()) == 1
    assert config(world)["ExcessCapacityTerminationPolicy"] == "noTermination"


def test_only_a_maintain_spot_fleet_can_be_modified(start):
    world = start(owner={"kind": "spot-fleet", "type": "request"})
    call = {"SpotFleetRequestId": fleet_of(world), "TargetCapacity": 4}
    code, message = refused(world.ec2.modify_spot_fleet_request, **call)
    assert code == "FleetNotInModifiableState"
    assert message.endswith("is not a modifiable fleet request type.")
    unknown = {"SpotFleetRequestId": "sfr-1", "TargetCapacity": 4}
    assert refused(world.ec2.modify_spot_fleet_request, **unknown)[0] == "InvalidSpotFleetRequestId.NotFound"


def test_a_strategy_of_a_spot_fleet_is_shown_and_followed(start):
    world = start(owner={**MAINTAIN, "replacement_strategy": "launch"})
    strategy = config(world)["SpotMaintenanceStrategies"]["CapacityRebalance"]["ReplacementStrategy"]
    assert strategy == "launch"
    world.control("/rebalance", {})
    until(world.successors)


def test_a_cancelled_spot_fleet_takes_its_instances_with_it_if_told_so(start):
    world = start(owner=MAINTAIN)
    answer = world.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_of(world)], TerminateInstances=True)
    done = answer["SuccessfulFleetRequests"][0]
    assert done["CurrentSpotFleetRequestState"] == "cancelled_terminating"
    assert world.state(world.ours) == "shutting-down"


def test_a_spot_request_is_closed_at_the_notice_while_its_instance_runs(world):
    assert status(world, world.ours) == ("active", "fulfilled")
    world.control("/notice", {"action": "terminate", "seconds": 0.5})
    # Closed at the notice, while the instance runs on (EC2 User Guide, Spot request status).
    assert status(world, world.ours) == ("closed", "instance-terminated-no-capacity")
    assert world.state(world.ours) == "running"
    marked = [{"Name": "instance-id", "Values": [world.ours]}]
    found = world.ec2.describe_spot_instance_requests(Filters=marked)["SpotInstanceRequests"]
    assert [one["InstanceId"] for one in found] == [world.ours]
    until(lambda: world.state(world.ours) == "terminated")
    assert status(world, world.ours) == ("closed", "instance-terminated-no-capacity")


def test_other_members_may_be_under_notice_too(world):
    other = world.others()[0]
    world.control("/notice", {"instance": other, "action": "stop", "seconds": 60})
    assert status(world, other) == ("active", "marked-for-stop")
    assert status(world, world.ours) == ("active", "fulfilled")
    request = world.ec2.describe_instances(InstanceIds=[other])["Reservations"][0]["Instances"][0]
    by_id = [request["SpotInstanceRequestId"]]
    found = world.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=by_id)["SpotInstanceRequests"]
    assert [one["InstanceId"] for one in found] == [other]
    unknown = {"SpotInstanceRequestIds": ["sir-1"]}
    assert refused(world.ec2.describe_spot_instance_requests, **unknown)[0] == "InvalidSpotInstanceRequestID.NotFound"


def test_an_interruption_withdrawn_leaves_the_instance_alive(world):
    world.control("/notice", {"action": "terminate", "seconds": 0.3})
    world.control("/withdraw", {})
    time.sleep(0.6)
    assert world.state(world.ours) == "running"
    assert status(world, world.ours) == ("active", "fulfilled")
    assert world.get("/latest/meta-data/spot/instance-action")[0] == 200
    world.control("/withdraw", {"removed": True})
    assert world.get("/latest/meta-data/spot/instance-action")[0] == 404


def test_a_spot_fleet_of_launch_specifications_knows_no_template(start):
    fleet = {"launch_specifications": True, "weights": {"m5.large": "2.5", "m5.xlarge": "5"}}
    others = [{"instance_type": "m5.xlarge", "zone": "eu-west-1b"}]
    world = start(owner=MAINTAIN, fleet=fleet, others=others)
    shown = config(world)
    assert "LaunchTemplateConfigs" not in shown
    assert (shown["TargetCapacity"], shown["FulfilledCapacity"]) == (7, 7.5)
    pools = {(one["InstanceType"], one["SubnetId"], one["WeightedCapacity"]) for one in shown["LaunchSpecifications"]}
    weights = {"m5.large": 2.5, "m5.xlarge": 5.0}
    subnets = [world.subnet(f"eu-west-1{letter}") for letter in "abc"]
    assert pools == {(name, subnet, weight) for name, weight in weights.items() for subnet in subnets}
    assert all(one["ImageId"] and one["SecurityGroups"][0]["GroupId"] for one in shown["LaunchSpecifications"])
    assert not [key for key in world.instances(id=world.ours)[0]["tags"] if "launchtemplate" in key]
    world.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_of(world), TargetCapacity=10)
    until(lambda: config(world)["FulfilledCapacity"] == 10.0)
    time.sleep(0.5)
    assert [one["type"] for one in world.successors()] == ["m5.large"]
