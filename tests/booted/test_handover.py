"""Handovers under a real systemd, with the sandbox on, the metadata at its true address and AWS behind TLS that the
system's own roots vouch for."""

import time

from machine import AWS_NAMES, METADATA, call, until


def test_a_notice_is_handed_over_with_the_sandbox_on(installed):
    node = installed
    node.run("systemctl", "enable", "farewell.service")
    customer = node.customer()
    node.cloud.notice()
    node.reaches("left")
    until("the target of the notice", lambda: node.is_active("spot-relay-notice.target"))
    until("the user's unit", lambda: (node.root / "root/farewell").exists())
    # The kernel shows the open connection to a process without any right, and the handover waits for it.
    node.reaches("successor-healthy")
    assert "quiet" not in node.milestones() and node.record()["outcome"] is None
    assert not node.is_active("spot-relay-drained.target")
    node.release()
    assert customer.communicate()[0] == "sold"
    node.hands_over_completely()
    until("the target of the last answer", lambda: node.is_active("spot-relay-drained.target"))
    hosts = {it["headers"]["host"] for it in node.cloud.requests() if it["service"] != "metadata"}
    assert hosts and hosts <= set(AWS_NAMES)
    assert node.shown("spot-relay", "NRestarts") == ["0"]
    assert "WARN" not in node.log()


def test_hooks_run_in_the_sandbox_and_with_the_drop_in_as_root(node, packages):
    node.write("/etc/spot-relay/config.toml", """\
[hooks]
notice = ["/bin/sh", "-c", "id -u > $STATE_DIRECTORY/notice; echo >> /root/seen"]
drained = ["/bin/sh", "-c", "echo $SPOT_RELAY_ACTION > $STATE_DIRECTORY/drained"]
""")
    node.install(packages[0]["deb"])
    node.becomes_active()
    node.watches()
    node.cloud.notice()
    until("the hook", lambda: (node.root / "var/lib/private/spot-relay/drained").exists())
    assert (node.root / "var/lib/private/spot-relay/drained").read_text() == "terminate\n"
    assert int((node.root / "var/lib/private/spot-relay/notice").read_text()) >= 61184
    assert not (node.root / "root/seen").exists()
    node.cloud.withdraw()
    # Until it is back, a notice is one of the same interruption, and its hooks have run.
    until("the instance to be back", lambda: "reinstated" in node.milestones())
    node.run("install", "-D", "-m", "644", "/usr/share/doc/spot-relay/examples/root-hooks.conf", "/etc/systemd/system/spot-relay.service.d/root-hooks.conf")
    node.run("systemctl", "daemon-reload")
    node.run("systemctl", "restart", "spot-relay.service")
    node.watches()
    node.cloud.notice()
    until("the hook's file in root's home", lambda: (node.root / "root/seen").exists())


def test_a_stop_in_the_middle_of_a_handover_waits_for_its_end(quick):
    node = quick
    customer = node.customer()
    node.cloud.notice()
    node.reaches("left")
    stop = node.spawn("systemctl", "stop", "spot-relay.service")
    until("the daemon to be asked to stop", lambda: "in the middle of a handover" in node.log())
    assert node.record()["outcome"] is None and stop.poll() is None
    node.release()
    assert customer.communicate()[0] == "sold"
    stop.communicate(timeout=90)
    assert node.shown("spot-relay", "ActiveState", "Result") == ["inactive", "success"]
    node.hands_over_completely()
    assert "quiet" in node.milestones()


def test_a_poweroff_in_the_middle_of_a_handover_waits_for_its_end_and_the_server_serves_until_then(quick):
    node = quick
    customer = node.customer()
    node.cloud.notice()
    node.reaches("left")
    node.run("systemctl", "poweroff", "--no-block")
    until("the daemon to be asked to stop", lambda: "in the middle of a handover" in node.log())
    assert node.shown("shop", "ActiveState") == ["active"]
    node.release()
    assert customer.communicate()[0] == "sold"
    assert node.wait_off() == 0
    node.hands_over_completely()
    assert "quiet" in node.milestones()
    ends = [line for line in node.journal("_PID=1").splitlines() if line.startswith("Stopped ")]
    ours, the_shop = (next(at for at, line in enumerate(ends) if name in line) for name in ("spot-relay.service", "shop.service"))
    assert ours < the_shop, ends


