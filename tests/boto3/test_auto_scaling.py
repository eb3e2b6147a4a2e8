"""Auto Scaling: who is let go without decrement is replaced, once; a second call says so in AWS's words."""

import time

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from conftest import refused, until

HOOKED = {"kind": "auto-scaling-group", "termination_hook": True}
REBALANCED = {"kind": "auto-scaling-group", "capacity_rebalance": True}


# A group waits for its load balancer before a hook opens, or before it ends an instance: briefly, here.
DRAINED_SOON = {"target_groups": [{"name": "web", "deregistration_delay": "300ms"}]}
MIXED = {"kind": "auto-scaling-group", "mixed_instances": True}


def detach(world, instance=None, decrement=False):
    return world.asg.detach_instances(
        InstanceIds=[instance or world.ours], AutoScalingGroupName="web", ShouldDecrementDesiredCapacity=decrement
    )


def terminate(world, instance=None, decrement=False):
    return world.asg.terminate_instance_in_auto_scaling_group(
        InstanceId=instance or world.ours, ShouldDecrementDesiredCapacity=decrement
    )


def complete(world, **more):
    return world.asg.complete_lifecycle_action(
        LifecycleHookName="drain", AutoScalingGroupName="web", LifecycleActionResult="CONTINUE", **more
    )


def launch(world, token="incident-1", count=1, **where):
    return world.asg.launch_instances(
        AutoScalingGroupName="web", RequestedCapacity=count, ClientToken=token, **where
    )


def test_a_group_is_described(world):
    group = world.group()
    assert (group["MinSize"], group["DesiredCapacity"], group["MaxSize"]) == (1, 3, 4)
    assert group["TargetGroupARNs"] == [world.target_group()]
    assert group["TrafficSources"] == [{"Identifier": world.target_group(), "Type": "elbv2"}]
    assert group["LaunchTemplate"]["LaunchTemplateId"] == world.template()
    assert group["CapacityRebalance"] is False
    assert set(world.members("InService")) == {world.ours, *world.others()}
    sources = world.asg.describe_traffic_sources(AutoScalingGroupName="web")["TrafficSources"]
    assert [(one["Identifier"], one["Type"]) for one in sources] == [(world.target_group(), "elbv2")]
    unknown = world.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["other"])
    assert unknown["AutoScalingGroups"] == []


def test_a_mixed_group_has_a_policy_and_its_members_bear_a_fleets_tag(start):
    world = start(owner={"kind": "auto-scaling-group", "mixed_instances": True})
    group = world.group()
    assert "LaunchTemplate" not in group
    policy = group["MixedInstancesPolicy"]
    assert policy["LaunchTemplate"]["LaunchTemplateSpecification"]["LaunchTemplateId"] == world.template()
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    tags = world.instances(id=world.ours)[0]["tags"]
    assert tags["aws:autoscaling:groupName"] == "web" and tags["aws:ec2:fleet-id"].startswith("fleet-")


def test_a_detached_instance_is_replaced_leaves_its_groups_and_lives(world):
    activity = detach(world)["Activities"][0]
    assert (activity["StatusCode"], activity["AutoScalingGroupName"]) == ("InProgress", "web")
    assert world.health()[0] == "draining"
    successor = until(world.successors)[0]["id"]
    until(lambda: world.health(successor) == ("healthy", None))
    until(lambda: world.ours not in world.members("Detaching"))
    assert len(world.members("InService")) == 3
    assert world.group()["DesiredCapacity"] == 3
    assert world.state(world.ours) == "running"
    assert "aws:autoscaling:groupName" not in world.instances(id=world.ours)[0]["tags"]
    time.sleep(0.4)
    assert len(world.successors()) == 1


def test_a_second_detach_is_refused_in_words_that_mean_done(start):
    world = start(timings={"detaching_for": "400ms"})
    detach(world)
    call = {
        "InstanceIds": [world.ours],
        "AutoScalingGroupName": "web",
        "ShouldDecrementDesiredCapacity": False,
    }
    code, message = refused(world.asg.detach_instances, **call)
    assert (code, message) == ("ValidationError", f"The instance {world.ours} is not in InService or Standby.")
    until(lambda: world.ours not in [one["InstanceId"] for one in world.group()["Instances"]])
    code, message = refused(world.asg.detach_instances, **call)
    assert code == "ValidationError"
    assert message == f"The instance {world.ours} is not part of Auto Scaling group web."
    assert len(world.successors()) == 1


