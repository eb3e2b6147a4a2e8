"""Machines for tests: a Debian root booted with a real systemd (systemd-nspawn) in a network namespace of its own, and
the cloud around it: a second namespace in which the metadata service has its true address and AWS its true names.

Nothing leaves the two namespaces. A machine's root is an overlay in memory over a root that is made once and kept in
${XDG_CACHE_HOME:-$HOME/.cache}/spot-relay/roots; it outlives a reboot, not the test. Needs root, systemd-container,
mmdebstrap, iproute2, openssl and curl.
"""

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOTS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spot-relay" / "roots"
METADATA = "169.254.169.254"
REGION = "eu-west-1"
AWS_NAMES = [f"{service}.{REGION}.amazonaws.com" for service in ("ec2", "elasticloadbalancing", "autoscaling")]
# The pair between the namespaces; AWS answers at the cloud's end.
CLOUD, NODE = "10.83.0.1", "10.83.0.2"
# A busy machine is slow; what is waited for here comes in a fraction of it.
PATIENCE = 90
# What has a systemd and nothing else of interest.
BOOTABLE = ("systemd", "systemd-sysv", "dbus", "iproute2", "curl", "procps", "ca-certificates", "python3", "python3-apt", "rpm")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def call(*command, **options):
    """Runs a command of the host; its output is shown where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def until(what, found, patience=PATIENCE):
    """Waits until `found()` gives something true, and returns that."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.1)
    raise TimeoutError(f"waited {patience} s in vain: {what}")


def debian_root(release="bookworm", packages=BOOTABLE):
    """A directory with this release of Debian, which nobody may write to; made once."""
    name = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]
    root = ROOTS / f"{release}-{name}"
    if not root.exists():
        ROOTS.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=ROOTS))
        new.chmod(0o755)
        try:
            call("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", release, new)
            new.rename(root)
        except OSError:
            # Somebody else made it meanwhile.
            if not root.exists():
                raise
        finally:
            if new.exists():
                shutil.rmtree(new)
    return root


