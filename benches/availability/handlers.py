"""Who handles the notice: nobody, a script, or spot-relay with each owner and each `[leave] when`."""

import os
import socket
from dataclasses import dataclass, field
from typing import Callable, Optional

from cloud import ADDRESS

METADATA_PORT, AWS_PORT = 8169, 8443
METADATA, AWS = f"http://{ADDRESS}:{METADATA_PORT}", f"http://{ADDRESS}:{AWS_PORT}"

OWNERS = {
    "group": {"kind": "auto-scaling-group"},
    "group-with-hook": {"kind": "auto-scaling-group", "termination_hook": True},
    "group-that-rebalances": {"kind": "auto-scaling-group", "capacity_rebalance": True},
    "fleet-maintain": {"kind": "ec2-fleet", "type": "maintain"},
    "fleet-instant": {"kind": "ec2-fleet", "type": "instant"},
    "spot-fleet": {"kind": "spot-fleet", "type": "maintain"},
    "template": {"kind": "launch-template"},
}
# The hardest case: no request may be open when the hook runs, which stops the application. A template launches first,
# and so does a group, with LaunchInstances.
STOPPED = ("group", "template")
WHEN = ("auto", "at-once", "successor-healthy")

# Waits for the notice. It asks the metadata every five seconds, as AWS advises.
WATCH = """
while sleep "$EVERY"; do
  token=$(curl -s -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$METADATA/latest/api/token")
  curl -sf -m 2 -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$METADATA/latest/meta-data/spot/instance-action" && break
done
"""
STOP_AT_NOTICE = WATCH + '"$STOP"\n'
# AWS's advice for a group: detach the instance, so that the group launches another.
SAMPLE = WATCH + """
aws autoscaling detach-instances --auto-scaling-group-name web --instance-ids "$INSTANCE" \\
  --no-should-decrement-desired-capacity
"""
# The same without the AWS CLI: the one call, which the simulator accepts without a correct signature.
SAMPLE_WITHOUT_CLI = WATCH + """
curl -s "$AWS_ENDPOINT_URL/" -H "X-Amz-Date: $(date -u +%Y%m%dT%H%M%SZ)" \\
  -H "Authorization: AWS4-HMAC-SHA256 Credential=AKIASAMPLE/x" --data-urlencode Action=DetachInstances \\
  --data-urlencode Version=2011-01-01 --data-urlencode AutoScalingGroupName=web \\
  --data-urlencode "InstanceIds.member.1=$INSTANCE" --data-urlencode ShouldDecrementDesiredCapacity=false
"""


@dataclass
class Handler:
    name: str
    title: str
    owner: dict
    start: Optional[Callable] = None
    # Waits until the handler of an instance watches.
    ready: Callable = lambda instance: None
    ours: bool = False
    # The reason why this handler is not what its name says.
    note: str = field(default="")


def variables(**more):
    """The environment of a process of an instance, without the machine's credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    nothing = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "NO_PROXY": "*", "HOME": "/nonexistent"}
    endpoints = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": METADATA, "AWS_ENDPOINT_URL": AWS, "AWS_REGION": "eu-west-1",
                 "AWS_DEFAULT_REGION": "eu-west-1"}
    return kept | nothing | endpoints | more


def script(text, every, path=""):
    def start(instance):
        environment = variables(METADATA=METADATA, INSTANCE=instance.id, EVERY=str(every),
                                STOP=str(instance.directory / "stop-nginx"))
        environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
        instance.start(["bash", "-c", text], env=environment)
    return start


def spot_relay(binary, configuration):
    """The daemon as its unit starts it: it notifies when it watches."""
    def start(instance):
        directory = instance.directory
        # `{stop}` in the configuration is the command that stops the application.
        (directory / "config.toml").write_text(configuration.replace("{stop}", str(directory / "stop-nginx")))
        instance.readiness = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        instance.readiness.bind(str(directory / "notify"))
        environment = variables(STATE_DIRECTORY=str(directory), RUNTIME_DIRECTORY=str(directory),
                                NOTIFY_SOCKET=str(directory / "notify"))
        instance.start([binary, "--config", directory / "config.toml", "run"], env=environment)

    def ready(instance):
        instance.readiness.settimeout(60)
        try:
            while b"READY=1" not in instance.readiness.recv(4096):
                pass
        except TimeoutError:
            raise RuntimeError(f"spot-relay did not get ready:\n{instance.log()}") from None

    return start, ready


def handlers(pace, binary, aws_cli):
    """All handlers, in the order of the table. `pace` has the pause of a script and the daemon's configuration."""
    group = OWNERS["group"]
    sample = script(SAMPLE, pace.script_every, aws_cli) if aws_cli else script(SAMPLE_WITHOUT_CLI, pace.script_every)
    yield Handler("nobody", "nobody (the group's health check)", group)
    yield Handler("stop-at-notice", "a script that stops the application at the notice", group,
                  script(STOP_AT_NOTICE, pace.script_every))
    yield Handler("sample", "AWS's sample (bash loop, AWS CLI)", group, sample,
                  note="" if aws_cli else "without the AWS CLI: curl makes the same call")
    for when in WHEN:
        for owner, settings in OWNERS.items():
            configuration = f'{pace.configuration}\n[leave]\nwhen = "{when}"\n{pace.leave}\n'
            start, ready = spot_relay(binary, configuration)
            title = f"spot-relay, {owner.replace('-', ' ')}, {when}"
            yield Handler(f"{owner}-{when}", title, settings, start, ready, ours=True)
            if owner in STOPPED:
                start, ready = spot_relay(binary, f'{configuration}\n[hooks]\ndrained = ["{{stop}}"]\n')
                yield Handler(f"{owner}-{when}-stops", f"{title}, drained stops nginx", settings, start, ready, ours=True)
