#!/usr/bin/env python3
"""Measures availability while an instance is reclaimed: requests lost, and the time below the desired number of instances.

    python3 benches/availability                        every handler, four minutes each
    python3 benches/availability --short NAME...        the handlers named, a minute each: a notice of thirty seconds
    python3 benches/availability --list                 the handlers

A real HAProxy follows the simulator's target groups; each instance is a network namespace with an nginx and a slow
application; clients send 100 requests a second, whoever is slow, and nothing is tried again. It prints a table and draws
one picture a handler. Root is needed. HAProxy and nginx are fetched by apt and unpacked, not installed. SPOT_RELAY_BIN names
the binary (else target/release/spot-relay, else target/debug/spot-relay), SPOT_RELAY_VENV the virtual environment with the
AWS CLI (else target/venv).
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import balancer
import cloud
import handlers
import picture
from instances import PORT, Instance, wait

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RATE = 100


@dataclass
class Pace:
    """How long things take; seconds."""

    notice: int
    boot: float
    before: int
    after: int
    longest: float
    patience: float
    delay: int
    script_every: int
    balancer: balancer.Pace
    timings: dict = field(default_factory=dict)
    configuration: str = ""
    leave: str = ""


def full(lingers):
    return Pace(notice=120, boot=45, before=15, after=95, longest=20, patience=100, delay=30, script_every=5,
                balancer=balancer.Pace(probe_every=5, probe_patience=3, lingers=10 if lingers is None else lingers, connect=10, idle=60),
                timings={"launch_after": "1s", "running_after": "5s", "gone_after": "2s", "owner_reacts_after": "30s"})


def short(lingers):
    return Pace(notice=30, boot=8, before=4, after=25, longest=4, patience=40, delay=8, script_every=1,
                balancer=balancer.Pace(probe_every=1, probe_patience=1, lingers=3 if lingers is None else lingers, connect=3, idle=15),
                timings={"launch_after": "1s", "running_after": "1s", "gone_after": "1s", "owner_reacts_after": "3s",
                         "detaching_for": "1s", "terminates_after": "1s"},
                leave='settle = "5s"\nquiet-for = "2s"\nreserve = "3s"\n')


class Simulator:
    def __init__(self, binary, directory, settings):
        (directory / "world.json").write_text(json.dumps(settings))
        listen = ["--metadata", f"{cloud.ADDRESS}:{handlers.METADATA_PORT}", "--aws", f"{cloud.ADDRESS}:{handlers.AWS_PORT}"]
        self.process = subprocess.Popen([binary, "sim", "--settings", directory / "world.json", *listen],
                                        stdout=subprocess.PIPE, env=handlers.variables())
        endpoints = json.loads(self.process.stdout.readline())
        self.control = endpoints["control"].removeprefix("http://")

    def ask(self, method, path, body=None):
        # Each call has its own connection, because several threads ask.
        connection = http.client.HTTPConnection(self.control, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {text}")
        return json.loads(text)

    def world(self):
        return self.ask("GET", "/world")

    def report(self, target, port, state):
        self.ask("POST", "/target-health", {"target": target, "port": port, "state": state})


class Run:
    """One handler, one notice."""

    def __init__(self, handler, pace, options, directory):
        self.handler, self.pace, self.options, self.directory = handler, pace, options, directory
        cloud.make()
        timings = dict(pace.timings)
        if handler.owner.get("capacity_rebalance"):
            timings["owner_reacts_after"] = "2s"
        group = {"name": "web", "ports": [PORT], "deregistration_delay": f"{pace.delay}s", "health": "reported"}
        others = [{"instance_type": "m5.large", "zone": zone} for zone in ("eu-west-1a", "eu-west-1b")][:options.of - 1]
        # The group can grow by all of its successors.
        self.sim = Simulator(options.binary, directory, {"owner": handler.owner, "target_groups": [group], "timings": timings,
                                                         "others": others, "max_size": 2 * options.of})
        self.balancer = balancer.Balancer(options.tools, directory, pace.balancer, self.sim.report)
        self.instances, self.samples = {}, []

    def follow(self):
        """Makes the real servers follow the simulator's world, once."""
        asked_at, world = time.monotonic(), self.sim.world()
        for one in world["instances"]:
            instance = self.instances.get(one["id"])
            if instance is None and one["state"] in ("pending", "running"):
                number = len(self.instances) + 1
                self.instances[one["id"]] = Instance(number, one, self.directory, self.options.tools, self.pace.boot, self.handler)
            elif instance is not None and one["state"] not in ("pending", "running"):
                instance.take()
        self.balancer.follow(world["target_groups"][0], {one["id"]: one["private_ip"] for one in world["instances"]}, asked_at)
        in_service = [one for one in self.balancer.in_service() if one in self.instances and self.instances[one].serves()]
        self.samples.append((time.monotonic(), len(in_service)))
        return world

    def all_serve(self):
        self.follow()
        return self.samples[-1][1] == self.options.of

    def measure(self):
        wait(self.all_serve, 60, lambda: "the first instances never served")
        for instance in self.instances.values():
            self.handler.ready(instance)
        pace, out = self.pace, self.directory / "answers"
        seconds = pace.before + pace.notice + pace.after
        arguments = [balancer.PORT, RATE, seconds, pace.longest, pace.patience, out]
        load = subprocess.Popen([sys.executable, HERE / "load.py", *map(str, arguments)], stdout=subprocess.PIPE)
        load.stdout.readline()
        began, noticed = time.monotonic(), 0.0
        while load.poll() is None:
            world = self.follow()
            if not noticed and time.monotonic() >= began + pace.before:
                for one in world["instances"][:self.options.victims]:
                    self.sim.ask("POST", "/notice", {"instance": one["id"], "seconds": pace.notice})
                noticed = time.monotonic()
            time.sleep(0.05)
        return self.result([json.loads(line) for line in out.open()], noticed, began + seconds)

    def result(self, answers, noticed, ended):
        lost = {}
        for answer in answers:
            if answer["lost"]:
                why = f'{answer["kind"]}: {answer["lost"]}'
                lost[why] = lost.get(why, 0) + 1
        handover = self.directory / self.sim.world()["ours"] / "handover.json"
        return {
            "name": self.handler.name, "title": self.handler.title, "note": self.handler.note, "ours": self.handler.ours,
            "requests": len(answers), "lost": sum(lost.values()), "why": lost, "desired": self.options.of, "notice": self.pace.notice,
            "below": self.below(self.options.of, noticed, ended), "nobody": self.below(1, noticed, ended),
            "begins": min(answer["at"] for answer in answers) - noticed, "ends": ended - noticed,
            "answers": [(round(answer["end"] - noticed, 3), answer["lost"]) for answer in answers],
            "in_service": [(round(at - noticed, 3), count) for at, count in changes(self.samples)],
            "handover": json.loads(handover.read_text()) if handover.exists() else None,
        }

    def below(self, wanted, noticed, ended):
        """Seconds from the notice to the end of the load in which fewer than `wanted` instances were in service."""
        inside = [(at, count) for at, count in self.samples if noticed <= at <= ended] + [(ended, wanted)]
        return sum(later - at for (at, count), (later, _) in zip(inside, inside[1:]) if count < wanted)