class Cloud:
    """Two namespaces, the simulator in the cloud's, and an authority that the machine trusts."""

    def __init__(self, binary, directory, settings=None):
        self.name = f"relay-{os.getpid()}-{secrets.token_hex(3)}"
        self.binary, self.directory = binary, Path(directory)
        self.cloud, self.node = f"{self.name}-cloud", f"{self.name}-node"
        self.simulator = None
        self._make_authority()
        try:
            self._make_namespaces()
            self._start_simulator(settings or {})
        except BaseException:
            self.end()
            raise

    def _make_authority(self):
        def openssl(*arguments):
            call("openssl", *arguments, cwd=self.directory)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
                "-subj", "/CN=the tests' authority")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "aws.key", "-out", "aws.csr", "-subj", "/CN=aws")
        (self.directory / "aws.ext").write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in AWS_NAMES) + "\n")
        openssl("x509", "-req", "-in", "aws.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "aws.ext", "-out", "aws.crt")

    def _make_namespaces(self):
        for namespace in (self.cloud, self.node):
            call("ip", "netns", "add", namespace)
            call("ip", "-n", namespace, "link", "set", "lo", "up")
        call("ip", "-n", self.cloud, "link", "add", "pair", "type", "veth", "peer", "name", "host0", "netns", self.node)
        call("ip", "-n", self.cloud, "address", "add", f"{CLOUD}/24", "dev", "pair")
        call("ip", "-n", self.cloud, "address", "add", f"{METADATA}/32", "dev", "lo")
        call("ip", "-n", self.cloud, "link", "set", "pair", "up")
        call("ip", "-n", self.node, "address", "add", f"{NODE}/24", "dev", "host0")
        call("ip", "-n", self.node, "link", "set", "host0", "up")
        call("ip", "-n", self.node, "route", "add", "default", "via", CLOUD)

    def _start_simulator(self, settings):
        world = self.directory / "world.json"
        world.write_text(json.dumps(settings))
        self.simulator = subprocess.Popen(
            ["ip", "netns", "exec", self.cloud, str(self.binary), "sim", "--settings", str(world),
             "--metadata", f"{METADATA}:80", "--aws", f"{CLOUD}:443",
             "--tls-certificate", str(self.directory / "aws.crt"), "--tls-key", str(self.directory / "aws.key")],
            stdout=subprocess.PIPE, stderr=(self.directory / "simulator.log").open("w"), text=True)
        line = self.simulator.stdout.readline()
        if not line:
            raise RuntimeError(f"the simulator does not start: {(self.directory / 'simulator.log').read_text()}")
        self.endpoints = json.loads(line)

    def ask(self, path, body=None):
        """The simulator's control (src/sim/control.rs)."""
        post = [] if body is None else ["-d", json.dumps(body)]
        return json.loads(self.run("curl", "-sS", "--fail", *post, self.endpoints["control"] + path))

    def run(self, *command):
        return call("ip", "netns", "exec", self.cloud, *command)

    def spawn(self, *command):
        return subprocess.Popen(["ip", "netns", "exec", self.cloud, *command], stdout=subprocess.PIPE, text=True)

    def notice(self, action="terminate", seconds=120):
        self.ask("/notice", {"action": action, "seconds": seconds})

    def withdraw(self):
        self.ask("/withdraw", {"removed": True})

    def requests(self, action=None):
        """Calls that have arrived at AWS, as the simulator tells of them."""
        return [it for it in self.ask("/requests") if action is None or it.get("action") == action]

    def end(self):
        if self.simulator:
            self.simulator.kill()
            self.simulator.wait()
        for namespace in (self.cloud, self.node):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


class Machine:
    """A Debian root over which an overlay in memory lies, booted or not."""

    def __init__(self, cloud, root, directory):
        self.cloud, self.directory = cloud, Path(directory)
        self.layers, self.root = self.directory / "layers", self.directory / "root"
        self.nspawn = self.leader = None
        self.boots = 0
        self.layers.mkdir()
        self.root.mkdir()
        call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.layers)
        (self.layers / "upper").mkdir()
        (self.layers / "work").mkdir()
        call("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={root},upperdir={self.layers}/upper,workdir={self.layers}/work", self.root)
        self._furnish()

    def _furnish(self):
        hosts = ["127.0.0.1 localhost", f"{CLOUD} {' '.join(AWS_NAMES)}"]
        self.write("/etc/hosts", "\n".join(hosts) + "\n")
        self.write("/etc/hostname", "node\n")
        self.write("/etc/machine-id", "")
        # The journal outlives the machine.
        (self.root / "var/log/journal").mkdir(parents=True, exist_ok=True)
        self.write("/usr/local/share/ca-certificates/tests.crt", (self.cloud.directory / "ca.crt").read_text())
        self.chroot("update-ca-certificates")

    def write(self, path, text, mode=0o644):
        """A file of the root, whether it is booted or not."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def put(self, source, path):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def chroot(self, *command, **environment):
        """In the root as an image build sees it: nothing of it is booted."""
        return call("chroot", self.root, "env", "-i", f"PATH={PATH}", *(f"{key}={value}" for key, value in environment.items()), *command)

    def boot(self):
        """Returns once systemd has nothing left to start. Degraded is no error here: tests ask for their units."""
        cgroups = Path("/sys/fs/cgroup/unified")
        cgroup = (cgroups if cgroups.is_dir() else cgroups.parent) / self.cloud.name
        cgroup.mkdir(exist_ok=True)

        def enter_cgroup():
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

        self.boots += 1
        with (self.directory / f"console-{self.boots}.log").open("w") as console:
            self.nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "-D", str(self.root), "--boot", f"--machine={self.cloud.name}",
                 f"--network-namespace-path=/run/netns/{self.cloud.node}", "--console=pipe", "--resolv-conf=off",
                 "--link-journal=no", "--system-call-filter=bpf"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, preexec_fn=enter_cgroup,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        self.leader = until("systemd", self._find_leader)
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def _find_leader(self):
        if self.nspawn.poll() is not None:
            raise RuntimeError((self.directory / f"console-{self.boots}.log").read_text())
        # At first there is a child that only makes the machine's first process, and ends.
        for child in Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split():
            try:
                is_systemd = Path(f"/proc/{child}/comm").read_text().strip() in ("systemd", "init")
                if is_systemd and Path(f"/proc/{child}/root/run/systemd/private").exists():
                    return int(child)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return None

    def enter(self, *command):
        """The host's command line for one inside."""
        return ["nsenter", "-t", str(self.leader), "-a", "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", *command]

    def run(self, *command, check=True):
        """A command in the booted machine, as root; its output. Without `check` the finished process."""
        if check:
            return call(*self.enter(*command))
        return subprocess.run(self.enter(*command), capture_output=True, text=True)

    def spawn(self, *command):
        return subprocess.Popen(self.enter(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def shown(self, unit, *properties):
        """systemctl show: a list of values in the order asked for."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return [values[name] for name in properties]

    def journal(self, *arguments):
        """Of the running machine, or of one that has been switched off."""
        if self.leader:
            return self.run("journalctl", "--no-pager", "--output=cat", *arguments)
        return call("journalctl", "--no-pager", "--output=cat", f"--directory={self.root}/var/log/journal", *arguments)

    def wait_off(self, patience=PATIENCE):
        """Until it has switched itself off; its exit code: 0, or 133 where it wants to be booted again."""
        code = self.nspawn.wait(patience)
        self.nspawn = self.leader = None
        return code

    def end(self):
        if self.nspawn and self.nspawn.poll() is None:
            try:
                if self.leader:
                    os.kill(self.leader, signal.SIGKILL)
                else:
                    self.nspawn.kill()
            except ProcessLookupError:
                pass
            self.nspawn.wait(PATIENCE)
        for mounted in (self.root, self.layers):
            subprocess.run(["umount", "--recursive", "--lazy", str(mounted)], capture_output=True)
        self._remove_cgroups()

    def _remove_cgroups(self):
        for base in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
            top = base / self.cloud.name
            for path in sorted(top.rglob("*"), reverse=True) if top.is_dir() else []:
                if path.is_dir():
                    path.rmdir()
            if top.is_dir():
                top.rmdir()
