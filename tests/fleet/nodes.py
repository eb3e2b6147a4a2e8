"""The booted Debian of tests/booted, for Ansible and for images. $SPOT_RELAY_PACKAGES has this version's .deb and in `next/` a
later one's, $SPOT_RELAY_BIN is the binary that plays the cloud: tests/run sets both."""

import contextlib
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "booted"))
from machine import BOOTABLE, Cloud, Machine, call, debian_root, until  # noqa: E402, F401

PACKAGES = pathlib.Path(os.environ["SPOT_RELAY_PACKAGES"]).resolve()
BINARY = pathlib.Path(os.environ["SPOT_RELAY_BIN"]).resolve()


def package(folder=PACKAGES):
    return next(folder.glob("spot-relay_*_amd64.deb"))


def version(folder=PACKAGES):
    return package(folder).name.split("_")[1]


@contextlib.contextmanager
def unbooted(directory, root, kind=Machine):
    cloud = Cloud(BINARY, directory)
    machine = None
    try:
        (directory / "node").mkdir()
        machine = kind(cloud, root, directory / "node")
        yield machine
    finally:
        if machine:
            machine.end()
        cloud.end()