def test_a_detached_instance_that_dies_is_not_replaced_again(world):
    world.control("/notice", {"action": "terminate", "seconds": 0.6})
    detach(world)
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.5)
    assert len(world.successors()) == 1


def test_a_detach_with_decrement_launches_nothing_and_keeps_the_minimum(world):
    detach(world, decrement=True)
    detach(world, world.others()[0], decrement=True)
    time.sleep(0.4)
    assert not world.successors()
    assert world.group()["DesiredCapacity"] == 1
    call = {
        "InstanceIds": [world.others()[1]],
        "AutoScalingGroupName": "web",
        "ShouldDecrementDesiredCapacity": True,
    }
    assert refused(world.asg.detach_instances, **call)[0] == "ValidationError"


def test_a_group_does_nothing_at_a_notice_and_replaces_what_is_dead(world):
    world.control("/notice", {"action": "terminate", "seconds": 0.5})
    time.sleep(0.4)
    assert not world.successors()
    until(world.successors)
    until(lambda: len(world.members("InService")) == 3)
    assert world.ours not in world.members("InService")
    assert len(world.successors()) == 1


def test_capacity_rebalancing_replaces_at_the_notice_and_not_again_at_the_death(start):
    world = start(owner=REBALANCED, rebalance_terminates=False)
    assert world.group()["CapacityRebalance"] is True
    world.control("/notice", {"action": "terminate", "seconds": 0.8})
    until(world.successors)
    assert world.state(world.ours) == "running"
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.5)
    assert len(world.successors()) == 1
    assert len(world.members("InService")) == 3


def test_asking_a_rebalancing_group_again_makes_two(start):
    world = start(owner=REBALANCED, rebalance_terminates=False)
    world.control("/notice", {"action": "terminate", "seconds": 60})
    until(world.successors)
    detach(world)
    time.sleep(0.5)
    # The replacement for the risk is there already; detaching frees the desired capacity's own place.
    assert len(world.members("InService", "Pending")) == 3
    launch(world, AvailabilityZones=["eu-west-1b"])
    assert len(world.successors()) == 2


def test_capacity_rebalancing_lets_the_one_at_risk_go_once_its_replacement_serves(start):
    world = start(owner=REBALANCED, **DRAINED_SOON)
    world.control("/rebalance", {})
    until(lambda: world.state(world.ours) == "terminated")
    assert len(world.members("InService")) == 3
    assert len(world.successors()) == 1


def test_terminating_without_a_hook_drains_replaces_and_ends_the_instance(start):
    world = start(**DRAINED_SOON)
    activity = terminate(world)["Activity"]
    assert activity["AutoScalingGroupName"] == "web"
    assert world.health()[0] == "draining"
    assert world.get("/latest/meta-data/autoscaling/target-lifecycle-state") == (200, "Terminated")
    assert world.members("Terminating") == [world.ours]
    call = {"InstanceId": world.ours, "ShouldDecrementDesiredCapacity": False}
    assert refused(world.asg.terminate_instance_in_auto_scaling_group, **call)[0] == "ValidationError"
    until(lambda: world.state(world.ours) == "terminated")
    code, message = refused(world.asg.terminate_instance_in_auto_scaling_group, **call)
    assert code == "ValidationError" and "No managed instance found" in message
    time.sleep(0.4)
    assert len(world.successors()) == 1


def test_a_termination_hook_holds_the_instance_until_it_is_completed(start):
    world = start(owner=HOOKED, **DRAINED_SOON)
    hooks = world.asg.describe_lifecycle_hooks(AutoScalingGroupName="web")["LifecycleHooks"]
    assert [(hook["LifecycleHookName"], hook["LifecycleTransition"], hook["HeartbeatTimeout"]) for hook in hooks] == [
        ("drain", "autoscaling:EC2_INSTANCE_TERMINATING", 300)
    ]
    terminate(world)
    until(world.successors)
    until(lambda: world.members("Terminating:Wait") == [world.ours])
    time.sleep(0.4)
    assert world.members("Terminating:Wait") == [world.ours]
    assert world.state(world.ours) == "running"
    complete(world, InstanceId=world.ours)
    assert world.members("Terminating:Proceed") == [world.ours]
    code, message = refused(
        world.asg.complete_lifecycle_action,
        LifecycleHookName="drain",
        AutoScalingGroupName="web",
        LifecycleActionResult="CONTINUE",
        InstanceId=world.ours,
    )
    assert (code, message) == ("ValidationError", f"No active Lifecycle Action found with instance ID {world.ours}")
    until(lambda: world.state(world.ours) == "terminated")
    time.sleep(0.4)
    assert len(world.successors()) == 1


