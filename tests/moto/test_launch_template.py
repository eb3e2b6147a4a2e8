"""The owner is a bare launch template in moto: the daemon launches the successor itself, by CreateFleet.

How moto differs here: CreateFleet does not honour its ClientToken, so what is launched once on AWS is launched as often
as it is asked for; what it launches does not bear the template's tag; and one instance has one port in a target group.
So what the daemon makes of `IdempotentParameterMismatch`, of `Errors` and of several ports is left to the simulator.
"""

import pytest
from conftest import INSTANCE_TYPE, PORT, ZONES, in_order, until

PREDECESSOR = "spot-relay:predecessor"


def subnets(moto, *zones):
    listed = ", ".join(f'"{moto.subnets[zone]}"' for zone in zones or ZONES)
    return f"[successor]\nsubnets = [{listed}]\n"


def tags(instance):
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}


def launched(moto, before):
    """What was launched since, by id."""
    return {id: instance for id, instance in moto.instances().items() if id not in before}


def the_one_launched(moto, before):
    """The one instance launched since; fails if it is not one."""
    new = launched(moto, before)
    assert len(new) == 1, f"not one successor but {list(new)}"
    return new.popitem()


def test_the_successor_runs_in_the_emptiest_zone_and_stands_in_our_place(moto, node):
    """The template is found by the tag that RunInstances gave us; two members run in zone b, none in zone c."""
    template, web = moto.template(), moto.target_group("web", port=80)
    ours, *others = (moto.launch(template, ZONES[number]) for number in (0, 1, 1))
    for instance in (ours, *others):
        moto.register(web, instance)
    node = node(ours, config=subnets(moto))
    ready = node.start_ready()
    assert f"deregister from web (port {PORT})" in ready and template in ready
    assert not moto.calls("DeregisterTargets", "CreateFleet"), "written before there was a notice"

    node.notice()
    milestones = node.hand_over()

    new, successor = the_one_launched(moto, before=[ours, *others])
    assert successor["State"]["Name"] == "running"
    assert successor["Placement"]["AvailabilityZone"] == ZONES[2]
    assert successor["InstanceType"] == INSTANCE_TYPE
    assert successor["InstanceLifecycle"] == "spot"
    assert tags(successor)[PREDECESSOR] == ours
    assert moto.targets(web) == {id: (PORT, "healthy") for id in (*others, new)}
    assert moto.instances()[ours]["State"]["Name"] == "running", "our own end is AWS's business"
    assert node.outcome() == (True, [])
    assert in_order(milestones, "noticed", "deregistered", "left", "quiet", "handed-over")
    assert in_order(
        milestones, "noticed", "successor-requested", "successor-running", "successor-registered", "successor-healthy",
        "handed-over",
    )
    assert len(milestones) == 9, "a milestone was reached twice"
    assert {line["successor_id"] for line in milestones if "successor_id" in line} == {new}


def test_the_request_names_its_token_and_never_the_pool_being_reclaimed(moto, node):
    """Of the pools asked for, none is our type in our zone, though our subnet is among those configured, and no zone is
    preferred to another.
    """
    template, web = moto.template(), moto.target_group("web")
    ours = moto.launch(template, ZONES[0])
    moto.register(web, ours)
    node = node(ours, config=subnets(moto) + "balance-zones = false\n")
    node.start_ready()
    node.notice()
    node.hand_over()

    ((_, call),) = moto.calls("CreateFleet")
    assert 0 < len(call["ClientToken"]) <= 64 and call["ClientToken"].isascii()
    assert call["Type"] == "instant"
    assert call["TargetCapacitySpecification.TotalTargetCapacity"] == "1"
    assert call["SpotOptions.AllocationStrategy"] == "price-capacity-optimized"
    asked = {value for key, value in call.items() if key.endswith(".SubnetId")}
    assert asked == {moto.subnets[ZONES[1]], moto.subnets[ZONES[2]]}
    ((_, registration),) = moto.calls("RegisterTargets")
    new, _ = the_one_launched(moto, before=[ours])
    assert registration["Targets.member.1.Id"] == new
    assert registration["Targets.member.1.Port"] == str(PORT)


