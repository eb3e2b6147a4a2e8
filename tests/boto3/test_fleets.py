"""EC2 Fleets: one token one launch, instances and errors in one answer, a target capacity that is counted up to."""

import time

from conftest import ZONES, refused, until


def configs(world, *overrides, version="1"):
    template = {"LaunchTemplateId": world.template(), "Version": version}
    return [{"LaunchTemplateSpecification": template, "Overrides": list(overrides)}]


def instant(world, *overrides, count=1, market="spot", **more):
    capacity = {"TotalTargetCapacity": count, "DefaultTargetCapacityType": market}
    return {
        "Type": "instant",
        "LaunchTemplateConfigs": configs(world, *overrides),
        "TargetCapacitySpecification": capacity,
        **more,
    }


def in_subnets(world, *zones):
    return [{"SubnetId": world.subnet(zone), "InstanceType": "m5.large"} for zone in zones]


def maintain(world):
    fleet = world.ec2.describe_fleets()["Fleets"][0]
    return fleet["FleetId"], fleet


def set_target(world, fleet, target, **more):
    world.ec2.modify_fleet(FleetId=fleet, TargetCapacitySpecification={"TotalTargetCapacity": target}, **more)


def active(world, fleet):
    answer = world.ec2.describe_fleet_instances(FleetId=fleet)
    return {one["InstanceId"] for one in answer["ActiveInstances"]}


def fulfilled(world, fleet):
    return world.ec2.describe_fleets(FleetIds=[fleet])["Fleets"][0]["FulfilledCapacity"]


def test_an_instant_fleet_launches_before_it_answers(start):
    world = start(owner={"kind": "launch-template"})
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "spot-relay:predecessor", "Value": world.ours}]}]
    made = world.ec2.create_fleet(**instant(world, *in_subnets(world, "eu-west-1b"), TagSpecifications=tags))
    assert made["Errors"] == []
    launched = made["Instances"][0]
    assert (launched["Lifecycle"], launched["InstanceType"]) == ("spot", "m5.large")
    assert launched["LaunchTemplateAndOverrides"]["Overrides"]["SubnetId"] == world.subnet("eu-west-1b")
    one = world.instances(id=launched["InstanceIds"][0])[0]
    assert one["zone"] == "eu-west-1b"
    assert one["tags"] == {
        "spot-relay:predecessor": world.ours,
        "aws:ec2:fleet-id": made["FleetId"],
        "aws:ec2launchtemplate:id": world.template(),
        "aws:ec2launchtemplate:version": "1",
    }
    assert world.state(one["id"]) == "pending"
    until(lambda: world.state(one["id"]) == "running")
    assert world.health(one["id"]) is None, "a fleet knows no target groups"


def test_the_same_token_launches_once_and_is_answered_the_same(start):
    world = start(owner={"kind": "launch-template"})
    call = instant(world, ClientToken="incident-1")
    first = world.ec2.create_fleet(**call)
    second = world.ec2.create_fleet(**call)
    assert [first[key] for key in ("FleetId", "Instances")] == [second[key] for key in ("FleetId", "Instances")]
    assert len(world.successors()) == 1
    world.ec2.create_fleet(**{**call, "ClientToken": "incident-2"})
    assert len(world.successors()) == 2


def test_the_same_token_with_other_parameters_is_a_mismatch(start):
    world = start(owner={"kind": "launch-template"})
    world.ec2.create_fleet(**instant(world, ClientToken="incident-1"))
    other = instant(world, *in_subnets(world, "eu-west-1c"), ClientToken="incident-1")
    assert refused(world.ec2.create_fleet, **other)[0] == "IdempotentParameterMismatch"
    assert len(world.successors()) == 1


def test_a_token_has_64_characters_at_most(world):
    assert refused(world.ec2.create_fleet, **instant(world, ClientToken="x" * 65))[0] == "InvalidParameterValue"
    assert world.ec2.create_fleet(**instant(world, ClientToken="x" * 64))["Instances"]


