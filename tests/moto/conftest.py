"""The daemon itself (`spot-relay run`) on an AWS that no one here wrote: moto, as a process on loopback.

Moto has no metadata service, so ours comes from `spot-relay sim`, which shows the instance that moto runs: its id,
address, type and zone. Nothing else of the simulator is used. SPOT_RELAY_BIN names the binary; without it
target/debug/spot-relay of this repository.

Where moto is not like AWS, docs/aws.md wins: a test claims only what holds on AWS, and its docstring says what differs.
For every test here: a deregistered target is gone at once (no `draining`), an instance is `running` and a registered
target `healthy` at once.
"""

import base64
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import boto3
import pytest
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SPOT_RELAY_BIN", str(ROOT / "target" / "debug" / "spot-relay"))
REGION = "eu-west-1"
ZONES = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
INSTANCE_TYPE = "m5.large"
# Found by the daemon; the tests listen there, and on the two that follow, and nobody connects.
PORT = 18080
# What a handover takes at least, and otherwise: a moment. A group in moto launches only in exchange for a member.
BRIEF = 'settle = "200ms"\nquiet-for = "200ms"\n'
AT_ONCE = 'when = "at-once"\n'
# No proxy stands between us and loopback.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"
# A debug build on a busy machine: how long anything may take at most. Nothing waits so long that does not fail.
PATIENCE = 60


def until(truth, seconds=PATIENCE, why="did not become true in time"):
    """Waits for something to become true; what became true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = truth()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(why() if callable(why) else why)


def post(url, body=b""):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=PATIENCE) as answer:
        return answer.read()


class Moto:
    """moto_server, what is built in it, and what it was asked."""

    def __init__(self, directory, **settings):
        self.recording = directory / "recording"
        self.log = directory / "moto.log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "MOTO_ENABLE_RECORDING": "1",
            "MOTO_RECORDER_FILEPATH": str(self.recording),
            **settings,
        }
        server = pathlib.Path(sys.executable).parent / "moto_server"
        command = [sys.executable, str(server), "-H", "127.0.0.1", "-p", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait(self):
        """Until it serves."""
        self.endpoint = until(self.address, why=lambda: f"moto did not start: {self.log.read_text()}")
        self.ec2 = self.client("ec2")
        self.elb = self.client("elbv2")
        self.asg = self.client("autoscaling")
        # The same in every account, and slow to list.
        self.image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]

    def address(self):
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", self.log.read_text())
        return found and found.group(1)

    def client(self, service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE),
        )

    def begin(self):
        """An empty account, whose first ids are the same in every run: the daemon's start jitter depends on them."""
        post(f"{self.endpoint}/moto-api/reset")
        post(f"{self.endpoint}/moto-api/seed?a=1")
        post(f"{self.endpoint}/moto-api/recorder/reset-recording")
        subnets = self.ec2.describe_subnets()["Subnets"]
        self.subnets = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets}
        self.vpc = subnets[0]["VpcId"]

    def end(self):
        self.process.kill()
        self.process.wait()

    # What a test builds.

    def template(self, name="web"):
        data = {"ImageId": self.image, "InstanceType": INSTANCE_TYPE}
        made = self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return made["LaunchTemplate"]["LaunchTemplateId"]

    def target_group(self, name, target_type="instance", port=PORT):
        """In a load balancer of its own, as a target group that serves is."""
        made = self.elb.create_target_group(
            Name=name, Protocol="HTTP", Port=port, VpcId=self.vpc, TargetType=target_type
        )
        arn = made["TargetGroups"][0]["TargetGroupArn"]
        subnets = [self.subnets[zone] for zone in ZONES]
        balancer = self.elb.create_load_balancer(Name=f"lb-{name}", Subnets=subnets)["LoadBalancers"][0]
        action = {"Type": "forward", "TargetGroupArn": arn}
        self.elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=[action]
        )
        return arn

    def group(self, target_groups, members, **settings):
        """An Auto Scaling group over all zones; its members by id."""
        self.asg.create_auto_scaling_group(
            AutoScalingGroupName="web",
            LaunchTemplate={"LaunchTemplateId": self.template(), "Version": "$Latest"},
            MinSize=1,
            MaxSize=members + 2,
            DesiredCapacity=members,
            VPCZoneIdentifier=",".join(self.subnets[zone] for zone in ZONES),
            TargetGroupARNs=target_groups,
            **settings,
        )
        return self.members()

    def launch(self, template, zone):
        """An instance as RunInstances makes it from a template; AWS tags it with the template, and so does moto."""
        made = self.ec2.run_instances(
            LaunchTemplate={"LaunchTemplateId": template},
            InstanceMarketOptions={"MarketType": "spot"},
            SubnetId=self.subnets[zone],
            MinCount=1,
            MaxCount=1,
        )
        return made["Instances"][0]["InstanceId"]

    def register(self, target_group, target, port=PORT):
        self.elb.register_targets(TargetGroupArn=target_group, Targets=[{"Id": target, "Port": port}])

    # What a test sees.

    def targets(self, target_group):
        """Id to port and state of everything in the group."""
        rows = self.elb.describe_target_health(TargetGroupArn=target_group)["TargetHealthDescriptions"]
        return {row["Target"]["Id"]: (row["Target"]["Port"], row["TargetHealth"]["State"]) for row in rows}

    def described(self):
        """The one Auto Scaling group."""
        return self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"][0]

    def members(self):
        return [member["InstanceId"] for member in self.described()["Instances"]]

    def instances(self):
        """Every instance by id, whatever became of it."""
        reservations = self.ec2.describe_instances()["Reservations"]
        return {one["InstanceId"]: one for reservation in reservations for one in reservation["Instances"]}

    def calls(self, *actions):
        """The daemon's calls of these actions (of all, if none is named), in order: action and parameters."""
        calls = []
        for line in self.recording.read_text().splitlines():
            request = json.loads(line)
            body = request["body"] or ""
            text = base64.b64decode(body).decode() if request["body_encoded"] else body
            parameters = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
            headers = {name.lower(): value for name, value in request["headers"].items()}
            agent = headers.get("user-agent", "") + headers.get("x-amz-user-agent", "")
            action = parameters.pop("Action", None)
            if action and "app/spot-relay" in agent and (not actions or action in actions):
                calls.append((action, parameters))
        return calls