@pytest.mark.parametrize("killed_once", ["launched", "registered"])
def test_killed_once_the_successor_is_there_the_same_request_is_made_again(moto, node, killed_once):
    """One token and one set of parameters: on AWS that is one successor, however often it is asked for. Moto launches
    for every request, so what is counted here is what AWS goes by, and that nothing but these requests launched.
    """
    template, web = moto.template(), moto.target_group("web")
    ours = moto.launch(template, ZONES[0])
    moto.register(web, ours)
    node = node(ours, config=subnets(moto))
    node.start_ready()
    node.notice()
    if killed_once == "launched":
        until(lambda: launched(moto, before=[ours]))
    else:
        until(lambda: set(moto.targets(web)) - {ours})
    node.kill()

    node.start()
    milestones = node.hand_over()

    first, *repeats = moto.calls("CreateFleet")
    assert all(repeat == first for repeat in repeats), "the repeat is another request"
    new = launched(moto, before=[ours])
    assert len(new) == 1 + len(repeats), "launched by something else than CreateFleet"
    assert {tags(instance)[PREDECESSOR] for instance in new.values()} == {ours}
    (successor,) = {line["successor_id"] for line in milestones if "successor_id" in line}
    assert successor in new
    assert ours not in moto.targets(web)
    assert moto.targets(web)[successor] == (PORT, "healthy")
    assert node.outcome() == (True, [])


def test_every_target_group_is_left_and_entered_also_one_of_addresses(moto, node):
    """The instance has no tag, and the metadata shows that: the template comes from the configuration, by name."""
    moto.template("fleet-of-web")
    web, api, addresses = moto.target_group("web"), moto.target_group("api"), moto.target_group("addresses", "ip")
    ours = moto.launch(moto.template("other"), ZONES[0])
    moto.register(web, ours)
    moto.register(api, ours, port=PORT + 1)
    moto.register(addresses, moto.instances()[ours]["PrivateIpAddress"], port=PORT + 2)
    config = subnets(moto) + 'owner = "launch-template"\nlaunch-template = "fleet-of-web:1"\n'
    node = node(ours, config=config, tags={})
    assert "launch template fleet-of-web" in node.start_ready()
    node.notice()
    node.hand_over()

    new, successor = the_one_launched(moto, before=[ours])
    assert moto.targets(web) == {new: (PORT, "healthy")}
    assert moto.targets(api) == {new: (PORT + 1, "healthy")}
    assert moto.targets(addresses) == {successor["PrivateIpAddress"]: (PORT + 2, "healthy")}
    assert node.outcome() == (True, [])
    # One call a group, each naming its port.
    ports = sorted(call["Targets.member.1.Port"] for _, call in moto.calls("DeregisterTargets"))
    assert ports == [str(PORT), str(PORT + 1), str(PORT + 2)]


def test_with_a_list_only_the_target_groups_listed_are_asked_and_left(moto, node):
    template = moto.template()
    web, spare, unknown = (moto.target_group(name) for name in ("web", "spare", "unknown"))
    ours = moto.launch(template, ZONES[0])
    for group in (web, unknown):
        moto.register(group, ours)
    node = node(ours, config='target-groups = ["web", "spare"]\n' + subnets(moto))
    node.start_ready()
    node.notice()
    node.hand_over()

    new, _ = the_one_launched(moto, before=[ours])
    assert moto.targets(web) == {new: (PORT, "healthy")}
    assert moto.targets(spare) == {}
    assert moto.targets(unknown) == {ours: (PORT, "healthy")}, "touched though it is not listed"
    described = [parameters for action, parameters in moto.calls("DescribeTargetGroups")]
    # At the start, and at the notice, because somebody may have registered it in `spare` since.
    assert [sorted(parameters[key] for key in parameters if key.startswith("Names.")) for parameters in described] == [
        ["spare", "web"]
    ] * 2
    asked = {parameters.get("TargetGroupArn") for _, parameters in moto.calls()} - {None}
    assert asked == {web, spare}


def test_without_a_list_every_target_group_of_the_region_is_searched(moto, node):
    """What the list saves: the scan, in which this instance is found in the one group where it is."""
    template = moto.template()
    groups = [moto.target_group(name) for name in ("api", "spare", "web")]
    ours = moto.launch(template, ZONES[0])
    moto.register(groups[2], ours)
    node = node(ours)
    assert "deregister from web" in node.start_ready()
    assert sorted(parameters["TargetGroupArn"] for _, parameters in moto.calls("DescribeTargetHealth")) == sorted(groups)
    assert "api" not in node.lines()[-1]["message"] and "spare" not in node.lines()[-1]["message"]


def test_an_instance_registers_itself_where_it_is_listed(moto, node):
    """At a boot, by the target group's name: on the port that is listed, or else on the target group's own."""
    web, api = moto.target_group("web", port=80), moto.target_group("api", port=PORT + 1)
    ours = moto.launch(moto.template(), ZONES[0])
    config = f'target-groups = ["web:{PORT}", "api"]\n[arrive]\nregister = true\n'
    node = node(ours, config=config)
    node.start()
    node.wait_for(lambda line: line.get("milestone") == "arrived")
    assert moto.targets(web) == {ours: (PORT, "healthy")}
    assert moto.targets(api) == {ours: (PORT + 1, "healthy")}

    node.notice()
    node.hand_over()
    assert ours not in moto.targets(web) and ours not in moto.targets(api)
