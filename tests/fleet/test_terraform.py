"""The Terraform module and its examples, applied to moto by the real provider: made, found unchanged, destroyed, and what
each policy grants compared with `spot-relay policy` as an instance of that very fleet prints it.

The provider comes from $TF_PLUGIN_DIR, and $FLEET_VENV has checkov: tests/run sets both.

How moto differs here: it forgets the description of a rule whose other end is a security group, and never ends a fleet.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "moto"))
from conftest import BINARY, PATIENCE, REGION, Moto, Node  # noqa: E402

MODULE = ROOT / "packaging" / "terraform"
HOOK = {"termination_hook": 180}
REBALANCING = {"capacity_rebalancing": True}
# What of a configuration asks for more permissions, and for fewer.
MORE = '[leave]\nwhen = "successor-healthy" # not: then = "stay-out"\n[survive]\nthen = "terminate"\n'
FEWER = '[survive]\nthen = "stay-out"\n[watch]\nlifecycle = false\n'


TOOLS = pathlib.Path(os.environ["FLEET_VENV"]).resolve() / "bin"


class Terraform:
    """A copy of the world and of the module, in which nothing of the repository is touched."""

    def __init__(self, directory, endpoint, start="."):
        self.root = directory
        self.directory = directory / start
        shutil.copytree(ROOT / "tests" / "fleet" / "world", directory, dirs_exist_ok=True)
        shutil.copytree(MODULE, directory / "terraform")
        shutil.copytree(ROOT / "packaging" / "ami", directory / "ami")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environment = kept | {
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
            "NO_PROXY": "*",
        }
        self("init", "-backend=false", "-input=false", f"-plugin-dir={os.environ['TF_PLUGIN_DIR']}")

    def __call__(self, *arguments, expected=(0,)):
        done = subprocess.run(
            ["terraform", *arguments], cwd=self.directory, env=self.environment, capture_output=True, text=True
        )
        told = f"terraform {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert done.returncode in expected, told
        return done.stdout

    def apply(self, *options, **settings):
        self.settings = [f"-var=settings={json.dumps(settings)}"]
        self("apply", "-auto-approve", "-input=false", "-no-color", *options, *self.settings)

    def differences(self, *options):
        """What a second plan would change: address and the attributes that differ."""
        plan = str(self.directory / "second.plan")
        self("plan", "-input=false", f"-out={plan}", *options, *self.settings)
        found = []
        for change in json.loads(self("show", "-json", plan))["resource_changes"]:
            before, after = change["change"]["before"], change["change"]["after"]
            if change["change"]["actions"] == ["no-op"] or change["mode"] == "data":
                continue
            names = {*(before or {}), *(after or {})}
            differ = sorted(name for name in names if (before or {}).get(name) != (after or {}).get(name))
            found.append((change["address"], change["change"]["actions"], differ))
        return found

    def policy(self, fleet):
        return json.loads(json.loads(self("output", "-json", "policies"))[fleet])


def of_moto(difference):
    """moto forgets it."""
    address, actions, attributes = difference
    return "aws_vpc_security_group_" in address and actions == ["update"] and attributes == ["description"]


def by_sid(policy):
    """The group's id is not known before the group, which is not made before its instances' policy: the name alone stands.
    The metadata at hand name no instance profile, so that the role that is passed is a placeholder in what is printed."""
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        if statement["Sid"] == "PassTheTemplatesRole":
            assert all(":role/" in arn and not arn.endswith("*") for arn in statement["Resource"])
            statement["Resource"] = ["of the members"]
    policy = json.loads(re.sub(r"(:autoScalingGroup:)[0-9a-f-]{36}:", r"\1*:", json.dumps(policy)))
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def printed(directory, moto, instance_id, config):
    """What `spot-relay policy` says on this instance."""
    directory.mkdir()
    node = Node(directory, moto, instance_id, "")
    # The module's configuration, and nothing of what moto's suite adds to it.
    node.config.write_text(config)
    try:
        node.start_metadata(None)
        environment = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": node.endpoints["metadata"],
            "AWS_ENDPOINT_URL": moto.endpoint,
            "HOME": str(node.home),
        }
        command = [BINARY, "--config", str(node.config), "policy"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 and "could not be looked up" not in done.stderr, done.stderr
        return json.loads(done.stdout)
    finally:
        node.end()


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    # With AWS's own policies, of which the tutorial's role gets one.
    server = Moto(tmp_path_factory.mktemp("moto"), MOTO_IAM_LOAD_MANAGED_POLICIES="true")
    try:
        server.wait()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def world(moto, tmp_path_factory):
    terraform = Terraform(tmp_path_factory.mktemp("world"), moto.endpoint)
    terraform.apply()
    return terraform


def test_the_format_is_terraforms_own():
    done = subprocess.run(["terraform", "fmt", "-check", "-recursive", "-diff", MODULE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("part", ["terraform", "terraform/examples/auto-scaling-group", "terraform/examples/ec2-fleet"])
def test_the_module_and_its_examples_are_valid(part, tmp_path):
    Terraform(tmp_path, "http://127.0.0.1:9", part)("validate")


def test_the_modules_own_tests_pass(tmp_path):
    told = Terraform(tmp_path, "http://127.0.0.1:9", "terraform")("test", "-no-color")
    assert "0 failed" in told and "Success!" in told, told


def test_checkov_finds_nothing_that_has_no_reason():
    command = [TOOLS / "checkov", "-d", MODULE, "--framework", "terraform", "--skip-download", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert not found["results"]["failed_checks"] and not found["results"]["parsing_errors"], done.stdout
    assert found["summary"]["passed"] > 40, found["summary"]
    for skipped in found["results"]["skipped_checks"]:
        assert len(skipped["check_result"]["suppress_comment"]) > 20, skipped


def test_the_tables_of_the_readme_are_those_of_the_module(tmp_path):
    command = [TOOLS / "python", "document.py", "--check"]
    assert subprocess.run(command, cwd=MODULE, capture_output=True, text=True).returncode == 0
    shutil.copytree(MODULE, tmp_path / "module")
    with (tmp_path / "module" / "outputs.tf").open("a") as outputs:
        outputs.write('output "more" {\n  description = "More."\n  value = 1\n}\n')
    behind = subprocess.run(command, cwd=tmp_path / "module", capture_output=True, text=True)
    assert behind.returncode == 1 and "behind" in behind.stderr, behind


def test_a_second_plan_changes_nothing(world):
    assert [difference for difference in world.differences() if not of_moto(difference)] == []


def test_a_plan_while_a_raised_fleet_keeps_its_excess_capacity_changes_nothing(world, tmp_path):
    """moto knows no ModifyFleet: what Terraform would read after one is written into a copy of its state."""
    state = json.loads(world("state", "pull"))
    fleet = next(it for it in state["resources"] if it["type"] == "aws_ec2_fleet")["instances"][0]["attributes"]
    assert fleet["excess_capacity_termination_policy"] == "termination"
    fleet["excess_capacity_termination_policy"] = "no-termination"
    raised = tmp_path / "raised.tfstate"
    raised.write_text(json.dumps(state))
    found = world.differences("-refresh=false", f"-state={raised}")
    assert [difference for difference in found if not of_moto(difference)] == []


def test_the_tutorials_policy_is_the_one_that_its_instances_print(world, moto, tmp_path):
    group = moto.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["spot-relay-tutorial"])["AutoScalingGroups"][0]
    instance = group["Instances"][0]["InstanceId"]
    assert by_sid(world.policy("tutorial")) == by_sid(printed(tmp_path / "node", moto, instance, ""))


@pytest.mark.parametrize(
    ("settings", "config"),
    [(HOOK, None), (REBALANCING, None), (HOOK, MORE), ({}, MORE), ({}, FEWER), (HOOK, FEWER)],
    ids=["hook", "rebalancing", "hook-more", "more", "fewer", "hook-fewer"],
)
def test_a_groups_policy_follows_its_settings_and_its_configuration(world, moto, tmp_path, settings, config):
    # Made anew: moto lacks the instance refresh that brings another version of the template to a group that is there, and
    # launches from no version but the first.
    anew = ["aws_autoscaling_group.this[0]", "aws_launch_template.this"]
    world.apply(*(f"-replace=module.changing.{address}" for address in anew), **settings, config=config)
    group = moto.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["changing"])["AutoScalingGroups"][0]
    instance = group["Instances"][0]["InstanceId"]
    assert by_sid(world.policy("changing")) == by_sid(printed(tmp_path / "node", moto, instance, config or ""))


def test_a_fleets_policy_is_the_one_that_is_printed_for_its_kind(world, tmp_path):
    """moto does not tag a fleet's instances with the fleet: without one, and so without account and fleet, as `*`."""
    fleet = json.loads(world("output", "-json", "fleet"))
    config = tmp_path / "config.toml"
    config.write_text(fleet["config"])
    command = [BINARY, "--config", config, "policy", "--for", "ec2-fleet"]
    done = subprocess.run(command, env={"AWS_REGION": REGION}, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    printed_for_kind = by_sid(json.loads(done.stdout))
    # This one counts instances.
    printed_for_kind["LookUp"]["Action"].remove("ec2:DescribeInstanceTypes")
    ours = json.dumps(world.policy("image"))
    assert fleet["id"] in ours
    anonymous = re.sub(rf"(arn:aws:ec2:{REGION}:)[0-9]{{12}}", r"\1*", ours).replace(fleet["id"], "*")
    assert by_sid(json.loads(anonymous)) == printed_for_kind


def test_its_policies_are_without_findings(world, tmp_path):
    files = []
    for fleet in ("tutorial", "image", "changing"):
        path = tmp_path / f"{fleet}.json"
        path.write_text(json.dumps(world.policy(fleet)))
        files.append(path)
    linter = pathlib.Path(os.environ["POLICIES_VENV"]).resolve() / "bin" / "python"
    done = subprocess.run([linter, ROOT / "tests" / "policies" / "lint.py", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_destroy_leaves_nothing(world, moto):
    assert moto.elb.describe_load_balancers()["LoadBalancers"] and moto.client("iam").list_roles()["Roles"]
    # A fleet that ends its instances stays `deleted_terminating` in moto for ever, for which the provider would wait.
    fleet = "module.image.module.fleet.aws_ec2_fleet.this[0]"
    moto.ec2.delete_fleets(FleetIds=[json.loads(world("output", "-json", "fleet"))["id"]], TerminateInstances=True)
    world("state", "rm", fleet)
    world("destroy", "-auto-approve", "-input=false", "-no-color", *world.settings)
    iam = moto.client("iam")
    fleets = moto.ec2.describe_fleets()["Fleets"]
    left = {
        "load balancers": moto.elb.describe_load_balancers()["LoadBalancers"],
        "target groups": moto.elb.describe_target_groups()["TargetGroups"],
        "groups": moto.asg.describe_auto_scaling_groups()["AutoScalingGroups"],
        "fleets": [fleet for fleet in fleets if not fleet["FleetState"].startswith("deleted")],
        "templates": moto.ec2.describe_launch_templates()["LaunchTemplates"],
        "roles": iam.list_roles()["Roles"],
        "profiles": iam.list_instance_profiles()["InstanceProfiles"],
        "security groups": [
            group for group in moto.ec2.describe_security_groups()["SecurityGroups"] if group["GroupName"] != "default"
        ],
        "instances": [
            one for one in moto.instances().values() if one["State"]["Name"] not in ("terminated", "shutting-down")
        ],
    }
    assert {kind: found for kind, found in left.items() if found} == {}