class Node:
    """The instance that the daemon runs on: its metadata, the daemon, and what both wrote."""

    def __init__(self, directory, moto, instance_id, config="", leave=AT_ONCE):
        self.moto, self.instance_id, self.directory = moto, instance_id, directory
        self.state, self.runtime, self.home = (directory / name for name in ("state", "runtime", "home"))
        for path in (self.state, self.runtime, self.home):
            path.mkdir()
        self.record = self.state / "handover.json"
        self.config = directory / "config.toml"
        self.config.write_text(f"{config}[leave]\n{BRIEF}{leave}")
        self.log = directory / "daemon.log"
        self.log.touch()
        self.daemon = self.simulator = None

    def start_metadata(self, tags):
        """`tags`: those that the metadata shows; without, tags in metadata are off, and AWS has to be asked."""
        instance = self.moto.instances()[self.instance_id]
        settings = {
            "region": REGION,
            "instance_id": self.instance_id,
            "private_ip": instance["PrivateIpAddress"],
            "instance_type": instance["InstanceType"],
            "zone": instance["Placement"]["AvailabilityZone"],
            "vpc": instance["VpcId"],
            "owner": {"kind": "nobody"},
            "others": [],
            "target_groups": [],
            "tags_in_metadata": tags is not None,
            "tags": tags or {},
            # Moto's instance is not taken either: what is left undone must show.
            "kill_at_deadline": False,
        }
        path = self.directory / "metadata.json"
        path.write_text(json.dumps(settings))
        command = [BINARY, "sim", "--settings", str(path)]
        self.simulator = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with self.simulator.stdout as stdout:
            line = stdout.readline()
        assert line, "the simulator ended before it said where it listens"
        self.endpoints = json.loads(line)
        assert self.endpoints["instance_id"] == self.instance_id

    def start(self):
        """Starts the daemon, with these variables and no others."""
        environment = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoints["metadata"],
            "AWS_ENDPOINT_URL": self.moto.endpoint,
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "HOME": str(self.home),
        }
        command = [BINARY, "--config", str(self.config), "--log-format", "json", "run"]
        self.begun = len(self.lines())
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start_ready(self):
        """Starts the daemon and waits until it has looked everything up; what it says that it will do."""
        self.start()
        return self.wait_for(lambda line: line["message"].startswith("ready"))["message"]

    def kill(self):
        """SIGKILL, in the middle of a handover: whoever comes too late has tested nothing."""
        self.daemon.kill()
        self.daemon.wait()
        assert not self.milestones("handed-over"), "the handover was over before it could be killed"
        self.daemon = None

    def end(self):
        for process in (self.daemon, self.simulator):
            if process:
                process.kill()
                process.wait()

    def notice(self, action="terminate", seconds=120):
        self.control("/notice", action=action, seconds=seconds)

    def control(self, path, **body):
        post(self.endpoints["control"] + path, json.dumps(body).encode())

    def lines(self):
        """What the daemons logged so far; each line has to be JSON."""
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for(self, wanted):
        """The first line of the daemon under way that is wanted."""
        def found():
            assert self.daemon.poll() is None, f"the daemon ended:\n{self.log.read_text()}"
            return next((line for line in self.lines()[self.begun :] if wanted(line)), None)

        return until(found, why=lambda: f"never logged:\n{self.log.read_text()}")

    def hand_over(self):
        """Waits for the end of the handover; the milestones of the daemon under way."""
        self.wait_for(lambda line: line.get("milestone") == "handed-over")
        return self.milestones()

    def milestones(self, *kinds):
        lines = [line for line in self.lines()[self.begun :] if "milestone" in line]
        return [line for line in lines if not kinds or line["milestone"] in kinds]

    def outcome(self):
        """From the record: whether the handover was complete, and what was left undone."""
        record = until(lambda: json.loads(self.record.read_text())["outcome"])
        return record["complete"], [duty for duty in record["duties"] if not duty["done"]]


