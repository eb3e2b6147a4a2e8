"""The Ansible role against a booted Debian with a real systemd: Ansible's ssh connection, whose program enters the machine's
namespaces. $FLEET_VENV has Ansible.

There is no root of RHEL or Amazon Linux to be had here: of the tasks for an .rpm, only the linter has seen anything.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess

import pytest
from nodes import PACKAGES, ROOT, Machine, debian_root, package, unbooted, version

ANSIBLE = ROOT / "packaging" / "ansible"
TOOLS = pathlib.Path(os.environ["FLEET_VENV"]).resolve() / "bin"
CONFIG = "/etc/spot-relay/config.toml"
# ssh's options and the host come first, then the command for a shell.
ENTER = """\
#!/bin/sh
for command; do :; done
exec {enter} /bin/sh -c "$command"
"""


class Node(Machine):
    def play(self, check=False, expected=0, **variables):
        """Applies the role; what it changed, by the name of the task, and everything that was told."""
        ssh = self.directory / "enter"
        ssh.write_text(ENTER.format(enter=" ".join(self.enter())))
        ssh.chmod(0o755)
        given = self.directory / "variables.json"
        given.write_text(json.dumps(variables))
        command = [TOOLS / "ansible-playbook", "-i", "node,", "-e", f"@{given}", *(["--check"] if check else []), "--diff", "site.yml"]
        environment = {
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ANSIBLE_SSH_EXECUTABLE": str(ssh),
            "ANSIBLE_SSH_TRANSFER_METHOD": "piped",
            "ANSIBLE_SSH_ARGS": "",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_REMOTE_USER": "root",
            "ANSIBLE_BECOME_METHOD": "su",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(command, cwd=ANSIBLE, env=environment, capture_output=True, text=True, timeout=300)
        told = done.stdout + done.stderr
        assert done.returncode == expected, told
        tasks = re.split(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$", done.stdout, flags=re.MULTILINE)
        names = [name.removeprefix("spot_relay : ") for name in tasks[1::2]]
        changed = [name for name, text in zip(names, tasks[2::2]) if re.search("^changed: ", text, re.MULTILINE)]
        return changed, told

    def installed(self):
        """The package's version, or nothing."""
        return self.run("dpkg-query", "--show", "--showformat=${Version}", "spot-relay", check=False).stdout

    def config(self):
        return self.run("cat", CONFIG)

    def pid(self):
        return self.shown("spot-relay", "MainPID")[0]


@pytest.fixture
def node(tmp_path):
    with unbooted(tmp_path, debian_root(), Node) as machine:
        machine.boot()
        yield machine


def test_the_linters_hardest_profile_passes():
    environment = os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
    command = [TOOLS / "ansible-lint", "--offline", "--profile", "production", "--strict", "."]
    done = subprocess.run(command, cwd=ANSIBLE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "0 failure(s), 0 warning(s)" in done.stdout + done.stderr, done.stdout + done.stderr


def test_from_nothing_to_a_running_daemon_and_on_to_the_next_version(node):
    old = {"spot_relay_package_file": str(package())}
    config = {"target-groups": ["web", "api:8080"], "leave": {"quiet-for": "5s"}, "watch": {"lifecycle": False}}

    changed, _ = node.play(check=True, **old, spot_relay_config=config)
    assert changed and not node.installed()

    changed, _ = node.play(**old, spot_relay_config=config)
    assert "Install the .deb" in changed and "Write the configuration, once spot-relay itself has found it right" in changed
    assert node.installed() == version()
    assert [line for line in node.config().splitlines() if line and not line.startswith("#")] == [
        'target-groups = ["web", "api:8080"]', "[leave]", 'quiet-for = "5s"', "[watch]", "lifecycle = false",
    ]
    assert node.shown("spot-relay", "ActiveState", "UnitFileState") == ["active", "enabled"]

    first = node.pid()
    assert node.play(**old, spot_relay_config=config)[0] == []
    assert node.pid() == first

    config["leave"]["quiet-for"] = "7s"
    changed, told = node.play(check=True, **old, spot_relay_config=config)
    assert '-quiet-for = "5s"' in told and '+quiet-for = "7s"' in told and "5s" in node.config()
    assert node.pid() == first

    changed, _ = node.play(**old, spot_relay_config=config)
    assert "Restart spot-relay" in changed and "7s" in node.config()
    assert node.pid() not in (first, "0")

    before = node.pid()
    changed, _ = node.play(spot_relay_package_file=str(package(PACKAGES / "next")), spot_relay_config=config)
    assert "Install the .deb" in changed and node.installed() == version(PACKAGES / "next")
    assert "7s" in node.config() and node.shown("spot-relay", "ActiveState") == ["active"]
    assert node.pid() not in (before, "0")
    assert node.play(spot_relay_package_file=str(package(PACKAGES / "next")), spot_relay_config=config)[0] == []


def test_a_wrong_configuration_replaces_nothing(node):
    given = {"spot_relay_package_file": str(package())}
    node.play(**given, spot_relay_config={"leave": {"quiet-for": "5s"}})
    pid = node.pid()
    _, told = node.play(**given, spot_relay_config={"leave": {"quiet-fro": "6s"}}, expected=2)
    assert "quiet-fro" in told
    assert "5s" in node.config() and "quiet-fro" not in node.config() and node.pid() == pid


def test_from_a_url_only_what_has_the_checksum_is_installed(node):
    found = package()
    # Within the machine, which sees no other network.
    node.put(found, f"/srv/{found.name}")
    shelf = node.spawn("python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv", "0")
    try:
        port = re.search(r"port (\d+)", shelf.stdout.readline()).group(1)
        url = f"http://127.0.0.1:{port}/{found.name}"
        wrong = f"sha256:{'0' * 64}"
        node.play(spot_relay_package_url=url, spot_relay_package_checksum=wrong, expected=2)
        assert not node.installed()
        right = f"sha256:{hashlib.sha256(found.read_bytes()).hexdigest()}"
        node.play(spot_relay_package_url=url, spot_relay_package_checksum=right, spot_relay_service_state="stopped")
        # As for an image: enabled only.
        assert node.installed() == version()
        assert node.shown("spot-relay", "UnitFileState", "ActiveState") == ["enabled", "inactive"]
    finally:
        shelf.kill()
        shelf.wait()


def test_a_run_that_names_no_package_or_two_is_refused(node):
    for variables in ({}, {"spot_relay_package_file": "/a.deb", "spot_relay_package_name": "spot-relay"}):
        _, told = node.play(**variables, expected=2)
        assert "Name one of" in told
    assert not node.installed()
