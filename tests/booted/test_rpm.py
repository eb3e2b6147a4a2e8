"""The .rpm in a root made for it (`rpm --root`), on which nothing is enabled but by a preset, and booted then.
Debian's root has no database of rpm's, hence --nodeps; what it requires is looked at by itself (tests/run packages)."""

from machine import call, until


def test_it_is_installed_into_an_image_upgraded_and_erased(unbooted, packages):
    node = unbooted
    node.write("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")
    call("rpm", f"--root={node.root}", "--nodeps", "--install", packages[0]["rpm"])
    assert (node.root / "etc/systemd/system/multi-user.target.wants/spot-relay.service").is_symlink()
    node.boot()
    node.becomes_active()
    node.watches()
    assert call("rpm", f"--root={node.root}", "--verify", "spot-relay", "--nodeps").strip() == ""

    edited = '[watch]\ninterval = "500ms"\n'
    node.write("/etc/spot-relay/config.toml", edited)
    customer, before = node.customer(), node.shown("spot-relay", "MainPID")[0]
    node.cloud.notice()
    node.reaches("left")
    node.put(packages[1]["rpm"], "/opt/next.rpm")
    node.run("rpm", "--nodeps", "--upgrade", "/opt/next.rpm")
    until("the daemon to be asked to stop", lambda: "in the middle of a handover" in node.log())
    assert node.shown("spot-relay", "MainPID")[0] == before
    node.release()
    assert customer.communicate()[0] == "sold"
    until("the new daemon", lambda: node.shown("spot-relay", "MainPID")[0] not in (before, "0"))
    node.hands_over_completely()
    assert (node.root / "etc/spot-relay/config.toml").read_text() == edited

    node.run("rpm", "--nodeps", "--erase", "spot-relay")
    assert not node.is_active("spot-relay.service")
    assert not (node.root / "etc/systemd/system/multi-user.target.wants/spot-relay.service").is_symlink()
    assert node.run("sh", "-c", "ls /usr/bin/spot-relay /usr/lib/systemd/system/spot-relay* 2>/dev/null || true") == ""
    assert (node.root / "etc/spot-relay/config.toml.rpmsave").read_text() == edited


def test_installed_on_a_running_machine_it_is_started_and_a_preset_against_it_is_heard(node, packages):
    node.put(packages[0]["rpm"], "/opt/this.rpm")
    node.write("/etc/systemd/system-preset/00-not-here.preset", "disable spot-relay.service\n")
    node.run("rpm", "--nodeps", "--install", "/opt/this.rpm")
    assert node.shown("spot-relay", "ActiveState", "UnitFileState", "Job") == ["inactive", "disabled", ""]
    node.run("rpm", "--nodeps", "--erase", "spot-relay")
    node.run("rm", "/etc/systemd/system-preset/00-not-here.preset")
    node.run("rpm", "--nodeps", "--install", "/opt/this.rpm")
    node.becomes_active()
    node.watches()