def test_instances_and_errors_stand_in_one_answer(start):
    world = start(owner={"kind": "launch-template"}, no_capacity=[{"zone": "eu-west-1b", "life_cycle": "spot"}])
    made = world.ec2.create_fleet(**instant(world, *in_subnets(world, "eu-west-1b", "eu-west-1c")))
    assert [(error["ErrorCode"], error["Lifecycle"]) for error in made["Errors"]] == [
        ("InsufficientInstanceCapacity", "spot")
    ]
    assert made["Errors"][0]["LaunchTemplateAndOverrides"]["Overrides"]["SubnetId"] == world.subnet("eu-west-1b")
    assert [one["zone"] for one in world.successors()] == ["eu-west-1c"]


def test_without_capacity_anywhere_a_200_holds_errors_only(start):
    world = start(owner={"kind": "launch-template"}, no_capacity=[{"life_cycle": "spot"}])
    made = world.ec2.create_fleet(**instant(world, *in_subnets(world, *ZONES)))
    assert (made["Instances"], len(made["Errors"])) == ([], 3)
    assert not world.successors()
    on_demand = world.ec2.create_fleet(**instant(world, market="on-demand"))
    assert on_demand["Instances"][0]["Lifecycle"] == "on-demand"
    assert world.successors()[0]["life_cycle"] == "on-demand"


def test_capacity_comes_and_goes(start):
    world = start(owner={"kind": "launch-template"})
    world.control("/no-capacity", [{"instance_type": "m5.large"}])
    assert world.ec2.create_fleet(**instant(world))["Instances"] == []
    world.control("/no-capacity", [])
    assert world.ec2.create_fleet(**instant(world))["Instances"]


def test_a_subnet_that_does_not_exist_is_an_error_in_a_200(start):
    world = start(owner={"kind": "launch-template"})
    made = world.ec2.create_fleet(**instant(world, {"SubnetId": "subnet-1"}, *in_subnets(world, "eu-west-1c")))
    assert [error["ErrorCode"] for error in made["Errors"]] == ["InvalidSubnetID.NotFound"]
    assert [one["zone"] for one in world.successors()] == ["eu-west-1c"]


def test_priorities_order_the_pools(start):
    world = start(owner={"kind": "launch-template"})
    overrides = [
        {"AvailabilityZone": "eu-west-1a", "Priority": 3.0},
        {"AvailabilityZone": "eu-west-1b", "Priority": 2.0, "InstanceType": "c5.large"},
    ]
    world.ec2.create_fleet(**instant(world, *overrides))
    assert [(one["zone"], one["type"]) for one in world.successors()] == [("eu-west-1b", "c5.large")]


def test_a_template_wants_its_version(world):
    call = instant(world)
    del call["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"]
    assert refused(world.ec2.create_fleet, **call)[0] == "MissingParameter"
    call["LaunchTemplateConfigs"] = configs(world, version="9")
    assert refused(world.ec2.create_fleet, **call)[0] == "InvalidLaunchTemplateId.VersionNotFound"
    call["LaunchTemplateConfigs"] = configs(world, version="$Latest")
    world.ec2.create_fleet(**call)
    assert world.successors()[0]["tags"]["aws:ec2launchtemplate:version"] == "1"