def test_a_heartbeat_prolongs_the_wait_and_silence_ends_it(start):
    world = start(owner=HOOKED, heartbeat_timeout="500ms", **DRAINED_SOON)
    terminate(world)
    until(lambda: world.members("Terminating:Wait") == [world.ours])
    call = {"LifecycleHookName": "drain", "AutoScalingGroupName": "web", "InstanceId": world.ours}
    for _ in range(3):
        time.sleep(0.3)
        world.asg.record_lifecycle_action_heartbeat(**call)
    assert world.members("Terminating:Wait") == [world.ours]
    until(lambda: world.state(world.ours) == "terminated")
    code, message = refused(world.asg.record_lifecycle_action_heartbeat, **call)
    assert (code, message) == ("ValidationError", f"No active Lifecycle Action found with instance ID {world.ours}")


def test_a_hook_put_later_counts_and_an_unknown_one_is_refused(start):
    world = start(**DRAINED_SOON)
    call = {"LifecycleHookName": "late", "AutoScalingGroupName": "web"}
    assert refused(world.asg.record_lifecycle_action_heartbeat, InstanceId=world.ours, **call)[0] == "ValidationError"
    world.asg.put_lifecycle_hook(LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING", HeartbeatTimeout=60, **call)
    terminate(world)
    until(lambda: world.members("Terminating:Wait") == [world.ours])


def heartbeat(world):
    call = {"LifecycleHookName": "drain", "AutoScalingGroupName": "web", "InstanceId": world.ours}
    return refused(world.asg.record_lifecycle_action_heartbeat, **call)


def test_a_hook_opens_only_after_the_drain_and_both_calls_are_refused_before(start):
    world = start(owner=HOOKED, target_groups=[{"name": "web", "deregistration_delay": "800ms"}])
    terminate(world)
    assert world.get("/latest/meta-data/autoscaling/target-lifecycle-state") == (200, "Terminated")
    call = {"LifecycleHookName": "drain", "AutoScalingGroupName": "web", "LifecycleActionResult": "CONTINUE"}
    words = f"No active Lifecycle Action found with instance ID {world.ours}"
    for _ in range(2):
        assert world.members("Terminating") == [world.ours]
        assert refused(world.asg.complete_lifecycle_action, InstanceId=world.ours, **call) == ("ValidationError", words)
        assert heartbeat(world) == ("ValidationError", words)
        time.sleep(0.2)
    until(lambda: world.members("Terminating:Wait") == [world.ours])
    complete(world, InstanceId=world.ours)
    assert world.members("Terminating:Proceed") == [world.ours]
    assert heartbeat(world) == ("ValidationError", words)


def test_without_a_load_balancer_a_hook_opens_at_once(start):
    world = start(owner=HOOKED, target_groups=[{"name": "web", "load_balancer": "none"}])
    terminate(world)
    assert world.members("Terminating:Wait") == [world.ours]


def test_every_one_of_several_hooks_holds_the_instance(start):
    world = start(owner=HOOKED, more_hooks=["logs"], target_groups=[])
    terminate(world)
    complete(world, InstanceId=world.ours)
    assert world.members("Terminating:Wait") == [world.ours]
    world.asg.complete_lifecycle_action(
        LifecycleHookName="logs", AutoScalingGroupName="web", LifecycleActionResult="CONTINUE", InstanceId=world.ours
    )
    assert world.members("Terminating:Proceed") == [world.ours]


def test_an_abandoned_hook_is_retained_where_the_lifecycle_policy_says_so(start):
    for retains, state in [(True, "Terminating:Retained"), (False, "Terminating:Proceed")]:
        world = start(owner=HOOKED, retains_abandoned=retains, target_groups=[])
        terminate(world)
        world.asg.complete_lifecycle_action(
            LifecycleHookName="drain",
            AutoScalingGroupName="web",
            LifecycleActionResult="ABANDON",
            InstanceId=world.ours,
        )
        assert world.members(state) == [world.ours]


def test_a_member_that_is_not_in_service_yet_cannot_be_detached(start):
    for state in ["Pending", "Pending:Wait", "Pending:Proceed"]:
        world = start(member_state=state, launch_hook=True)
        assert world.members(state) == [world.ours]
        assert world.get("/latest/meta-data/autoscaling/target-lifecycle-state") == (200, "InService")
        assert world.health() is None
        call = {"InstanceIds": [world.ours], "AutoScalingGroupName": "web", "ShouldDecrementDesiredCapacity": False}
        words = f"The instance {world.ours} is not in InService or Standby."
        assert refused(world.asg.detach_instances, **call) == ("ValidationError", words)
        time.sleep(0.3)
        assert not world.successors()


def test_a_launching_hook_holds_a_new_member_and_abandoned_replaces_it(start):
    world = start(launch_hook=True)
    first = launch(world, AvailabilityZones=["eu-west-1c"])["Instances"][0]["InstanceIds"][0]
    until(lambda: world.members("Pending:Wait") == [first])
    assert world.health(first) is None
    call = {"LifecycleHookName": "ready", "AutoScalingGroupName": "web", "InstanceId": first}
    world.asg.complete_lifecycle_action(LifecycleActionResult="ABANDON", **call)
    until(lambda: world.state(first) == "terminated")
    second = next(one["id"] for one in world.successors() if one["id"] != first)
    until(lambda: world.members("Pending:Wait") == [second])
    call["InstanceId"] = second
    world.asg.complete_lifecycle_action(LifecycleActionResult="CONTINUE", **call)
    until(lambda: second in world.members("InService"))
    until(lambda: world.health(second) == ("healthy", None))


def test_the_desired_capacity_does_not_count_a_member_in_standby(world):
    call = {"InstanceIds": [world.ours], "AutoScalingGroupName": "web"}
    world.asg.enter_standby(ShouldDecrementDesiredCapacity=True, **call)
    assert world.members("Standby") == [world.ours]
    assert world.get("/latest/meta-data/autoscaling/target-lifecycle-state") == (200, "Standby")
    assert world.group()["DesiredCapacity"] == 2 and world.health()[0] == "draining"
    time.sleep(0.3)
    assert not world.successors()
    world.asg.exit_standby(**call)
    assert world.group()["DesiredCapacity"] == 3 and world.ours in world.members("InService")
    world.asg.enter_standby(ShouldDecrementDesiredCapacity=True, **call)
    detach(world)
    time.sleep(0.3)
    assert not world.successors() and world.group()["DesiredCapacity"] == 2
    assert refused(world.asg.exit_standby, **call)[0] == "ValidationError"


def test_a_member_of_the_warm_pool_is_not_registered_and_its_hook_stands_in_a_state_of_its_own(start):
    world = start(owner=HOOKED, member_state="Warmed:Running", **DRAINED_SOON)
    state = "/latest/meta-data/autoscaling/target-lifecycle-state"
    assert world.get(state) == (200, "Warmed:Running") and world.health() is None
    world.control("/member", {"to": "InService"})
    assert world.ours in world.members("InService") and world.health() is not None
    world.control("/member", {"to": "Warmed:Stopped"})
    assert world.get(state) == (200, "Warmed:Stopped")
    assert world.members("Warmed:Pending") == [world.ours]
    until(lambda: world.members("Warmed:Pending:Wait") == [world.ours])
    complete(world, InstanceId=world.ours)
    assert world.members("Warmed:Stopped") == [world.ours]
    world.control("/member", {"to": "Warmed:Terminated"})
    assert world.get(state) == (200, "Warmed:Terminated")
    assert world.members("Warmed:Terminating:Wait") == [world.ours]
    complete(world, InstanceId=world.ours)
    until(lambda: world.state(world.ours) == "terminated")


def test_a_launch_takes_seconds_and_a_repeat_meets_it_in_progress(start):
    world = start(timings={"launch_instances_takes": "800ms"})
    slow = world.client("autoscaling", read_timeout=0.3)
    call = {"AutoScalingGroupName": "web", "RequestedCapacity": 1, "ClientToken": "t", "AvailabilityZones": ["eu-west-1b"]}
    with pytest.raises(ReadTimeoutError):
        slow.launch_instances(**call)
    with pytest.raises(ClientError) as caught:
        world.asg.launch_instances(**call)
    assert caught.value.response["Error"]["Code"] == "IdempotentCallInProgress"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    answers = until(lambda: launched_once(world, call))
    assert [one["id"] for one in world.successors()] == answers["Instances"][0]["InstanceIds"]


def launched_once(world, call):
    try:
        return world.asg.launch_instances(**call)
    except ClientError:
        return None


def test_launch_instances_is_refused_for_a_mixture_of_spot_and_on_demand_alone(start):
    for life_cycle, percentage, fits in [("spot", 0, True), ("on-demand", 100, True), ("spot", 50, False)]:
        world = start(owner=MIXED, life_cycle=life_cycle, on_demand_percentage=percentage)
        policy = world.group()["MixedInstancesPolicy"]["InstancesDistribution"]
        assert policy["OnDemandPercentageAboveBaseCapacity"] == percentage
        if fits:
            assert launch(world, AvailabilityZones=["eu-west-1b"])["Instances"]
        else:
            call = {"AutoScalingGroupName": "web", "RequestedCapacity": 1, "ClientToken": "t"}
            code, message = refused(world.asg.launch_instances, AvailabilityZones=["eu-west-1b"], **call)
            assert code == "ValidationError" and "mixed" in message


def test_capacity_rebalancing_leaves_members_on_demand_alone(start):
    world = start(owner=REBALANCED, life_cycle="on-demand")
    world.control("/rebalance", {})
    time.sleep(0.5)
    assert not world.successors()


def test_launch_instances_answers_the_new_member_and_registers_it(start):
    world = start(timings={"running_after": "1s"})
    answer = launch(world, AvailabilityZones=["eu-west-1c"])
    assert (answer["AutoScalingGroupName"], answer["ClientToken"], answer["Errors"]) == ("web", "incident-1", [])
    launched = answer["Instances"][0]
    assert (launched["AvailabilityZone"], launched["MarketType"]) == ("eu-west-1c", "Spot")
    successor = launched["InstanceIds"][0]
    assert world.state(successor) == "pending"
    assert world.members("Pending") == [successor]
    assert world.group()["DesiredCapacity"] == 4
    until(lambda: world.health(successor) == ("healthy", None))
    detach(world, decrement=True)
    time.sleep(0.4)
    assert [one["id"] for one in world.successors()] == [successor]
    assert world.group()["DesiredCapacity"] == 3


def test_launch_instances_with_one_token_launches_once(world):
    subnet = [world.subnet("eu-west-1c")]
    first, second = launch(world, SubnetIds=subnet), launch(world, SubnetIds=subnet)
    assert first["Instances"] == second["Instances"]
    assert len(world.successors()) == 1
    call = {"AutoScalingGroupName": "web", "RequestedCapacity": 1, "ClientToken": "incident-1"}
    code, _ = refused(world.asg.launch_instances, AvailabilityZones=["eu-west-1a"], **call)
    assert code == "IdempotentParameterMismatch"


def test_launch_instances_is_refused_above_the_maximum_and_without_a_zone(start):
    world = start(max_size=3)
    call = {"AutoScalingGroupName": "web", "RequestedCapacity": 1}
    code, message = refused(world.asg.launch_instances, ClientToken="a", AvailabilityZones=["eu-west-1a"], **call)
    assert code == "ValidationError" and "MaxSize" in message
    world.asg.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=4)
    assert refused(world.asg.launch_instances, ClientToken="b", **call)[0] == "ValidationError"
    elsewhere = {"ClientToken": "c", "AvailabilityZones": ["eu-west-1z"], **call}
    assert refused(world.asg.launch_instances, **elsewhere)[0] == "ValidationError"
    assert not world.successors()


