# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What an open image sees of a machine: /proc, /sys and /dev describe a virtual machine like the one it will boot in, not the build host.

The texts are made on the build host; they are shown by a process that has entered the image, before anything else runs there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._private_sysfs import show_hardware, show_own_disk, show_writable_settings
from ansible_collections.hyperscaler.images.plugins.module_utils._settings_copy import copy_settings

PLACE = Path("/run/hyperscaler-view")
MODULES = "/proc/modules"
# A kernel that cannot load modules has no list of them, and nothing can be put in its place: Python, and so the modules of Ansible, is told.
PYTHON = PLACE / "python"
LIST = PLACE / "modules"
READ_LIST = f"""import builtins

_open = builtins.open


def _open_modules(file, *arguments, **options):
    return _open({str(LIST)!r} if file == {MODULES!r} else file, *arguments, **options)


builtins.open = _open_modules
"""
SETTINGS = Path("/proc/sys")
# These stay the kernel's own: random numbers differ at each reading, and network settings belong to the network namespace.
REAL = ("kernel/random", "net")
BOOT_ID = SETTINGS / "kernel/random/boot_id"
# Whoever writes to it asks for a reboot: systemd by the unit below, and without systemd its programs, which then ask the old way.
REBOOT = {"systemd": PLACE / "reboot", "none": Path("/run/initctl")}
REBOOT_UNITS = {
    "/run/systemd/system/reboot.target": """[Unit]
Description=Reboot, which has to wait until the image is booted
Requires=hyperscaler-reboot.service
After=hyperscaler-reboot.service
StopWhenUnneeded=yes
AllowIsolate=no
""",
    "/run/systemd/system/hyperscaler-reboot.service": f"""[Unit]
Description=Note that a reboot was asked for

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo reboot >{PLACE / "reboot"}'
""",
}
_STOOD_IN = """[Service]
ExecStartPre=
ExecStart=
ExecStart=/bin/true
ExecStop=
ExecStopPost=
ExecReload=
"""
_ANYWHERE = "[Unit]\nConditionVirtualization=\n"
_NOWHERE = "[Unit]\nConditionVirtualization=no\n"
# Units whose kernel part belongs to the build host count as started, and one that refuses a container starts: roles expect it.
DROP_INS = {
    "audit-rules.service": _STOOD_IN,
    "auditd.service": "[Service]\nType=exec\nPIDFile=\nExecStart=\nExecStart=/bin/sleep infinity\n",
    "proc-fs-nfsd.mount": _NOWHERE,
    "nfsdcld.service": _NOWHERE,
    "nfs-idmapd.service": _NOWHERE,
    "nfs-server.service": _STOOD_IN,
    "systemd-timesyncd.service": _ANYWHERE,
}
UNITS = {**REBOOT_UNITS, **{f"/run/systemd/system/{unit}.d/hyperscaler.conf": text for unit, text in DROP_INS.items()}}
# Settings of Debian's kernel that the kernel of a build host may lack; roles set them.
DEBIAN_SETTINGS = {"kernel/unprivileged_userns_clone": "1", "kernel/yama/ptrace_scope": "0", "dev/tty/ldisc_autoload": "1", "kernel/kexec_load_disabled": "0"}
# ip_forward sets the ones for each interface, and the key is made at random when it is first read.
DERIVED = frozenset({"forwarding", "mc_forwarding", "tcp_fastopen_key"})
PROCESSOR = """processor\t: {number}
vendor_id\t: GenuineIntel
cpu family\t: 15
model\t\t: 107
model name\t: QEMU Virtual CPU version 2.5+
physical id\t: {number}
siblings\t: 1
core id\t\t: 0
cpu cores\t: 1
flags\t\t: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pse36 clflush mmx fxsr sse sse2 syscall nx lm cpuid pni cx16 hypervisor lahf_lm

"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The virtual machine that an image is described as: processors, memory in MiB, and the command line of its kernel."""

    cpus: int
    memory: int
    command_line: str


