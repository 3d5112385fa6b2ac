# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try from inside an image what must not reach the build host: attempts PID PORT ADDRESS MINOR. Prints what happened as JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

PID, PORT, ADDRESS, MINOR = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
LOOP_MAJOR = 7
ADD_KEY, SESSION_KEYRING = 248, -3
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def outcome(action: t.Callable[[], object]) -> str:
    """The result of an action, or the name of its error."""
    try:
        return str(action())
    except OSError as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return f"{done.returncode} {done.stdout}{done.stderr}".strip()


def connect(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=5):
        return "connected"


def read_device(path: str) -> str:
    with Path(path).open("rb") as stream:
        return stream.read(8).decode("latin-1")


def write(path: str, text: str) -> str:
    Path(path).write_text(text)
    return Path(path).read_text().strip()


def write_host_setting() -> str:
    """By a mount of the task's own, where the one that is there cannot be written."""
    run("mount", "-t", "sysfs", "sysfs", "/srv")
    return write("/srv/kernel/rcu_expedited", "1")


def make_node(path: str) -> str:
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(LOOP_MAJOR, MINOR))
    return "made"


def add_key() -> str:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(ADD_KEY, b"user", b"hyperscaler-attempt", b"x", 1, SESSION_KEYRING)
    return "done"


def own(path: str, uid: int) -> str:
    Path(path).touch(0o755)
    os.chown(path, uid, uid)
    os.setxattr(path, "security.capability", CAPABILITY)
    return str(Path(path).stat().st_uid)


def mount_devices() -> list[str]:
    with contextlib.suppress(OSError):
        subprocess.run(["mount", "-t", "devtmpfs", "devices", "/mnt"], check=False, capture_output=True)
    return sorted(path.name for path in Path("/mnt").iterdir())


def put_node_on_own_disk() -> str:
    """As a file system driver does: the kernel does not see the node being made."""
    root = Path("/proc/self/mountinfo").read_text().splitlines()[0].rpartition(" - ")[2].split()[1]
    run("debugfs", "-w", "-R", f"mknod inside-node b {LOOP_MAJOR} {MINOR}", root)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return read_device("/inside-node")


print(
    json.dumps(
        {
            "loopback": outcome(lambda: connect("127.0.0.1", PORT)),
            "address": outcome(lambda: connect(ADDRESS, PORT)),
            "metadata": outcome(lambda: connect("169.254.169.254", 80)),
            "firewall": run("nft", "add", "table", "inet", "attempt") + run("nft", "list", "tables"),
            "swappiness": outcome(lambda: write("/proc/sys/vm/swappiness", "7")),
            "forwarding": outcome(lambda: write("/proc/sys/net/ipv4/ip_forward", "1")),
            "memory": outcome(lambda: write("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan", "7")),
            "interface": outcome(lambda: write("/sys/class/net/lo/mtu", "60007")),
            "queue": outcome(lambda: write(f"{next(Path('/sys/block').iterdir())}/queue/read_ahead_kb", "7")),
            "host_setting": outcome(lambda: write("/sys/kernel/rcu_expedited", "1")),
            "host_setting_mounted": outcome(write_host_setting),
            "clock": run("date", "--set", "2030-01-01")[:1],
            "stored_node": outcome(lambda: read_device("/outside-node")),
            "own_disk_node": outcome(put_node_on_own_disk),
            "new_node": outcome(lambda: make_node("/new-node")),
            "devices": mount_devices(),
            "kill": outcome(lambda: os.kill(PID, 0)),
            "processes": not Path(f"/proc/{PID}/exe").exists(),
            "key": outcome(add_key),
            "kernel_log": run("dmesg"),
            "terminal": outcome(lambda: os.open("/dev/tty", os.O_RDWR)),
            "owner": outcome(lambda: own("/owned", 123456)),
            "module": run("modprobe", "br_netfilter") + run("modprobe", "no-such-module")[:1],
            "release": Path("/usr/lib/modules", os.uname().release).is_dir(),
            "block": [path.name for path in Path("/sys/block").iterdir()],
        }
    )
)