def test_launch_instances_without_capacity_answers_errors(start):
    world = start(no_capacity=[{"zone": "eu-west-1c"}])
    answer = launch(world, AvailabilityZones=["eu-west-1c"])
    assert answer["Instances"] == []
    assert [error["ErrorCode"] for error in answer["Errors"]] == ["InsufficientInstanceCapacity"]
    assert world.group()["DesiredCapacity"] == 3
    assert not world.successors()


def test_a_group_launches_in_its_emptiest_zone_with_capacity(start):
    world = start(no_capacity=[{"zone": "eu-west-1c", "life_cycle": "spot"}])
    detach(world, world.others()[1])
    assert until(world.successors)[0]["zone"] == "eu-west-1b"


def test_instances_are_found_in_their_group(world):
    answer = world.asg.describe_auto_scaling_instances(InstanceIds=[world.ours, "i-0123456789abcdef0"])
    found = answer["AutoScalingInstances"]
    assert [(one["AutoScalingGroupName"], one["LifecycleState"]) for one in found] == [("web", "InService")]
    pages = world.asg.get_paginator("describe_auto_scaling_instances").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["AutoScalingInstances"]) for page in pages] == [2, 1]


def test_an_attached_instance_is_a_member_again(world):
    detach(world)
    until(lambda: len(world.members("InService")) == 3)
    until(lambda: world.ours not in [one["InstanceId"] for one in world.group()["Instances"]])
    world.asg.attach_instances(InstanceIds=[world.ours], AutoScalingGroupName="web")
    assert world.ours in world.members("InService")
    assert world.group()["DesiredCapacity"] == 4
    assert world.health()[0] in ("initial", "healthy")
    call = {"InstanceIds": [world.ours], "AutoScalingGroupName": "web"}
    assert refused(world.asg.attach_instances, **call)[0] == "ValidationError"


