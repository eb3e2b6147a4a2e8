"""The metadata service: version 2 only, tokens that expire, and botocore's own client as a witness."""

import http.client
import json
import re
import time

import botocore.session
from botocore.utils import InstanceMetadataFetcher

META = "/latest/meta-data/"


def test_nothing_is_told_without_a_token(world):
    status, body = world.ask("GET", META + "instance-id", {})
    assert status == 401 and "<html" in body
    assert world.get(META + "instance-id", token="invented")[0] == 401
    assert world.get(META + "instance-id") == (200, world.ours)


def test_a_token_wants_a_sound_lifetime_and_no_proxy(world):
    for ttl in ("0", "21601", "x", "-1"):
        assert world.put_token(ttl)[0] == 400
    assert world.ask("PUT", "/latest/api/token", {})[0] == 400
    assert world.put_token(**{"X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert world.put_token("1")[0] == 200


def test_a_token_expires(world):
    token = world.put_token("1")[1]
    assert world.get(META + "instance-id", token=token)[0] == 200
    time.sleep(1.05)
    assert world.get(META + "instance-id", token=token)[0] == 401


def test_a_capped_token_expires_earlier_than_it_says(start):
    world = start(token_ttl_cap="300ms")
    token = world.put_token()[1]
    assert world.get(META + "instance-id", token=token)[0] == 200
    time.sleep(0.35)
    assert world.get(META + "instance-id", token=token)[0] == 401


def test_the_instance_is_described(world):
    document = json.loads(world.get("/latest/dynamic/instance-identity/document")[1])
    wanted = {
        "instanceId": world.ours,
        "region": "eu-west-1",
        "availabilityZone": "eu-west-1a",
        "instanceType": "m5.large",
        "accountId": "123456789012",
        "privateIp": world.instances(id=world.ours)[0]["private_ip"],
    }
    assert {key: document[key] for key in wanted} == wanted
    assert world.get(META + "instance-life-cycle") == (200, "spot")
    assert world.get(META + "instance-type") == (200, "m5.large")
    assert world.get(META + "local-ipv4") == (200, wanted["privateIp"])
    assert world.get(META + "placement/region") == (200, "eu-west-1")
    assert world.get(META + "placement/availability-zone") == (200, "eu-west-1a")


def test_an_absence_is_a_404_of_html(world):
    for path in ("spot/instance-action", "spot/termination-time", "events/recommendations/rebalance", "no/such"):
        status, body = world.get(META + path)
        assert status == 404 and "<html" in body


def test_a_notice_appears_and_shifts(world):
    world.control("/notice", {"action": "terminate", "seconds": 120})
    notice = json.loads(world.get(META + "spot/instance-action")[1])
    assert notice["action"] == "terminate"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", notice["time"])
    world.control("/notice", {"action": "terminate", "seconds": 60})
    shifted = json.loads(world.get(META + "spot/instance-action")[1])
    assert shifted["time"] < notice["time"]
    world.control("/notice", {"action": "stop", "time": "2017-09-18T08:22:00.123Z"})
    verbatim = json.loads(world.get(META + "spot/instance-action")[1])
    assert verbatim == {"action": "stop", "time": "2017-09-18T08:22:00.123Z"}


def test_a_survivor_may_bear_a_time_long_past(world):
    world.control("/notice", {"action": "terminate", "time": "2017-09-18T08:22:00Z"})
    time.sleep(0.4)
    assert world.state(world.ours) == "running"


def test_a_recommendation_and_scheduled_events_appear(world):
    world.control("/rebalance", {})
    assert "noticeTime" in json.loads(world.get(META + "events/recommendations/rebalance")[1])
    assert world.get(META + "events/maintenance/scheduled") == (200, "[]")
    events = [{"Code": "system-reboot", "State": "active", "NotBefore": "8 May 2027 16:00:00 GMT"}]
    world.control("/scheduled-events", events)
    assert json.loads(world.get(META + "events/maintenance/scheduled")[1]) == events


def test_the_lifecycle_state_follows_the_group_or_a_test(start):
    world = start()
    path = META + "autoscaling/target-lifecycle-state"
    assert world.get(path) == (200, "InService")
    world.asg.detach_instances(
        InstanceIds=[world.ours], AutoScalingGroupName="web", ShouldDecrementDesiredCapacity=False
    )
    assert world.get(path) == (200, "Detached")
    world.control("/lifecycle-state", {"state": "Warmed:Stopped"})
    assert world.get(path) == (200, "Warmed:Stopped")
    assert start(owner={"kind": "nobody"}).get(path)[0] == 404


def test_tags_are_told_where_the_instance_allows_it(start):
    world = start(tags={"Name": "web", "team": "a"})
    assert world.get(META + "tags/instance/aws:autoscaling:groupName") == (200, "web")
    assert world.get(META + "tags/instance/team") == (200, "a")
    assert world.get(META + "tags/instance/none")[0] == 404
    assert "team" in world.get(META + "tags/instance")[1].split("\n")
    assert start(tags_in_metadata=False).get(META + "tags/instance/Name")[0] == 404


def test_botocores_own_client_reads_the_credentials_and_they_work(world):
    fetcher = InstanceMetadataFetcher(timeout=2, num_attempts=1, base_url=world.metadata_endpoint + "/")
    credentials = fetcher.retrieve_iam_role_credentials()
    assert credentials["role_name"] == "web"
    client = botocore.session.get_session().create_client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=world.aws_endpoint,
        aws_access_key_id=credentials["access_key"],
        aws_secret_access_key=credentials["secret_key"],
        aws_session_token=credentials["token"],
    )
    assert client.get_caller_identity()["Account"] == "123456789012"


def test_without_a_profile_there_are_no_credentials(start):
    assert start(role=None).get(META + "iam/security-credentials/")[0] == 404


def test_metadata_meets_faults_by_path(world):
    world.fault("spot/instance-action", {"body": {"status": 200, "body": "garbage"}}, {"first": 1})
    assert world.get(META + "spot/instance-action") == (200, "garbage")
    assert world.get(META + "spot/instance-action")[0] == 404
    world.fault("token", {"status": {"status": 403, "code": "", "message": "Forbidden"}}, {"first": 1})
    assert world.put_token()[0] == 403
    assert world.put_token()[0] == 200


def test_another_clock_is_seen_in_everything_that_leaves(start):
    world = start(clock_offset="-10m")
    world.control("/notice", {"action": "terminate", "seconds": 0.5})
    notice = json.loads(world.get(META + "spot/instance-action")[1])
    shown = time.mktime(time.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert -620 < shown - time.time() < -580


def test_a_body_may_have_no_end_and_a_redirect_lead_elsewhere(world):
    token = world.put_token()[1]
    world.fault("spot/", "endless-body", {"first": 1})
    world.fault("instance-id", {"redirect": "http://127.0.0.1:9/"})
    host = world.metadata_endpoint.removeprefix("http://")

    def ask(path):
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.request("GET", META + path, headers={"X-aws-ec2-metadata-token": token})
        return connection.getresponse()

    answer = ask("spot/instance-action")
    assert answer.status == 200
    assert len(answer.read(1_000_000)) == 1_000_000
    answer = ask("instance-id")
    assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:9/")