def machine_texts(machine: Machine, release: str, version: str) -> dict[str, str]:
    """The files below /proc that describe a machine, by path."""
    total, used = machine.memory * 1024, min(machine.memory * 1024 // 8, 200 * 1024)
    memory = {
        "MemTotal": total,
        "MemFree": total - used,
        "MemAvailable": total - used,
        "Buffers": 0,
        "Cached": 0,
        "SwapCached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    found = {
        "/proc/cpuinfo": "".join(PROCESSOR.format(number=number) for number in range(machine.cpus)),
        "/proc/meminfo": "".join(f"{name + ':':<16}{size:>8} kB\n" for name, size in memory.items()) + "Hugepagesize:       2048 kB\n",
        "/proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
        MODULES: "",
        "/proc/cmdline": machine.command_line + "\n",
        "/proc/partitions": "major minor  #blocks  name\n\n",
        "/proc/diskstats": "",
    }
    return {**found, "/proc/version": f"Linux version {release} {version}\n"} if release else found


def command_line(boot_menu: str) -> str:
    """The command line of the first entry of a grub.cfg; empty without one."""
    found = re.search(r"^\s*linux\s+(\S+)\s*(.*)$", boot_menu, re.MULTILINE)
    return f"BOOT_IMAGE={found.group(1)} {found.group(2).strip()}".strip() if found else ""


@dataclasses.dataclass(frozen=True)
class View:
    """What is shown: ``texts`` below /proc, ``files`` that are written to places in memory, and the disk with its partitions.

    ``reboot`` is where a pipe takes requests to reboot.
    """

    texts: t.Mapping[str, str]
    files: t.Mapping[str, str]
    reboot: Path
    device: str
    volumes: t.Sequence[Volume]


def show(view: View) -> None:
    """Put the private view in place; called by root of the user namespace of the image."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for path, text in view.files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    os.mkfifo(view.reboot, 0o600)
    for path, text in view.texts.items():
        _cover(Path(path), text)
    if not Path(MODULES).exists():
        PYTHON.mkdir()
        (PYTHON / "sitecustomize.py").write_text(READ_LIST, encoding="ascii")
        LIST.write_text("", encoding="ascii")
    _cover(Path("/proc/1/environ"), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0TERM=linux\0")
    _show_settings()
    show_own_disk(view.device, view.volumes)
    show_hardware()
    show_writable_settings(view.device, PLACE)
    _link_volumes(view.volumes)


def _cover(path: Path, text: str) -> None:
    if not path.exists():
        return
    source = PLACE / str(path).strip("/").replace("/", "-")
    source.write_text(text, encoding="utf-8")
    source.chmod(0o400 if path.name == "environ" else 0o444)
    _namespace.bind(source, path)


def _show_settings() -> None:
    """Copy the settings of the kernel into memory, where they can be written and read back without changing the build host."""
    copy = PLACE / "settings"
    copy_settings(SETTINGS, copy, left_out=(*REAL, "fs/binfmt_misc"))
    for key, value in DEBIAN_SETTINGS.items():
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        if not (copy / key).exists():
            (copy / key).write_text(value + "\n", encoding="ascii")
    # Directories of their own: modules add settings, and the id of the boot is written when a reboot is asked for.
    for place in REAL:
        (copy / place).mkdir()
        for real in sorted((SETTINGS / place).iterdir()):
            if real != BOOT_ID:
                _bind_real(real, copy / place / real.name)
    (copy / BOOT_ID.relative_to(SETTINGS)).write_bytes((SETTINGS / "kernel/random/uuid").read_bytes())
    _namespace.bind(copy, SETTINGS)


def _bind_real(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _namespace.bind(source, target)


def _link_volumes(volumes: t.Sequence[Volume]) -> None:
    """The names below /dev/disk that grub and fstab use."""
    for volume in volumes:
        for kind, value in (("uuid", volume.uuid), ("partuuid", volume.partition_uuid), ("label", volume.label), ("partlabel", volume.partition_label)):
            if value and "/" not in value:
                link = Path("/dev/disk") / f"by-{kind}" / value
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(f"../../{Path(volume.node).name}")


def read_settings(settings: Path) -> dict[str, str]:
    """All settings below a /proc/sys by key, such as ``vm.swappiness``.

    Those that cannot be read, those of single interfaces and those that the kernel derives from others are left out.
    """
    found = {}
    for folder, folders, names in os.walk(settings):
        place = os.path.relpath(folder, settings)
        folders[:] = [name for name in folders if os.path.normpath(f"{place}/{name}") != "kernel/random"]
        if re.match(r"net/ipv[46]/(conf|neigh)/(?!all$|default$)", place):
            continue
        for name in names:
            if name in DERIVED:
                continue
            with contextlib.suppress(OSError):
                found[os.path.normpath(f"{place}/{name}").replace("/", ".")] = (Path(folder) / name).read_text(encoding="utf-8", errors="replace").strip()
    return found
