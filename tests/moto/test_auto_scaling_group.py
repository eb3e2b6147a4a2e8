"""The owner is an Auto Scaling group in moto, with a launch template and its target groups attached; three zones.

The daemon is told when to leave, and nothing of its group: it finds that by DescribeTags, and everything else from there.

How moto differs here: DetachInstances does not deregister (so it shows that the daemon does), and answers success to an
instance that is no member; the group launches in its first subnet only; LaunchInstances, CompleteLifecycleAction and
RecordLifecycleActionHeartbeat are missing. So the termination hook, serving on until a successor that LaunchInstances
launched, and the refusal of a second detachment are left to the simulator.
"""

import shutil

import pytest
from conftest import PORT, in_order, until


def replacement(moto, before):
    """The one instance that the group has launched since; fails if it is not one."""
    new = set(moto.instances()) - set(before)
    assert len(new) == 1, f"not one replacement but {new}"
    return new.pop()


@pytest.fixture
def member(node):
    """Makes a member of the group, as the metadata shows it."""

    def member(instance_id, **settings):
        one = node(instance_id, **settings)
        one.control("/lifecycle-state", state="InService")
        return one

    return member


def killed_once_detached(moto, node):
    """Kills the daemon of a noticed member as soon as moto has detached it."""
    node.start_ready()
    node.notice()
    until(lambda: node.instance_id not in moto.members() and node.record.exists())
    node.kill()


def test_a_member_leaves_its_target_group_and_its_group_launches_one_in_its_place(moto, member):
    web = moto.target_group("web")
    ours, fellow = moto.group([web], members=2)
    node = member(ours)
    ready = node.start_ready()
    assert f"deregister from web (port {PORT})" in ready and "detach from group web" in ready
    assert not moto.calls("DeregisterTargets", "DetachInstances"), "written before there was a notice"

    node.notice()
    milestones = node.hand_over()

    new = replacement(moto, before=[ours, fellow])
    assert moto.targets(web) == {fellow: (PORT, "healthy"), new: (PORT, "healthy")}
    assert set(moto.members()) == {fellow, new}
    assert moto.described()["DesiredCapacity"] == 2
    assert node.outcome() == (True, [])
    assert in_order(milestones, "noticed", "deregistered", "left", "quiet", "handed-over")
    assert in_order(
        milestones, "noticed", "successor-requested", "successor-running", "successor-registered", "successor-healthy",
        "handed-over",
    )
    assert len(milestones) == 9, "a milestone was reached twice"
    assert {line["instance_id"] for line in milestones} == {ours}
    assert {line["action"] for line in milestones} == {"terminate"}
    left = [line["seconds_left"] for line in milestones]
    assert left == sorted(left, reverse=True) and 60 < left[-1] <= left[0] <= 120
    assert {line["target_group"] for line in milestones if "target_group" in line} == {web}
    assert {line["successor_id"] for line in milestones if "successor_id" in line} == {new}
    assert {line["owner"] for line in milestones if "owner" in line} == {"web"}


def test_the_group_is_told_to_replace_and_its_sizes_are_left_alone(moto, member):
    """Every write of a handover, and nothing besides: the target by id and port, the detachment without decrement."""
    web = moto.target_group("web")
    (ours,) = moto.group([web], members=1)
    node = member(ours)
    node.start_ready()
    read = len(moto.calls())
    node.notice()
    node.hand_over()

    calls = moto.calls()[read:]
    writes = [(action, parameters) for action, parameters in calls if not action.startswith("Describe")]
    assert sorted(action for action, _ in writes) == ["CreateTags", "DeregisterTargets", "DetachInstances"]
    mark, deregistration, detachment = (parameters for _, parameters in sorted(writes, key=lambda write: write[0]))
    assert (mark["ResourceId.1"], mark["Tag.1.Key"]) == (ours, "spot-relay:leaving")
    assert deregistration["TargetGroupArn"] == web
    assert deregistration["Targets.member.1.Id"] == ours
    assert deregistration["Targets.member.1.Port"] == str(PORT)
    assert detachment["AutoScalingGroupName"] == "web"
    assert detachment["InstanceIds.member.1"] == ours
    assert detachment["ShouldDecrementDesiredCapacity"] == "false"
    # Ten, and one more look at target health where the first one comes before the detachment.
    assert len(calls) <= 11, f"more calls than a handover needs: {[action for action, _ in calls]}"


def test_killed_after_the_detachment_and_started_again_there_is_one_replacement(moto, member):
    """The second daemon repeats the detachment. AWS refuses that with a ValidationError, moto accepts it; neither
    launches for it. The group has no other member: a member that moto launched a moment before the notice could be
    taken for the successor by a daemon that has lost what it knew.
    """
    web = moto.target_group("web")
    (ours,) = moto.group([web], members=1)
    node = member(ours)
    killed_once_detached(moto, node)
    node.control("/lifecycle-state", state="Detached")

    node.start()
    milestones = node.hand_over()

    new = replacement(moto, before=[ours])
    assert moto.targets(web) == {new: (PORT, "healthy")}
    assert moto.members() == [new]
    assert moto.described()["DesiredCapacity"] == 1
    assert node.outcome() == (True, [])
    assert in_order(milestones, "noticed", "left", "handed-over")
    assert {line["successor_id"] for line in milestones if "successor_id" in line} == {new}


