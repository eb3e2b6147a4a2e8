"""The .deb in a booted Debian: installed, in an image, upgraded, removed, purged."""

import json
import re

from machine import until


def leftovers(node):
    """Everything named after us, but for dpkg's own books and what the tests brought."""
    found = node.run("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/sys", ")", "-prune", "-o", "-name", "*spot-relay*", "-print").split()
    return sorted(path for path in found if not path.startswith("/opt/"))


def test_installing_it_starts_it_and_the_sandbox_holds_it(installed):
    node = installed
    assert node.shown("spot-relay", "SubState", "NRestarts", "UnitFileState", "DynamicUser") == ["running", "0", "enabled", "yes"]
    assert "watching" in node.shown("spot-relay", "StatusText")[0]
    # As systemd sees it after all drop-ins and defaults: no word of complaint, and next to nothing allowed.
    units = node.run("sh", "-c", "ls /usr/lib/systemd/system/spot-relay*").split()
    assert len(units) == 7
    verified = node.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    node.run("systemd-analyze", "security", "--no-pager", "--threshold=13", "spot-relay.service")
    # Nobody else's business: only root reads what it writes.
    pid = node.shown("spot-relay", "MainPID")[0]
    status = node.run("cat", f"/proc/{pid}/status")
    assert [line.split()[1] for line in status.splitlines() if line.startswith("Cap")] == ["0" * 16] * 5
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert json.loads(node.run("cat", "/run/spot-relay/status.json"))["state"] == "watching"
    # Nobody in particular may ask what it does.
    assert "is watching" in node.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "spot-relay", "status")


def test_stopping_comes_before_the_network_and_before_the_server(installed):
    order = installed.shown("spot-relay", "After", "Before")
    assert {"network-online.target", "nss-lookup.target", "shop.service"} <= set(order[0].split())
    assert "shop.service" not in order[1].split()
    # Before the ECS agent, which waits for cloud-init's end: a user data that installs this package would wait for itself.
    assert "ecs.service" in order[1].split() and "ecs.service" not in order[0].split()
    # Servers that are not installed cost nothing: none of them was made or started for the order's sake.
    assert "nginx.service" not in installed.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--state=loaded")


def test_in_an_image_it_is_enabled_and_started_by_the_first_boot(unbooted, packages):
    # As in a chroot into which the builder has mounted its own /run.
    (unbooted.root / "run/systemd/system").mkdir(parents=True)
    unbooted.install(packages[0]["deb"])
    (unbooted.root / "run/systemd/system").rmdir()
    assert (unbooted.root / "etc/systemd/system/multi-user.target.wants/spot-relay.service").is_symlink()
    assert "daemon" not in unbooted.chroot("sh", "-c", "ls /var/lib/spot-relay /var/lib/private/spot-relay 2>&1 || true")
    unbooted.boot()
    unbooted.becomes_active()
    unbooted.watches()


def test_with_systemd_offline_or_a_policy_against_it_nothing_is_started(node, packages):
    node.install(packages[0]["deb"], SYSTEMD_OFFLINE="1")
    assert node.run("systemctl", "is-enabled", "spot-relay.service").strip() == "enabled"
    assert node.shown("spot-relay", "ActiveState", "Job") == ["inactive", ""]
    node.run("dpkg", "--purge", "spot-relay")
    node.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    node.install(packages[0]["deb"])
    assert node.run("systemctl", "is-enabled", "spot-relay.service").strip() == "enabled"
    assert node.shown("spot-relay", "ActiveState", "Job") == ["inactive", ""]


def test_an_administrator_who_disabled_it_is_not_overruled(installed, packages):
    node = installed
    node.run("systemctl", "disable", "--now", "spot-relay.service")
    node.install(packages[1]["deb"])
    assert node.shown("spot-relay", "ActiveState", "UnitFileState", "Job") == ["inactive", "disabled", ""]


def test_an_upgrade_keeps_configuration_and_state(installed, packages):
    node = installed
    edited = '[watch]\ninterval = "500ms"\n'
    node.write("/etc/spot-relay/config.toml", edited)
    node.cloud.notice()
    node.hands_over_completely()
    record, before = node.record(), node.shown("spot-relay", "MainPID")[0]
    node.install(packages[1]["deb"])
    until("the new daemon", lambda: node.shown("spot-relay", "MainPID")[0] not in (before, "0"))
    node.becomes_active()
    assert (node.root / "etc/spot-relay/config.toml").read_text() == edited
    assert node.run("dpkg-query", "--show", "--showformat=${Version}", "spot-relay") == packages[1]["deb"].name.split("_")[1]
    until("the new daemon to know this instance", lambda: "instance i-" in node.journal("--unit=spot-relay", node.this_run()))
    assert node.record()["incident"] == record["incident"]
    # The new daemon finds the notice again, and asks again for what is done: the two other members, ourselves, and one
    # successor.
    assert len(node.cloud.ask("/world")["instances"]) == 4


def test_an_upgrade_in_the_middle_of_a_handover_lets_it_be_finished(quick, packages):
    node = quick
    customer, before = node.customer(), node.shown("spot-relay", "MainPID")[0]
    node.cloud.notice()
    node.reaches("left")
    # dpkg itself does not wait.
    node.install(packages[1]["deb"])
    until("the daemon to be asked to stop", lambda: "in the middle of a handover" in node.log())
    assert node.shown("spot-relay", "MainPID")[0] == before
    assert node.record()["outcome"] is None
    node.release()
    assert customer.communicate()[0] == "sold"
    until("the old daemon to finish", lambda: node.log().count("handed over completely") == 1)
    assert "quiet" in node.milestones()
    # The new one finds the notice still standing and goes through it again; it looks before it asks, and AWS, whose word
    # counts, has nothing left to do: one launch and one detachment.
    until("the new daemon", lambda: node.shown("spot-relay", "MainPID")[0] not in (before, "0"))
    until("the new daemon to finish", lambda: node.log().count("handed over completely") == 2)
    asked = {action: [it["status"] for it in node.cloud.requests(action)] for action in ("LaunchInstances", "DetachInstances")}
    assert asked == {"LaunchInstances": [200], "DetachInstances": [200]}, node.log()
    successors = set(re.findall(r"successor (i-\w+) is running", node.log()))
    assert len(successors) == 1


def test_removing_it_stops_it_and_a_purge_leaves_nothing(installed):
    node = installed
    node.cloud.notice()
    node.hands_over_completely()
    until("its target", lambda: node.is_active("spot-relay-drained.target"))
    node.run("dpkg", "--remove", "spot-relay")
    assert node.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--state=active", "spot-relay*") == ""
    assert "/etc/spot-relay" in leftovers(node)
    assert node.record()["outcome"]["complete"]
    node.run("dpkg", "--purge", "spot-relay")
    assert leftovers(node) == []
    # The shop's unit names ours; it is not found any more.
    left = node.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "spot-relay*").splitlines()
    assert [line for line in left if line.split()[1:3] != ["not-found", "inactive"]] == []
