"""The load balancer: a real HAProxy, told by its runtime API what the simulator's target groups say.

It does what Elastic Load Balancing does. A registered target is probed and gets requests once it answers; one that drains
gets no new requests, after a while in which the news is still under way; and when the deregistration delay is over, the
connections that are left are cut.
"""

import http.client
import math
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field

PORT = 8080
SLOTS = 40

CONFIGURATION = """
global
    stats socket {socket} mode 600 level admin
    nbthread 1
    maxconn 8000
defaults
    mode http
    retries 0
    no option redispatch
    http-reuse always
    timeout connect {connect}s
    timeout client {idle}s
    timeout server {idle}s
    timeout http-request {idle}s
frontend clients
    bind 127.0.0.1:{port}
    default_backend web
backend web
    balance roundrobin
    server-template slot 1-{slots} 192.0.2.1:80 disabled
"""


@dataclass
class Pace:
    """How fast the load balancer is; seconds."""

    probe_every: float
    probe_patience: float
    # The time for which it still sends new requests after a deregistration.
    lingers: float
    connect: int
    idle: int


@dataclass
class Target:
    slot: str
    address: str
    port: int
    # The result of the probes: initial, healthy, unhealthy.
    health: str = "initial"
    failures: int = 0
    # The time at which the simulator had this report.
    told_at: float = math.inf
    draining_since: float = 0.0
    gone: threading.Event = field(default_factory=threading.Event)


class Balancer:
    def __init__(self, tools, directory, pace, report):
        """Calls `report(target id, port, health)` when a probe's result changes."""
        self.pace, self.report, self.targets, self.told = pace, report, {}, {}
        self.free = [f"slot{number}" for number in range(SLOTS, 0, -1)]
        self.socket = str(directory / "haproxy.sock")
        configuration = directory / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(
            socket=self.socket, connect=pace.connect, idle=pace.idle, port=PORT, slots=SLOTS))
        with (directory / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen([tools, "haproxy", "-db", "-f", configuration], stdout=log, stderr=log)
        until = time.monotonic() + 10
        while True:
            try:
                self.say("show info")
                return
            except OSError as error:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError("HAProxy did not start:\n" + (directory / "haproxy.log").read_text()) from error
                time.sleep(0.05)

    def say(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.socket)
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
        return answer.decode().strip()

    def must(self, command):
        # A successful change answers nothing, or that it was made.
        answer = self.say(command)
        if answer and "changed" not in answer and "no need to change" not in answer:
            raise RuntimeError(f"HAProxy, {command}: {answer}")

    def follow(self, group, addresses, asked_at):
        """Makes HAProxy follow this state of the simulator's target group; `addresses` are the instances'."""
        registered = set()
        for one in group["targets"]:
            key = one["id"], one["port"]
            registered.add(key)
            target = self.targets.get(key) or self.register(key, addresses.get(one["id"], one["id"]))
            draining = one["state"] == "draining"
            if draining and not target.draining_since:
                target.draining_since = time.monotonic()
            elif not draining:
                target.draining_since = 0.0
            if one["state"] == "initial" and asked_at > target.told_at:
                # The target is registered again: it gets requests once a probe succeeds again.
                target.health, target.failures, target.told_at = "initial", 0, math.inf
        for key in set(self.targets) - registered:
            self.cut(key)
        serving = [target for target in self.targets.values() if not self.leaves(target)]
        healthy = [target for target in serving if target.health == "healthy"]
        # Without a healthy target the load balancer fails open: it uses those that were once healthy.
        chosen = healthy or [target for target in serving if target.health == "unhealthy"]
        for target in self.targets.values():
            state = "drain" if self.leaves(target) else "ready" if target in chosen else "maint"
            if self.told.get(target.slot) != state:
                self.must(f"set server web/{target.slot} state {state}")
                self.told[target.slot] = state

    def leaves(self, target):
        since = target.draining_since
        return bool(since) and time.monotonic() >= since + self.pace.lingers

    def register(self, key, address):
        target = Target(self.free.pop(), address, key[1])
        self.must(f"set server web/{target.slot} addr {address} port {target.port}")
        self.targets[key] = target
        threading.Thread(target=self.probe, args=(key, target), daemon=True).start()
        return target

    def cut(self, key):
        target = self.targets.pop(key)
        target.gone.set()
        self.must(f"set server web/{target.slot} state maint")
        self.say(f"shutdown sessions server web/{target.slot}")

    def probe(self, key, target):
        """Probes the target: healthy after one success, unhealthy after two failures in a row."""
        while not target.gone.is_set():
            began = time.monotonic()
            if self.answers(target):
                target.failures, found = 0, "healthy"
            else:
                target.failures += 1
                found = "unhealthy" if target.failures >= 2 else target.health
            if found != target.health:
                target.health, target.told_at = found, math.inf
                self.report(*key, found)
                target.told_at = time.monotonic()
            target.gone.wait(max(0.0, began + self.pace.probe_every - time.monotonic()))

    def answers(self, target):
        connection = http.client.HTTPConnection(target.address, target.port, timeout=self.pace.probe_patience)
        try:
            connection.request("GET", "/healthz", headers={"User-Agent": "ELB-HealthChecker/2.0"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def in_service(self):
        """Ids of the instances that are healthy and not leaving."""
        targets = self.targets.items()
        return {key[0] for key, target in targets if target.health == "healthy" and not target.draining_since}