@pytest.mark.parametrize("shown", ["detached", "in service yet", "nothing at first"])
def test_killed_after_the_detachment_and_its_record_lost_nothing_is_launched_again(moto, member, shown):
    """The instance still bears its template's tag, but its group's is gone: that the metadata knows it as a member, or
    as one that was, is all that is left to tell that the group has launched. How soon AWS shows `Detached` is not known.
    """
    web = moto.target_group("web")
    (ours,) = moto.group([web], members=1)
    node = member(ours)
    killed_once_detached(moto, node)
    if shown != "in service yet":
        node.control("/lifecycle-state", state="Detached")
    if shown == "nothing at first":
        unavailable = {"status": {"status": 503, "code": "", "message": ""}}
        node.control("/fault", action="autoscaling/target-lifecycle-state", kind=unavailable, nth={"first": 1})
    shutil.rmtree(node.state)

    node.start()
    node.hand_over()

    new = replacement(moto, before=[ours])
    assert ours not in moto.targets(web)
    assert moto.members() == [new]
    assert moto.described()["DesiredCapacity"] == 1


@pytest.mark.parametrize("when", ["auto", "successor-healthy"])
def test_where_none_can_be_launched_first_it_leaves_at_once(moto, member, when):
    """Moto lacks LaunchInstances and answers a page of HTML with status 500: a refusal, as docs/aws.md has it, but only
    after it was looked whether it was done all the same.
    """
    web = moto.target_group("web")
    ours, fellow = moto.group([web], members=2)
    node = member(ours, leave=f'when = "{when}"\n')
    node.start_ready()
    node.notice()
    milestones = node.hand_over()

    assert moto.calls("LaunchInstances"), "serving on was not even tried"
    new = replacement(moto, before=[ours, fellow])
    assert moto.targets(web) == {fellow: (PORT, "healthy"), new: (PORT, "healthy")}
    assert set(moto.members()) == {fellow, new}
    assert moto.described()["DesiredCapacity"] == 2
    assert [call["ShouldDecrementDesiredCapacity"] for _, call in moto.calls("DetachInstances")] == ["false"]
    assert node.outcome() == (True, [])
    assert milestones[-1]["seconds_left"] > 60, "it did not leave at once"


def test_every_target_group_of_the_group_is_left(moto, member):
    """And one of addresses that the group knows nothing of, but the configuration: there the daemon registers the
    replacement itself.
    """
    groups = [moto.target_group("web"), moto.target_group("api", port=PORT + 1)]
    addresses = moto.target_group("addresses", target_type="ip")
    ours, fellow = moto.group(groups, members=2)
    address = moto.instances()[ours]["PrivateIpAddress"]
    moto.register(addresses, address, port=PORT + 2)
    node = member(ours, config='target-groups = ["web", "api", "addresses"]\n')
    node.start_ready()
    node.notice()
    milestones = node.hand_over()

    new = replacement(moto, before=[ours, fellow])
    for number, group in enumerate(groups):
        healthy = (PORT + number, "healthy")
        assert moto.targets(group) == {fellow: healthy, new: healthy}
    assert moto.targets(addresses) == {moto.instances()[new]["PrivateIpAddress"]: (PORT + 2, "healthy")}
    assert node.outcome() == (True, [])
    for kind in ("deregistered", "left", "successor-registered", "successor-healthy"):
        reached = [line["target_group"] for line in milestones if line["milestone"] == kind]
        assert sorted(reached) == sorted([*groups, addresses]), kind


def test_a_group_that_rebalances_by_itself_is_only_watched(moto, member):
    """Moto knows the setting and does nothing with it: the group's own launch, and the end of the member at risk, are
    made by hand.
    """
    web = moto.target_group("web")
    ours, fellow = moto.group([web], members=2, CapacityRebalance=True)
    node = member(ours)
    assert "Capacity Rebalancing launches it" in node.start_ready()
    node.notice()
    until(lambda: ours not in moto.targets(web))
    moto.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    moto.asg.detach_instances(AutoScalingGroupName="web", InstanceIds=[ours], ShouldDecrementDesiredCapacity=True)
    milestones = node.hand_over()

    new = replacement(moto, before=[ours, fellow])
    assert not moto.calls("DetachInstances", "TerminateInstanceInAutoScalingGroup", "LaunchInstances", "CreateFleet")
    assert [line["successor_id"] for line in milestones if line["milestone"] == "successor-running"] == [new]


def test_a_survivor_is_attached_again_and_registered_again(moto, member):
    """The notice is withdrawn after the handover. AWS registers an attached instance in the group's target groups, on the
    target group's own port, and so does moto; the daemon registers it on its own port besides.
    """
    web = moto.target_group("web")
    (ours,) = moto.group([web], members=1)
    node = member(ours)
    node.start_ready()
    before = moto.targets(web)[ours]
    node.notice()
    node.hand_over()
    assert ours not in moto.members() and ours not in moto.targets(web)
    assert any(tag["Key"] == "spot-relay:leaving" for tag in moto.instances()[ours]["Tags"])

    node.control("/withdraw", removed=True)
    node.wait_for(lambda line: line.get("milestone") == "reinstated")
    assert ours in moto.members()
    assert moto.targets(web)[ours] == before
    assert not any(tag["Key"] == "spot-relay:leaving" for tag in moto.instances()[ours]["Tags"])
    assert moto.described()["DesiredCapacity"] == 2, "one more than before: the successor stays"
    assert [action for action, _ in moto.calls("AttachInstances", "TerminateInstances")] == ["AttachInstances"]
