"""What every call passes: the signature's date and keys, rate buckets, faults, dry runs, kept connections."""

import datetime
import ipaddress
import time

import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, SSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import refused, until

ERROR = {"status": {"status": 500, "code": "InternalFailure", "message": "sorry"}}


def actions(world):
    return [request["action"] for request in world.requests() if request["service"] != "metadata"]


def test_who_calls_is_told(world):
    identity = world.sts.get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].endswith(f"assumed-role/web/{world.ours}")


def test_each_service_spells_its_errors_its_own_way(world):
    world.fault("*", ERROR)
    for call in (world.ec2.describe_instances, world.elb.describe_target_groups, world.asg.describe_auto_scaling_groups):
        with pytest.raises(ClientError) as caught:
            call()
        response = caught.value.response
        assert (response["Error"]["Code"], response["Error"]["Message"]) == ("InternalFailure", "sorry")
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert response["ResponseMetadata"]["RequestId"]


def test_what_no_policy_allows_is_denied_as_each_service_does(start):
    denied = ["ec2:DescribeInstances", "elasticloadbalancing:DescribeTargetGroups", "autoscaling:DetachInstances"]
    world = start(denied=denied)
    assert refused(world.ec2.describe_instances)[0] == "UnauthorizedOperation"
    assert refused(world.elb.describe_target_groups)[0] == "AccessDenied"
    code, message = refused(
        world.asg.detach_instances,
        AutoScalingGroupName="web",
        InstanceIds=[world.ours],
        ShouldDecrementDesiredCapacity=False,
    )
    assert code == "AccessDenied" and "autoscaling:DetachInstances" in message
    assert world.asg.describe_auto_scaling_groups()["AutoScalingGroups"][0]["DesiredCapacity"] == 3


def test_a_dry_run_tells_allowed_from_denied_and_does_nothing(start):
    world = start(denied=["ec2:CreateTags"])
    tags = {"Resources": [world.ours], "Tags": [{"Key": "a", "Value": "b"}], "DryRun": True}
    assert refused(world.ec2.create_tags, **tags)[0] == "UnauthorizedOperation"
    deleted = {"Resources": [world.ours], "Tags": [{"Key": "Name"}], "DryRun": True}
    assert refused(world.ec2.delete_tags, **deleted)[0] == "DryRunOperation"
    assert filtered_names(world) == ["web"]


def filtered_names(world):
    answer = world.ec2.describe_instances(InstanceIds=[world.ours])
    return [tag["Value"] for tag in answer["Reservations"][0]["Instances"][0]["Tags"] if tag["Key"] == "Name"]


def test_a_dry_run_of_a_launch_asks_for_the_role_too(start):
    def launch(world):
        template = {"LaunchTemplateId": world.template(), "Version": "$Default"}
        return refused(world.ec2.run_instances, LaunchTemplate=template, MinCount=1, MaxCount=1, DryRun=True)

    assert launch(start())[0] == "DryRunOperation"
    code, message = launch(start(denied=["iam:PassRole"]))
    assert code == "UnauthorizedOperation" and "iam:PassRole" in message
    code, message = launch(start(denied=["ec2:RunInstances"]))
    assert code == "UnauthorizedOperation" and "ec2:RunInstances" in message


def test_an_action_that_is_not_there_is_invalid(world):
    assert refused(world.ec2.describe_vpcs)[0] == "InvalidAction"
    assert refused(world.elb.describe_rules)[0] == "InvalidAction"
    assert refused(world.asg.describe_policies)[0] == "InvalidAction"


def test_an_expired_key_is_refused_as_each_service_does(world):
    world.ec2.describe_instances()
    world.control("/credentials/expire", {"access_key": "AKIATEST"})
    assert refused(world.ec2.describe_instances)[0] == "RequestExpired"
    assert refused(world.elb.describe_target_groups)[0] == "ExpiredToken"
    assert refused(world.asg.describe_auto_scaling_groups)[0] == "ExpiredToken"
    assert world.client("ec2", access_key="AKIAOTHER").describe_instances()["Reservations"]


def test_all_keys_so_far_may_expire_at_once_and_the_metadata_has_new_ones(world):
    def key():
        body = world.get("/latest/meta-data/iam/security-credentials/web")[1]
        return body.split('"AccessKeyId": "')[1].split('"')[0]

    first = key()
    assert key() == first
    world.control("/credentials/expire", {})
    second = key()
    assert second != first
    assert refused(world.client("elbv2", access_key=first).describe_target_groups)[0] == "ExpiredToken"
    assert world.client("elbv2", access_key=second).describe_target_groups()["TargetGroups"]


def test_issued_keys_expire_by_themselves(start):
    world = start(credentials_lifetime="300ms")
    body = world.get("/latest/meta-data/iam/security-credentials/web")[1]
    key = body.split('"AccessKeyId": "')[1].split('"')[0]
    client = world.client("elbv2", access_key=key)
    client.describe_target_groups()
    time.sleep(0.35)
    assert refused(client.describe_target_groups)[0] == "ExpiredToken"


def test_a_clock_that_is_ten_minutes_off_is_refused(start):
    for offset in ("10m", "-10m"):
        world = start(clock_offset=offset)
        assert refused(world.elb.describe_target_groups)[0] == "SignatureDoesNotMatch"
        assert refused(world.asg.describe_auto_scaling_groups)[0] == "SignatureDoesNotMatch"
        assert refused(world.ec2.describe_instances)[0] == "RequestExpired"
    assert start(clock_offset="4m").ec2.describe_instances()["Reservations"]