def test_an_instant_fleet_is_described_by_its_id_only(start):
    world = start(owner={"kind": "ec2-fleet", "type": "instant"})
    fleet = world.instances(id=world.ours)[0]["tags"]["aws:ec2:fleet-id"]
    assert world.ec2.describe_fleets()["Fleets"] == []
    shown = world.ec2.describe_fleets(FleetIds=[fleet])["Fleets"][0]
    assert (shown["Type"], shown["FulfilledCapacity"]) == ("instant", 3.0)
    assert world.ours in [one for each in shown["Instances"] for one in each["InstanceIds"]]
    specification = shown["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]
    assert (specification["LaunchTemplateId"], specification["Version"]) == (world.template(), "1")
    assert refused(world.ec2.describe_fleet_instances, FleetId=fleet)[0] == "UnsupportedOperation"


def test_deleting_an_instant_fleet_terminates_its_instances(start):
    world = start(owner={"kind": "launch-template"})
    made = world.ec2.create_fleet(**instant(world))
    deleted = world.ec2.delete_fleets(FleetIds=[made["FleetId"], "fleet-none"], TerminateInstances=False)
    assert [one["CurrentFleetState"] for one in deleted["SuccessfulFleetDeletions"]] == ["deleted_terminating"]
    assert [one["Error"]["Code"] for one in deleted["UnsuccessfulFleetDeletions"]] == ["fleetIdDoesNotExist"]
    assert world.state(made["Instances"][0]["InstanceIds"][0]) == "shutting-down"


def test_a_maintain_fleet_replaces_only_what_is_gone(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    fleet, shown = maintain(world)
    assert shown["TargetCapacitySpecification"]["TotalTargetCapacity"] == 3
    assert shown["FulfilledCapacity"] == 3.0
    assert world.ours in active(world, fleet)
    world.control("/notice", {"action": "terminate", "seconds": 0.6})
    time.sleep(0.4)
    assert not world.successors(), "a noticed instance is not replaced"
    until(world.successors)
    until(lambda: fulfilled(world, fleet) == 3.0)
    time.sleep(0.5)
    assert len(world.successors()) == 1
    assert world.ours not in active(world, fleet)


def test_a_raised_target_launches_and_a_base_put_back_in_time_leaves_one_successor(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    fleet, _ = maintain(world)
    world.control("/notice", {"action": "terminate", "seconds": 1.2})
    set_target(world, fleet, 4)
    until(lambda: fulfilled(world, fleet) == 4.0)
    set_target(world, fleet, 3, ExcessCapacityTerminationPolicy="no-termination")
    assert len(active(world, fleet)) == 4, "nobody was terminated"
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.5)
    assert len(world.successors()) == 1
    assert fulfilled(world, fleet) == 3.0


def test_a_base_never_put_back_is_a_second_successor(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    fleet, _ = maintain(world)
    world.control("/notice", {"action": "terminate", "seconds": 0.6})
    set_target(world, fleet, 4)
    until(lambda: len(world.successors()) == 2)


def test_a_target_lowered_before_the_launch_cancels_it(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"}, timings={"launch_after": "400ms"})
    fleet, _ = maintain(world)
    set_target(world, fleet, 5)
    set_target(world, fleet, 3, ExcessCapacityTerminationPolicy="no-termination")
    time.sleep(0.7)
    assert not world.successors()


def test_a_lowered_target_terminates_the_excess_if_told_so(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    fleet, _ = maintain(world)
    set_target(world, fleet, 2, ExcessCapacityTerminationPolicy="termination")
    assert len(active(world, fleet)) == 2
    time.sleep(0.5)
    assert not world.successors()
    shown = maintain(world)[1]
    assert shown["ExcessCapacityTerminationPolicy"] == "termination"


def test_only_a_maintain_fleet_can_be_modified(start):
    for type_ in ("request", "instant"):
        world = start(owner={"kind": "ec2-fleet", "type": type_})
        fleet = world.instances(id=world.ours)[0]["tags"]["aws:ec2:fleet-id"]
        call = {"FleetId": fleet, "TargetCapacitySpecification": {"TotalTargetCapacity": 4}}
        assert refused(world.ec2.modify_fleet, **call)[0] == "FleetNotInModifiableState"
        world.ec2.terminate_instances(InstanceIds=[world.ours])
        until(lambda: world.state(world.ours) == "terminated")
        time.sleep(0.4)
        assert not world.successors(), f"a fleet of type {type_} does not replace"


def test_a_fleet_with_a_replacement_strategy_launches_at_the_notice_and_not_again_at_the_death(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain", "replacement_strategy": "launch"})
    fleet, shown = maintain(world)
    rebalance = shown["SpotOptions"]["MaintenanceStrategies"]["CapacityRebalance"]
    assert rebalance["ReplacementStrategy"] == "launch"
    world.control("/notice", {"action": "terminate", "seconds": 1})
    until(world.successors)
    assert world.state(world.ours) == "running"
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.5)
    assert len(world.successors()) == 1
    assert fulfilled(world, fleet) == 3.0


def test_a_recommendation_is_enough_for_a_replacement_strategy(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain", "replacement_strategy": "launch"})
    world.control("/rebalance", {})
    until(world.successors)


def test_a_stopped_member_is_held_and_not_replaced(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    world.control("/notice", {"action": "stop", "seconds": 0.2})
    until(lambda: world.state(world.ours) == "stopped")
    time.sleep(0.4)
    assert not world.successors()


def test_a_fleets_tags_are_made_and_found(start):
    world = start(owner={"kind": "ec2-fleet", "type": "maintain"})
    fleet, _ = maintain(world)
    world.ec2.create_tags(Resources=[fleet], Tags=[{"Key": "spot-relay:base", "Value": "3"}])
    assert maintain(world)[1]["Tags"] == [{"Key": "spot-relay:base", "Value": "3"}]
    world.ec2.delete_tags(Resources=[fleet], Tags=[{"Key": "spot-relay:base"}])
    assert maintain(world)[1].get("Tags", []) == []


def test_a_new_maintain_fleet_fills_up_and_is_deleted_with_its_instances_or_without(world):
    capacity = {"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "spot"}
    made = world.ec2.create_fleet(
        Type="maintain", LaunchTemplateConfigs=configs(world), TargetCapacitySpecification=capacity
    )
    fleet = made["FleetId"]
    assert fulfilled(world, fleet) == 0.0
    until(lambda: fulfilled(world, fleet) == 2.0)
    world.ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=False)
    assert len(active(world, fleet)) == 2
    call = {"FleetId": fleet, "TargetCapacitySpecification": {"TotalTargetCapacity": 4}}
    assert refused(world.ec2.modify_fleet, **call)[0] == "FleetNotInModifiableState"


def test_an_unknown_fleet_is_named_so(world):
    assert refused(world.ec2.describe_fleets, FleetIds=["fleet-1"])[0] == "InvalidFleetId.NotFound"
    assert refused(world.ec2.describe_fleet_instances, FleetId="fleet-1")[0] == "InvalidFleetId.NotFound"
    assert refused(world.ec2.modify_fleet, FleetId="fleet-1")[0] == "InvalidFleetId.NotFound"


MAINTAINED = {"kind": "ec2-fleet", "type": "maintain"}


def test_a_changed_fleet_is_modifying_and_shows_its_old_target_for_a_while(start):
    world = start(owner=MAINTAINED, timings={"modifying_for": "700ms"})
    fleet, _ = maintain(world)
    set_target(world, fleet, 4, ExcessCapacityTerminationPolicy="no-termination")

    def shown():
        _, described = maintain(world)
        return described["FleetState"], described["TargetCapacitySpecification"]["TotalTargetCapacity"]

    assert shown() == ("modifying", 3)
    set_target(world, fleet, 5)
    assert shown() == ("modifying", 3)
    until(lambda: shown() == ("active", 5))


def test_a_policy_given_once_stays(start):
    world = start(owner=MAINTAINED)
    fleet, before = maintain(world)
    assert before["ExcessCapacityTerminationPolicy"] == "termination"
    set_target(world, fleet, 4, ExcessCapacityTerminationPolicy="no-termination")
    set_target(world, fleet, 3)
    assert maintain(world)[1]["ExcessCapacityTerminationPolicy"] == "no-termination"
    world.ec2.modify_fleet(FleetId=fleet, ExcessCapacityTerminationPolicy="termination")
    after = maintain(world)[1]
    assert after["ExcessCapacityTerminationPolicy"] == "termination"
    assert after["TargetCapacitySpecification"]["TotalTargetCapacity"] == 3, "no target was given"


def test_a_fleet_may_count_a_member_as_gone_at_its_notice(start):
    world = start(owner=MAINTAINED, replaces_at_notice=True)
    fleet, _ = maintain(world)
    world.control("/notice", {"action": "terminate", "seconds": 30})
    until(world.successors)
    assert world.state(world.ours) == "running"
    assert world.ours not in active(world, fleet)
    time.sleep(0.4)
    assert len(world.successors()) == 1


def test_several_subnets_in_one_override_are_a_maintain_fleets_alone(start):
    world = start(owner={"kind": "launch-template"})
    both = {"SubnetId": ",".join([world.subnet("eu-west-1b"), world.subnet("eu-west-1c")]), "InstanceType": "m5.large"}
    assert refused(world.ec2.create_fleet, **instant(world, both))[0] == "InvalidFleetConfiguration"
    capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    made = world.ec2.create_fleet(
        Type="maintain", LaunchTemplateConfigs=configs(world, both), TargetCapacitySpecification=capacity
    )
    until(lambda: active(world, made["FleetId"]))


def test_instances_launched_together_boot_at_different_speeds(start):
    world = start(owner=MAINTAINED, timings={"boots_differ_by": "1s"})
    fleet, _ = maintain(world)
    set_target(world, fleet, 6)
    until(lambda: len(world.successors()) == 3)

    def states():
        return {world.state(one["id"]) for one in world.successors()}

    until(lambda: states() == {"pending", "running"})
    until(lambda: states() == {"running"})


def test_the_memory_of_instance_types_is_told(world):
    """By the types' own data sheets."""
    memory = {"m5.large": 8192, "m5.xlarge": 16384, "r5.large": 16384, "c5.large": 4096}
    names = [{"Name": "instance-type", "Values": [*memory, "m9.none"]}]
    told = world.ec2.describe_instance_types(Filters=names)["InstanceTypes"]
    assert {one["InstanceType"]: one["MemoryInfo"]["SizeInMiB"] for one in told} == memory
    assert {one["VCpuInfo"]["DefaultVCpus"] for one in told} == {2, 4}
    named = world.ec2.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"]
    assert [one["InstanceType"] for one in named] == ["m5.large"]
    assert refused(world.ec2.describe_instance_types, InstanceTypes=["m9.none"])[0] == "InvalidInstanceType"


def test_a_fleet_that_counts_memory_launches_as_many_as_have_it(start):
    world = start(owner=MAINTAINED, fleet={"unit": "memory-mib"})
    fleet, shown = maintain(world)
    capacity = shown["TargetCapacitySpecification"]
    assert (capacity["TotalTargetCapacity"], capacity["TargetCapacityUnitType"]) == (3 * 8192, "memory-mib")
    assert shown["FulfilledCapacity"] == 3 * 8192
    for override in shown["LaunchTemplateConfigs"][0]["Overrides"]:
        assert "InstanceType" not in override and override["InstanceRequirements"]["MemoryMiB"]["Min"] == 8192
    without_unit = {"FleetId": fleet, "TargetCapacitySpecification": {"TotalTargetCapacity": 4 * 8192}}
    assert refused(world.ec2.modify_fleet, **without_unit)[0] == "InvalidParameterValue"
    more = {"TotalTargetCapacity": 3 * 8192 + 8193, "TargetCapacityUnitType": "memory-mib"}
    world.ec2.modify_fleet(FleetId=fleet, TargetCapacitySpecification=more)
    until(lambda: fulfilled(world, fleet) == 5 * 8192)
    time.sleep(0.5)
    assert len(world.successors()) == 2


def test_a_fleet_counts_by_its_weights(start):
    world = start(owner=MAINTAINED, fleet={"weights": {"m5.large": "2.5"}})
    fleet, shown = maintain(world)
    assert (shown["TargetCapacitySpecification"]["TotalTargetCapacity"], shown["FulfilledCapacity"]) == (7, 7.5)
    assert {one["WeightedCapacity"] for one in shown["LaunchTemplateConfigs"][0]["Overrides"]} == {2.5}
    set_target(world, fleet, 10)
    until(lambda: fulfilled(world, fleet) == 10.0)
    time.sleep(0.5)
    assert len(world.successors()) == 1
