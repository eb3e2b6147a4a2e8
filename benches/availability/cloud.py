"""The network of one run: a bridge where the load balancer, the clients and the simulated AWS are, and one network
namespace for each instance.

All of it lives in namespaces that nobody else can see and that have no names. They end with the process that entered
them, however it ends: nothing is left to clean up.
"""

import ctypes
import os
import signal
import subprocess
import time

NEW_MOUNTS, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x20000000, 0x40000000
PRIVATE_AND_BELOW = 0x44000
DIE_WITH_PARENT = 1

# The cloud's own address in the network of the instances.
ADDRESS = "10.0.255.254"


def alone(run):
    """Forks a process that calls `run` in its own namespaces, and returns its id: wait for it, or kill it."""
    child = os.fork()
    if child:
        return child
    try:
        _enter(run)
    except BaseException as error:  # nothing of the parent's may run in this process
        print(f"{type(error).__name__}: {error}", flush=True)
    os._exit(1)


def _enter(run):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if libc.unshare(NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK) or libc.mount(b"none", b"/", None, PRIVATE_AND_BELOW, None):
        raise OSError(ctypes.get_errno(), "only root can make namespaces")
    # This is the first process of the new process namespace: when it ends, the kernel ends all the others.
    first = os.fork()
    if first == 0:
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        libc.mount(b"proc", b"/proc", b"proc", 0, None)
        os._exit(run())
    _, status = os.waitpid(first, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xff)


def ip(*commands):
    """Runs commands of ip(8), each a line."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def make():
    """Makes the bridge, in the namespace of the caller."""
    ip("link set lo up", "link add bridge type bridge", f"address add {ADDRESS}/16 dev bridge", "link set bridge up")


class Wire:
    """A network namespace that hangs on the bridge by a pair of interfaces."""

    def __init__(self, number, address):
        self.outside = f"wire{number}"
        # This process only holds the namespace.
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.namespace = f"/proc/{self.holder.pid}/ns/net"
        while os.readlink(self.namespace) == os.readlink("/proc/self/ns/net"):
            time.sleep(0.005)
        link = f"02:00:00:00:{number >> 8:02x}:{number & 0xff:02x}"
        ip(f"link add {self.outside} type veth peer name eth0 address {link} netns {self.holder.pid}",
           f"link set {self.outside} master bridge up",
           # A permanent neighbour entry: a dead instance must not even answer that it is gone.
           f"neighbour replace {address} lladdr {link} dev bridge nud permanent")
        commands = ["link set lo up", f"address add {address}/16 dev eth0", "link set eth0 up"]
        subprocess.run(self.inside(["ip", "-batch", "-"]), input="\n".join(commands), text=True, check=True)

    def inside(self, command):
        return ["nsenter", f"--net={self.namespace}", "--", *command]

    def listens_on(self, port):
        """Tells whether a process inside listens. It sends no packet: a handler that waits for quiet would see it."""
        wanted = f":{port:04X}"
        with open(f"/proc/{self.holder.pid}/net/tcp") as table:
            return any(fields[1].endswith(wanted) and fields[3] == "0A" for fields in map(str.split, table))

    def cut(self):
        ip(f"link set {self.outside} down")

    def end(self):
        """Ends every process inside. This process sees only the run's own processes."""
        inside = os.readlink(self.namespace)
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                if int(process) != self.holder.pid and os.readlink(f"/proc/{process}/ns/net") == inside:
                    os.kill(int(process), signal.SIGKILL)
            except OSError:
                pass  # it ended by itself meanwhile