def in_order(milestones, *kinds):
    """Each kind is there, and all of one kind come before the first of the next."""
    at = [[index for index, line in enumerate(milestones) if line["milestone"] == kind] for kind in kinds]
    missing = [kind for kind, indices in zip(kinds, at) if not indices]
    assert not missing, f"{missing} missing of {[line['milestone'] for line in milestones]}"
    return all(max(earlier) < min(later) for earlier, later in zip(at, at[1:]))


@pytest.fixture(scope="session", autouse=True)
def application():
    """Listens on the targets' ports, as the application of this machine does. Other runs may listen there too."""
    listeners = []
    for port in range(PORT, PORT + 3):
        listeners.append(socket.socket())
        listeners[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listeners[-1].bind(("0.0.0.0", port))
        listeners[-1].listen()
    yield
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    moto = Moto(tmp_path_factory.mktemp("moto"))
    try:
        moto.wait()
        yield moto
    finally:
        moto.end()


@pytest.fixture
def moto(server):
    server.begin()
    return server


@pytest.fixture
def node(moto, tmp_path):
    """Makes the instance that the daemon runs on."""
    nodes = []

    def node(instance_id, tags=None, **settings):
        nodes.append(Node(tmp_path, moto, instance_id, **settings))
        nodes[-1].start_metadata(tags)
        return nodes[-1]

    yield node
    for one in nodes:
        one.end()