def test_a_new_group_fills_up_and_is_updated(world):
    world.asg.create_auto_scaling_group(
        AutoScalingGroupName="new",
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        LaunchTemplate={"LaunchTemplateName": "web", "Version": "$Latest"},
        VPCZoneIdentifier=world.subnet("eu-west-1c"),
        TargetGroupARNs=[world.target_group()],
    )
    first = until(world.successors)[0]
    assert first["zone"] == "eu-west-1c"
    until(lambda: world.health(first["id"]) == ("healthy", None))
    world.asg.update_auto_scaling_group(AutoScalingGroupName="new", DesiredCapacity=2)
    until(lambda: len(world.successors()) == 2)
    world.asg.update_auto_scaling_group(AutoScalingGroupName="new", DesiredCapacity=0)
    until(lambda: first["id"] in world.members("Terminating", group="new"))
    call = {"AutoScalingGroupName": "new", "DesiredCapacity": 9}
    assert refused(world.asg.update_auto_scaling_group, **call)[0] == "ValidationError"
    pages = world.asg.get_paginator("describe_auto_scaling_groups").paginate(PaginationConfig={"PageSize": 1})
    assert [page["AutoScalingGroups"][0]["AutoScalingGroupName"] for page in pages] == ["web", "new"]


def test_an_unknown_group_is_refused(world):
    call = {
        "InstanceIds": [world.ours],
        "AutoScalingGroupName": "other",
        "ShouldDecrementDesiredCapacity": False,
    }
    assert refused(world.asg.detach_instances, **call)[0] == "ValidationError"
    assert refused(world.asg.describe_lifecycle_hooks, AutoScalingGroupName="other")[0] == "ValidationError"


def test_a_group_that_believes_its_load_balancer_replaces_a_member_that_is_no_target(start):
    groups = [{"name": "web", "deregistration_delay": "200ms"}]
    believing = start(health_check_type="ELB", target_groups=groups)
    other = start(target_groups=groups)
    for world in (believing, other):
        target = [{"Id": world.ours, "Port": 80}]
        world.elb.deregister_targets(TargetGroupArn=world.target_group(), Targets=target)
    until(lambda: believing.state(believing.ours) == "terminated")
    assert len(believing.successors()) == 1
    assert other.state(other.ours) == "running"
    assert not other.successors()


def test_suspended_processes_and_the_distribution_are_told_and_heeded(start):
    world = start(suspended_processes=["Launch"], balanced_only=True, min_size=2)
    group = world.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]
    assert [one["ProcessName"] for one in group["SuspendedProcesses"]] == ["Launch"]
    assert group["AvailabilityZoneDistribution"]["CapacityDistributionStrategy"] == "balanced-only"
    assert group["MinSize"] == 2
    world.asg.detach_instances(
        AutoScalingGroupName="web", InstanceIds=[world.ours], ShouldDecrementDesiredCapacity=False
    )
    time.sleep(1)
    assert world.successors() == []