def test_killed_in_the_middle_it_takes_up_the_handover_again(quick):
    node = quick
    customer = node.customer()
    node.cloud.notice()
    node.reaches("successor-requested")
    node.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "spot-relay.service")
    until("the second start", lambda: node.shown("spot-relay", "NRestarts", "SubState") == ["1", "running"])
    assert (node.root / "var/lib/private/spot-relay/handover.json").exists()
    node.run("test", "-e", "/run/spot-relay/notice")
    node.release()
    assert customer.communicate()[0] == "sold"
    node.hands_over_completely()
    # One successor: the two other members, ourselves, and nobody else but it.
    assert len(node.cloud.ask("/world")["instances"]) == 4


def test_metadata_that_goes_away_and_comes_back_ends_nothing(quick):
    node = quick
    before, lines = node.shown("spot-relay", "MainPID")[0], len(node.log().splitlines())
    call("ip", "-n", node.cloud.node, "route", "add", "blackhole", f"{METADATA}/32")
    until("a word about it", lambda: "metadata" in "\n".join(node.log().splitlines()[lines:]))
    said = len(node.log().splitlines())
    time.sleep(3)
    assert len(node.log().splitlines()) == said, "it is said once"
    call("ip", "-n", node.cloud.node, "route", "delete", "blackhole", f"{METADATA}/32")
    until("a word about its return", lambda: len(node.log().splitlines()) > said)
    node.cloud.notice()
    node.hands_over_completely()
    assert node.shown("spot-relay", "MainPID", "NRestarts") == [before, "0"]


def test_a_daemon_that_stands_still_is_restarted_by_the_watchdog(quick):
    node = quick
    before = node.shown("spot-relay", "MainPID")[0]
    node.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "spot-relay.service")
    until("the watchdog", lambda: node.shown("spot-relay", "NRestarts", "SubState") == ["1", "running"], patience=120)
    assert node.shown("spot-relay", "MainPID")[0] != before
    assert "Watchdog timeout" in node.log()
    node.watches()
    node.cloud.notice()
    node.hands_over_completely()


def test_a_wrong_configuration_is_said_and_not_tried_again(installed):
    node = installed
    node.write("/etc/spot-relay/config.toml", "[watch]\ninterval = 3\n")
    node.run("systemctl", "restart", "spot-relay.service", check=False)
    until("its end", lambda: node.shown("spot-relay", "ActiveState")[0] == "failed")
    assert node.shown("spot-relay", "ExecMainStatus", "NRestarts") == ["78", "0"]
    assert "/etc/spot-relay/config.toml" in node.log()


def test_after_a_withdrawn_notice_the_targets_serve_the_next_one(quick):
    node = quick
    node.run("systemctl", "enable", "farewell.service")
    farewell = node.root / "root/farewell"
    example = node.run("cat", "/usr/share/doc/spot-relay/examples/stop-web-server.service")
    assert "nginx.service" in example
    node.write("/etc/systemd/system/stop-web-server.service", example.replace("nginx.service", "shop.service"))
    node.run("systemctl", "enable", "stop-web-server.service")
    node.cloud.notice()
    node.hands_over_completely()
    until("the targets", lambda: node.is_active("spot-relay-notice.target") and node.is_active("spot-relay-drained.target"))
    until("the shop to be closed", lambda: not node.is_active("shop.service"))
    node.cloud.withdraw()
    until("the shop to be open again", lambda: node.is_active("shop.service"))
    until("the targets' end", lambda: not node.is_active("spot-relay-notice.target") and not node.is_active("spot-relay-drained.target"))
    until("the instance to be back", lambda: "reinstated" in node.milestones())
    assert farewell.read_text() == "said\n"
    node.cloud.notice()
    until("the targets of the next one", lambda: node.is_active("spot-relay-notice.target"))
    until("the user's unit again", lambda: farewell.read_text() == "said\nsaid\n")


def test_a_drill_by_root_in_the_daemons_place_leaves_the_daemon_what_it_needs(quick):
    node = quick
    # The daemon's lock keeps it out.
    refused = node.run("spot-relay", "drill", "--yes", check=False)
    assert refused.returncode == 1 and "systemctl stop spot-relay" in refused.stderr
    node.run("systemctl", "stop", "spot-relay.service")
    drilled = node.run("sh", "-c", "umask 077; spot-relay drill --yes --within 30s 2>&1", check=False)
    assert drilled.returncode == 0, drilled.stdout
    assert node.milestones()[-1] == "reinstated"
    node.run("systemctl", "start", "spot-relay.service")
    node.becomes_active()
    node.watches()
    node.cloud.notice()
    until("the notice's own record", lambda: node.record()["signal"] == "notice" and node.record()["outcome"])
    node.hands_over_completely()
    assert "WARN" not in node.journal("--unit=spot-relay", node.this_run())
