"""The simulated AWS as a process, and boto3 on it: botocore's own models parse every answer.

Each test starts the world that it wants. Nothing leaves loopback. SPOT_RELAY_BIN names the binary; without it
target/debug/spot-relay of this repository.
"""

import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SPOT_RELAY_BIN", str(ROOT / "target" / "debug" / "spot-relay"))
ZONES = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]

FAST = {
    "launch_after": "100ms",
    "launch_instances_takes": "100ms",
    "running_after": "100ms",
    "boots_differ_by": "0ms",
    "healthy_after": "100ms",
    "owner_reacts_after": "100ms",
    "detaching_for": "100ms",
    "terminates_after": "100ms",
    "gone_after": "100ms",
}

# Every (service, action) that some test had answered, for the test that nothing was left out.
DRIVEN = set()


class World:
    """A running simulator, its clients, and what a test wants to know of it at a glance."""

    def __init__(self, directory, settings, arguments=()):
        path = directory / "world.json"
        settings = {**settings, "timings": {**FAST, **settings.get("timings", {})}}
        path.write_text(json.dumps(settings))
        command = [BINARY, "sim", "--settings", str(path), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, "the simulator ended before it said where it listens"
        endpoints = json.loads(line)
        self.metadata_endpoint = endpoints["metadata"]
        self.aws_endpoint = endpoints["aws"]
        self.control_endpoint = endpoints["control"]
        self.ours = endpoints["instance_id"]
        self.ec2 = self.client("ec2")
        self.elb = self.client("elbv2")
        self.asg = self.client("autoscaling")
        self.sts = self.client("sts")

    def client(self, service, access_key="AKIATEST", read_timeout=5, verify=None, **config):
        return boto3.client(
            service,
            region_name="eu-west-1",
            endpoint_url=self.aws_endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key="secret",
            verify=verify,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout, **config),
        )

    def end(self):
        for request in self.requests():
            if request["service"] != "metadata" and request["status"] == 200:
                DRIVEN.add((request["service"], request["action"]))
        self.process.kill()
        self.process.wait()

    def control(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.control_endpoint + path, data=data)) as answer:
            return json.load(answer)

    def world(self):
        return self.control("/world")

    def requests(self):
        return self.control("/requests")

    def fault(self, action, kind, nth="all"):
        self.control("/fault", {"action": action, "kind": kind, "nth": nth})

    def instances(self, **which):
        wanted = which.items()
        return [one for one in self.world()["instances"] if all(one[key] == value for key, value in wanted)]

    def successors(self):
        return [one for one in self.world()["instances"] if not one["first"]]

    def others(self):
        return [one["id"] for one in self.world()["instances"] if one["first"] and one["id"] != self.ours]

    def target_group(self, name="web"):
        return next(one for one in self.world()["target_groups"] if one["name"] == name)["arn"]

    def health(self, instance=None, port=None, name="web"):
        """State and reason of one target as DescribeTargetHealth shows it when asked for everything; None: not there."""
        answer = self.elb.describe_target_health(TargetGroupArn=self.target_group(name))
        for one in answer["TargetHealthDescriptions"]:
            if one["Target"]["Id"] == (instance or self.ours) and port in (None, one["Target"]["Port"]):
                return one["TargetHealth"]["State"], one["TargetHealth"].get("Reason")
        return None

    def state(self, instance):
        answer = self.ec2.describe_instances(InstanceIds=[instance])
        return answer["Reservations"][0]["Instances"][0]["State"]["Name"]

    def template(self):
        return self.world()["launch_templates"][0]["id"]

    def subnet(self, zone):
        return next(one["id"] for one in self.world()["subnets"] if one["zone"] == zone)

    def group(self, name="web"):
        return self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]

    def members(self, *states, group="web"):
        """The members of the group in these lifecycle states."""
        return [one["InstanceId"] for one in self.group(group)["Instances"] if one["LifecycleState"] in states]

    def get(self, path, token=None, ttl="21600", **headers):
        """Status and body of a metadata path, with a fresh token unless one is given."""
        if token is None:
            token = self.put_token(ttl)[1]
        return self.ask("GET", path, {"X-aws-ec2-metadata-token": token, **headers})

    def put_token(self, ttl="21600", **headers):
        return self.ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": ttl, **headers})

    def ask(self, method, path, headers):
        request = urllib.request.Request(self.metadata_endpoint + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def start(tmp_path):
    """Starts a world with the given settings; several a test if it likes."""
    worlds = []

    def start(*arguments, **settings):
        worlds.append(World(tmp_path, settings, arguments))
        return worlds[-1]

    yield start
    for world in worlds:
        world.end()


@pytest.fixture
def world(start):
    """The demo's world, fast: an Auto Scaling group of three behind one load balancer."""
    return start()


def until(truth, seconds=5):
    """Waits for something to become true; what became true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = truth()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("did not become true in time")


def refused(call, **parameters):
    """The error code and message with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]
