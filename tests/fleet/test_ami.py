"""Images: Packer's template as far as Packer 1.6 reads it, and what the build and the first boot do, done in a Debian root:
install.sh and seal.sh in one that is not booted, as in an image's build; the cloud-init user data by cloud-init itself, from
a NoCloud seed. $PACKER names Packer.

Amazon Linux and Ubuntu are not to be had here: of install.sh, the branch for an .rpm is unseen.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess

import pytest
from nodes import BOOTABLE, ROOT, debian_root, package, unbooted, until, version

AMI = ROOT / "packaging" / "ami"
SUM = hashlib.sha256(package().read_bytes()).hexdigest()
# Both are in each of the images to build on.
IMAGE = (*BOOTABLE, "cloud-init", "openssh-server")
STATE = "/var/lib/private/spot-relay"


def packer(*arguments, cwd=AMI):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "CHECKPOINT_DISABLE": "1"}
    command = [*shlex.split(os.environ["PACKER"]), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def image(tmp_path):
    with unbooted(tmp_path, debian_root(packages=IMAGE)) as machine:
        machine.put(package(), f"/srv/{package().name}")
        yield machine


def baked(machine, script, **environment):
    machine.put(AMI / script, f"/run/{script}")
    return machine.chroot("sh", f"/run/{script}", **environment)


def test_packer_finds_the_template_right(tmp_path):
    for name in ("spot-relay.pkr.hcl", "plugins.pkr.hcl"):
        assert packer("fmt", "-check", "-diff", name).stdout == ""
    for name in ("spot-relay.pkr.hcl", "install.sh", "seal.sh"):
        shutil.copy(AMI / name, tmp_path)
    given = ["-var", "package_url=https://packages.example.com/spot-relay.deb", "-var", f"package_sha256={SUM}"]
    for base in ("debian", "ubuntu", "amazon-linux"):
        done = packer("validate", *given, "-var", f"base={base}", ".", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert packer("validate", *given, "-var", "base=windows", ".", cwd=tmp_path).returncode != 0
    assert packer("validate", ".", cwd=tmp_path).returncode != 0


def test_a_package_that_is_not_the_one_expected_is_not_installed(image):
    url = f"file:///srv/{package().name}"
    with pytest.raises(RuntimeError, match="not the package that was expected"):
        baked(image, "install.sh", SPOT_RELAY_URL=url, SPOT_RELAY_SHA256="0" * 64)
    assert not (image.root / "usr/bin/spot-relay").exists()


# Holds dpkg's locks: SECONDS at once, or again and again with a pause in between.
LOCKS = """
import fcntl, sys, time
held, pause, times = map(float, sys.argv[1:])
for _ in range(int(times)):
    files = [open(path, "w") for path in ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")]
    for file in files:
        fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(held)
    for file in files:
        file.close()
    time.sleep(pause)
"""


def holding_locks(machine, held, pause, times):
    machine.write("/run/locks.py", LOCKS)
    command = ["chroot", machine.root, "/usr/bin/python3", "/run/locks.py", held, pause, times]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize(("held", "pause", "times"), [(40, 0, 1), (3, 0.7, 6)], ids=["for-long", "again-and-again"])
def test_whoever_else_installs_is_waited_for(image, held, pause, times):
    other = holding_locks(image, held, pause, times)
    try:
        baked(image, "install.sh", SPOT_RELAY_URL=f"file:///srv/{package().name}", SPOT_RELAY_SHA256=SUM)
    finally:
        other.kill()
        other.wait()
    assert image.chroot("dpkg-query", "--show", "--showformat=${db:Status-Status}", "spot-relay") == "installed"


def test_a_lock_that_is_never_let_go_is_a_loud_failure(image):
    other = holding_locks(image, 60, 0, 1)
    try:
        with pytest.raises(RuntimeError, match="lock to the end; spot-relay is NOT installed"):
            baked(image, "install.sh", SPOT_RELAY_URL=f"file:///srv/{package().name}", SPOT_RELAY_SHA256=SUM, SPOT_RELAY_PATIENCE="4")
    finally:
        other.kill()
        other.wait()


def test_a_presigned_url_is_one_and_its_signature_is_told_to_nobody(image):
    image.write("/run/serve", "cd /srv && exec python3 -m http.server --bind 127.0.0.1 8765", mode=0o755)
    server = subprocess.Popen(["ip", "netns", "exec", image.cloud.node, "chroot", image.root, "sh", "/run/serve"])
    url = f"http://127.0.0.1:8765/{package().name}?X-Amz-Expires=600&X-Amz-Signature=5ec2e7"
    image.put(AMI / "install.sh", "/run/install.sh")

    def install(wanted):
        inside = ["ip", "netns", "exec", image.cloud.node, "chroot", image.root, "sh", "/run/install.sh"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SPOT_RELAY_URL": url, "SPOT_RELAY_SHA256": wanted}
        return subprocess.run(inside, env=environment, capture_output=True, text=True)

    try:
        refused = install("0" * 64)
        assert refused.returncode == 1 and "NOT installed" in refused.stderr and "5ec2e7" not in refused.stderr
        done = install(SUM)
        assert done.returncode == 0, done.stderr
    finally:
        server.kill()
        server.wait()


def test_an_image_has_nothing_of_its_builder_and_its_instance_needs_nothing(image):
    baked(image, "install.sh", SPOT_RELAY_URL=f"file:///srv/{package().name}", SPOT_RELAY_SHA256=SUM)
    # What a builder that ran for a while has.
    image.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    image.write(f"{STATE}/handover.json", "{}")
    image.write("/var/log/journal/0123/system.journal", "spot-relay")
    image.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA builder")
    image.write("/var/lib/cloud/instances/i-builder/user-data.txt", "of the builder")
    keys = list((image.root / "etc/ssh").glob("ssh_host_*"))
    assert keys

    baked(image, "seal.sh")

    left = [*(image.root / "etc/ssh").glob("ssh_host_*"), *(image.root / "var/log/journal").iterdir()]
    left += [path for path in (STATE, "/var/lib/spot-relay", "/root/.ssh/authorized_keys", "/var/lib/cloud/instances")
             if (image.root / path.lstrip("/")).exists()]
    assert left == []
    assert (image.root / "etc/machine-id").read_text() == ""
    logs = [path for path in (image.root / "var/log").rglob("*") if path.is_file() and not path.is_symlink()]
    logs = [path for path in logs if path.stat().st_size]
    assert logs == []

    image.boot()
    until("the daemon to be ready", lambda: "ready; on a notice" in image.journal("--unit=spot-relay"))
    assert image.shown("spot-relay", "ActiveState", "UnitFileState", "NRestarts") == ["active", "enabled", "0"]


def test_cloud_init_installs_it_at_the_first_boot_with_the_configuration(image, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[leave]\nquiet-for = "5s"\n')
    url = f"file:///srv/{package().name}"
    data = subprocess.run([AMI / "user-data", url, SUM, config], capture_output=True, text=True, check=True).stdout
    image.write("/var/lib/cloud/seed/nocloud/user-data", data)
    image.write("/var/lib/cloud/seed/nocloud/meta-data", json.dumps({"instance-id": "i-0123456789abcdef0"}))
    image.write("/etc/cloud/cloud.cfg.d/99-seed.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\nlocale: false\n")
    # No locale is in this root to be set. In a container cloud-init sees no cloud, and would stay out.
    image.write("/etc/cloud/ds-identify.cfg", "policy: enabled\n")

    image.boot()

    told = image.run("cloud-init", "status", "--wait", "--long", check=False).stdout
    assert "status: done" in told, told + image.run("cat", "/var/log/cloud-init-output.log")
    assert image.run("dpkg-query", "--show", "--showformat=${Version}", "spot-relay") == version()
    assert image.run("cat", "/etc/spot-relay/config.toml") == config.read_text()
    until("the daemon to be ready", lambda: "ready; on a notice" in image.journal("--unit=spot-relay"))