def changes(samples):
    kept = []
    for at, count in samples:
        if not kept or kept[-1][1] != count:
            kept.append((at, count))
    return kept


def run_in_namespaces(handler, pace, options, directory):
    """Runs a handler in its own process. Its files stay."""
    def run():
        measured = Run(handler, pace, options, directory)
        try:
            (directory / "result.json").write_text(json.dumps(measured.measure()))
        finally:
            for instance in measured.instances.values():
                (directory / f"{instance.id}.log").write_text(instance.log())
        return 0

    return cloud.alone(run)


def run_all(chosen, pace, options, directory):
    """Runs the handlers, some at once, and yields the result of each."""
    waiting, running = list(chosen), {}
    def end(*_):
        # The namespaces end with these processes.
        for child in running:
            os.kill(child, signal.SIGKILL)
        sys.exit(130)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while waiting or running:
        while waiting and len(running) < options.at_once:
            handler = waiting.pop(0)
            own = directory / handler.name
            own.mkdir()
            print(f"running: {handler.title}", file=sys.stderr, flush=True)
            running[run_in_namespaces(handler, pace, options, own)] = (handler, own)
        child, status = os.wait()
        handler, own = running.pop(child)
        if status or not (own / "result.json").exists():
            sys.exit(f"{handler.name} could not be measured; its files are in {own}")
        yield json.loads((own / "result.json").read_text())


