"""What every test here stands on: a machine with a web server of its own, and the packages. SPOT_RELAY_PACKAGES names the
directory with this version's and `next/` with a later one's (tests/run makes both), SPOT_RELAY_BIN the binary in them."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from machine import NODE, Cloud, Machine, debian_root, until

PACKAGES = Path(os.environ.get("SPOT_RELAY_PACKAGES", "target/packages")).resolve()
BINARY = Path(os.environ.get("SPOT_RELAY_BIN", "target/shipped/x86_64/spot-relay")).resolve()
# The world's pace: a successor serves a second after it was asked for.
WORLD = {"timings": {"launch_after": "200ms", "running_after": "300ms", "healthy_after": "500ms", "owner_reacts_after": "200ms", "detaching_for": "300ms"}}
# Serves while spot-relay stops: it is ordered before it. `/hold` is answered once /run/release is there.
SHOP = """\
import http.server, os, socketserver, time
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while self.path == "/hold" and not os.path.exists("/run/release"):
            time.sleep(0.05)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"sold")
    def log_message(self, *arguments): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer): pass
Server(("", 80), Shop).serve_forever()
"""
SHOP_UNIT = """\
[Unit]
Description=The shop
Before=spot-relay.service
[Service]
ExecStart=/usr/bin/python3 /opt/shop.py
[Install]
WantedBy=multi-user.target
"""
# A user's unit, which begins with a handover.
FAREWELL = """\
[Service]
Type=oneshot
ExecStart=/bin/sh -c "echo said >> /root/farewell"
[Install]
WantedBy=spot-relay-notice.target
"""


class Node(Machine):
    """A machine with a shop, which may have spot-relay."""

    def __init__(self, cloud, root, directory):
        super().__init__(cloud, root, directory)
        self.write("/opt/shop.py", SHOP)
        self.write("/etc/systemd/system/shop.service", SHOP_UNIT)
        self.write("/etc/systemd/system/farewell.service", FAREWELL)
        self.chroot("systemctl", "enable", "shop.service")

    def install(self, package, **environment):
        """By dpkg, as an administrator does who keeps an edited configuration."""
        self.put(package, "/opt/package.deb")
        command = ["dpkg", "--install", "--force-confold", "/opt/package.deb"]
        if self.leader:
            return self.run("env", "DEBIAN_FRONTEND=noninteractive", *(f"{key}={value}" for key, value in environment.items()), *command)
        return self.chroot(*command, DEBIAN_FRONTEND="noninteractive", **environment)

    def watches(self):
        """Waits until the daemon knows what to do on a notice."""
        until("the daemon to be ready", lambda: "ready; on a notice" in self.journal("--unit=spot-relay", self.this_run()))

    def this_run(self):
        return f"_SYSTEMD_INVOCATION_ID={self.shown('spot-relay', 'InvocationID')[0]}"

    def log(self):
        return self.journal("--unit=spot-relay")

    def record(self):
        path = self.root / "var/lib/private/spot-relay/handover.json"
        return json.loads(path.read_text()) if path.exists() else {"milestones": [], "outcome": None}

    def milestones(self):
        return [it["milestone"] for it in self.record()["milestones"]]

    def reaches(self, milestone):
        until(f"{milestone} in the record", lambda: milestone in self.milestones())

    def hands_over_completely(self):
        # A daemon that starts while the notice stands takes the incident up again: the outcome is read once.
        outcome = until("the handover's outcome", lambda: self.record()["outcome"])
        assert outcome["complete"], self.log()

    def is_active(self, unit):
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    def becomes_active(self, unit="spot-relay.service"):
        until(f"{unit} to be active", lambda: self.is_active(unit))

    def customer(self):
        """A request from outside that is answered once the shop is released."""
        until("the shop", lambda: "LISTEN" in self.run("ss", "-Hltn", "sport", "=", ":80"))
        customer = self.cloud.spawn("curl", "-sS", "--max-time", "110", f"http://{NODE}/hold")
        until("the request to be open", lambda: "ESTAB" in self.run("ss", "-Htn", "sport", "=", ":80"))
        return customer

    def release(self):
        self.run("touch", "/run/release")


@pytest.fixture(scope="session")
def root():
    return debian_root()


@pytest.fixture(scope="session")
def packages():
    """(this version's, a later one's), each by packager."""
    def those(directory):
        found = {kind: next(directory.glob(f"*{architecture}.{kind}")) for kind, architecture in (("deb", "amd64"), ("rpm", "x86_64"))}
        return found
    return those(PACKAGES), those(PACKAGES / "next")


@pytest.fixture
def unbooted(root, tmp_path):
    cloud = Cloud(BINARY, tmp_path, WORLD)
    node = None
    try:
        until("the simulator's port", lambda: "LISTEN" in cloud.run("ss", "-Hltn", "sport", "=", ":443"))
        (tmp_path / "node").mkdir()
        node = Node(cloud, root, tmp_path / "node")
        yield node
    finally:
        if node:
            node.end()
        cloud.end()


@pytest.fixture
def node(unbooted):
    unbooted.boot()
    return unbooted


@pytest.fixture
def installed(node, packages):
    """With the .deb, as it is shipped, and watching."""
    return watching(node, packages)


@pytest.fixture
def quick(node, packages):
    """As `installed`, but for a test to which it is nothing how long connections must have been gone."""
    node.write("/etc/spot-relay/config.toml", '[leave]\nsettle = "1s"\n')
    return watching(node, packages)


def watching(node, packages):
    node.install(packages[0]["deb"])
    node.becomes_active()
    node.watches()
    return node
