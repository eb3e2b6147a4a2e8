"""The one binary in the oldest and the newest Debian that it is for: its demo, and AWS behind TLS that the distribution's
own certificates vouch for, at AWS's own names, with the metadata at its own address."""

import json

import pytest
from conftest import BINARY, WORLD
from machine import Cloud, Machine, call, debian_root, until


@pytest.fixture(params=["bullseye", "trixie"])
def image(request, tmp_path):
    """A root that is not booted, in the node's place."""
    cloud = Cloud(BINARY, tmp_path, WORLD)
    machine = None
    try:
        until("the simulator's port", lambda: "LISTEN" in cloud.run("ss", "-Hltn", "sport", "=", ":443"))
        (tmp_path / "node").mkdir()
        machine = Machine(cloud, debian_root(request.param, ("ca-certificates",)), tmp_path / "node")
        machine.put(BINARY, "/usr/bin/spot-relay")
        for kernel in ("/proc", "/dev"):
            call("mount", "--bind", kernel, machine.root / kernel[1:])
        yield machine
    finally:
        if machine:
            machine.end()
        cloud.end()


def run(image, *command):
    """In the root, and in the node's namespace."""
    return call("ip", "netns", "exec", image.cloud.node, "chroot", image.root, "env", "-i", "PATH=/usr/bin:/bin", *command)


def test_the_demo_hands_over_completely(image):
    shown = run(image, "spot-relay", "demo", "--fast")
    assert "complete" in shown


def test_aws_is_trusted_by_the_systems_own_certificates(image):
    policy = json.loads(run(image, "spot-relay", "policy"))
    # It was found out who this instance's owner is: by AWS, over TLS.
    assert "autoscaling:DetachInstances" in json.dumps(policy)
    assert image.cloud.requests("DescribeAutoScalingGroups")
    # And it is that trust which opens the way.
    image.chroot("rm", "/usr/local/share/ca-certificates/tests.crt")
    image.chroot("update-ca-certificates", "--fresh")
    asked = len(image.cloud.requests("DescribeAutoScalingGroups"))
    with pytest.raises(RuntimeError, match="(?i)certificate"):
        run(image, "spot-relay", "check")
    assert len(image.cloud.requests("DescribeAutoScalingGroups")) == asked