def test_unsigned_calls_are_refused(world):
    client = world.client("elbv2", signature_version=UNSIGNED)
    assert refused(client.describe_target_groups)[0] == "MissingAuthenticationToken"


def test_registering_and_deregistering_share_a_bucket(start):
    world = start(rates={})
    call = {"TargetGroupArn": world.target_group(), "Targets": [{"Id": world.ours}]}
    codes = []
    for number in range(30):
        try:
            (world.elb.register_targets if number % 2 else world.elb.deregister_targets)(**call)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert set(codes) == {"Throttling"} and len(codes) >= 5
    assert world.elb.describe_target_groups()["TargetGroups"], "describing has a bucket of its own"


def test_ec2_limits_requests_by_its_own_name(start):
    bucket = {"size": 2, "per_second": 0.1}
    world = start(rates={"ec2_describe": bucket})
    world.ec2.describe_instances()
    world.ec2.describe_instances()
    assert refused(world.ec2.describe_instances)[0] == "RequestLimitExceeded"


def test_a_dry_run_does_nothing(world):
    code, _ = refused(world.ec2.terminate_instances, InstanceIds=[world.ours], DryRun=True)
    assert code == "DryRunOperation"
    assert world.state(world.ours) == "running"


def test_a_fault_meets_the_nth_call(world):
    world.fault("DescribeTargetHealth", ERROR, {"exactly": 2})
    arn = world.target_group()
    world.elb.describe_target_health(TargetGroupArn=arn)
    assert refused(world.elb.describe_target_health, TargetGroupArn=arn)[0] == "InternalFailure"
    world.elb.describe_target_health(TargetGroupArn=arn)
    world.fault("DescribeTargetHealth", ERROR, {"from": 2})
    world.elb.describe_target_health(TargetGroupArn=arn)
    refused(world.elb.describe_target_health, TargetGroupArn=arn)
    refused(world.elb.describe_target_health, TargetGroupArn=arn)
    world.control("/clear-faults", {})
    world.elb.describe_target_health(TargetGroupArn=arn)


def test_a_dropped_call_is_not_done(world):
    world.fault("DetachInstances", "drop")
    call = {"InstanceIds": [world.ours], "AutoScalingGroupName": "web", "ShouldDecrementDesiredCapacity": False}
    with pytest.raises(ConnectionClosedError):
        world.asg.detach_instances(**call)
    assert world.ours in world.members("InService")
    assert world.requests()[-2]["status"] is None


def test_a_lost_reply_is_done_all_the_same(world):
    world.fault("DetachInstances", "lost-reply", {"first": 1})
    call = {"InstanceIds": [world.ours], "AutoScalingGroupName": "web", "ShouldDecrementDesiredCapacity": False}
    with pytest.raises(ConnectionClosedError):
        world.asg.detach_instances(**call)
    assert world.members("Detaching") == [world.ours] or world.ours not in world.members("InService")
    assert refused(world.asg.detach_instances, **call)[0] == "ValidationError"
    until(world.successors)


def test_a_hanging_call_is_never_answered(world):
    world.fault("DeregisterTargets", "hang")
    impatient = world.client("elbv2", read_timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        impatient.deregister_targets(TargetGroupArn=world.target_group(), Targets=[{"Id": world.ours}])
    assert world.health() == ("healthy", None)


def test_a_delayed_call_is_done_late_even_if_nobody_waits(world):
    world.fault("DeregisterTargets", {"delay": "500ms"})
    impatient = world.client("elbv2", read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        impatient.deregister_targets(TargetGroupArn=world.target_group(), Targets=[{"Id": world.ours}])
    assert world.health() == ("healthy", None)
    until(lambda: world.health()[0] == "draining")


def test_connections_are_kept(world):
    for _ in range(3):
        world.elb.describe_target_groups()
    calls = [one for one in world.requests() if one["action"] == "DescribeTargetGroups"]
    assert len(calls) == 3
    assert len({one["connection"] for one in calls}) == 1


def test_requests_are_remembered_with_what_they_said(world):
    world.elb.deregister_targets(TargetGroupArn=world.target_group(), Targets=[{"Id": world.ours, "Port": 80}])
    request = world.requests()[-1]
    assert (request["service"], request["action"]) == ("elasticloadbalancing", "DeregisterTargets")
    assert request["parameters"]["Targets.member.1.Id"] == world.ours
    assert request["parameters"]["Targets.member.1.Port"] == "80"
    assert "boto" in request["headers"]["user-agent"].lower()
    assert request["status"] == 200
    assert actions(world) == ["DeregisterTargets"]


def test_aws_speaks_tls_with_the_certificate_given(start, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    self_signed("127.0.0.1", certificate, key)
    world = start("--tls-certificate", str(certificate), "--tls-key", str(key))
    assert world.aws_endpoint.startswith("https://")
    client = world.client("elbv2", verify=str(certificate))
    assert client.describe_target_groups()["TargetGroups"]
    with pytest.raises(SSLError):
        world.client("elbv2", verify=True).describe_target_groups()


def self_signed(address, certificate, key):
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulator")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(secret, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    pkcs8, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(secret.private_bytes(serialization.Encoding.PEM, pkcs8, bare))