def table(results):
    rows = [("who handles the notice", "requests lost", "time below the desired number")]
    for one in results:
        nobody = f', nobody for {one["nobody"]:.1f} s' if one["nobody"] else ""
        rows.append((one["title"] + (f' ({one["note"]})' if one["note"] else ""), f'{one["lost"]} of {one["requests"]:,}', f'{one["below"]:.1f} s{nobody}'))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def arguments():
    parser = argparse.ArgumentParser(prog="benches/availability", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="handlers to measure; without a name all")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--tools", action="store_true", help="fetch and start the tools, and end")
    parser.add_argument("--short", action="store_true", help="a notice of thirty seconds, and everything else in proportion")
    parser.add_argument("--lingers", type=float, metavar="SECONDS",
                        help="the load balancer sends new requests for so long after a deregistration (10, short: 3)")
    parser.add_argument("--of", type=int, default=3, choices=(1, 2, 3), metavar="N", help="how many instances there are (3)")
    parser.add_argument("--victims", type=int, default=1, choices=(1, 2, 3), metavar="N", help="how many of them are noticed (1)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="how many handlers are measured at the same time (1)")
    parser.add_argument("--none-lost", action="store_true", help="fail if a request is lost with spot-relay")
    parser.add_argument("--most-below", type=float, metavar="SECONDS",
                        help="fail if fewer than the desired number are in service for longer with spot-relay")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "availability" / "pictures", help="where the pictures go")
    parser.add_argument("--keep", action="store_true", help="keep the files of the runs, and say where")
    return parser.parse_args()


def unpacked():
    """Fetches the tools and begins again with them, where root can use them; exits with 77 where something cannot be had."""
    if os.geteuid() != 0:
        print("only root can make network namespaces", file=sys.stderr)
        sys.exit(77)
    tools = ROOT / "target" / "availability" / "tools"
    done = subprocess.run([ROOT / "tests" / "unpack", tools, "haproxy", "nginx", "iproute2", "curl"])
    if done.returncode:
        sys.exit(done.returncode)
    if "SPOT_RELAY_TOOLS" not in os.environ:
        os.environ["SPOT_RELAY_TOOLS"] = str(tools)
        os.execv(tools / "with", [tools / "with", sys.executable, *sys.argv])
    return tools / "with"


def prepared(options):
    """Finds the binary and the tools, and returns the place of the AWS CLI, if any."""
    built = [ROOT / "target" / kind / "spot-relay" for kind in ("release", "debug")]
    binary = os.environ.get("SPOT_RELAY_BIN") or next((path for path in built if path.exists()), None)
    if binary is None:
        sys.exit("no spot-relay is built; SPOT_RELAY_BIN names one")
    cli = Path(os.environ.get("SPOT_RELAY_VENV", ROOT / "target" / "venv")) / "bin"
    options.binary, options.tools = Path(binary).resolve(), unpacked()
    return str(cli) if (cli / "aws").exists() else ""


def main():
    options = arguments()
    if options.tools:
        for command in (["haproxy", "-v"], ["nginx", "-v"], ["ip", "-V"], ["curl", "--version"]):
            unpacked()
            subprocess.run(command, check=True)
        return 0
    pace = (short if options.short else full)(options.lingers)
    cli = "" if options.list else prepared(options)
    known = {handler.name: handler for handler in handlers.handlers(pace, getattr(options, "binary", ""), cli)}
    if options.list:
        print("\n".join(known))
        return 0
    unknown = [name for name in options.names if name not in known]
    if unknown:
        sys.exit(f"no handler is called {', '.join(unknown)}; see --list")
    chosen = [known[name] for name in options.names or known]
    options.out.mkdir(parents=True, exist_ok=True)
    directory = tempfile.TemporaryDirectory(prefix="availability-") if not options.keep else None
    folder = Path(directory.name if directory else tempfile.mkdtemp(prefix="availability-"))
    results = []
    for result in run_all(chosen, pace, options, folder):
        results.append(result)
        (options.out / f"{result['name']}.svg").write_text(picture.draw(result))
        print(f"  {result['title']}: {result['lost']} lost, {result['below']:.1f} s below {result['why'] or ''}", file=sys.stderr, flush=True)
    results.sort(key=lambda result: list(known).index(result["name"]))
    table(results)
    if options.keep:
        print(f"files: {folder}")
    ours = [result for result in results if result["ours"]]
    lost = [result["name"] for result in ours if options.none_lost and result["lost"]]
    below = [result["name"] for result in ours if options.most_below is not None and result["below"] > options.most_below]
    if lost:
        print(f"requests were lost with {', '.join(lost)}")
    if below:
        print(f"too few were in service for longer than {options.most_below} s with {', '.join(below)}")
    return 1 if lost or below else 0


if __name__ == "__main__":
    sys.exit(main())
