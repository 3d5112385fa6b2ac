# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What a QEMU guest is made of: its settings, its files and the arguments of QEMU."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError

SSH_HOST = "127.0.0.1"
FIRMWARE_PAIRS: tuple[tuple[str, str], ...] = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
)


class GuestError(ImageError):
    """A guest cannot be started, reached or ended."""


@dataclasses.dataclass(frozen=True)
class GuestSettings:
    """What a user asks for.

    ``disk_size`` and ``disk_growth`` are in bytes; 0 keeps the size of the image. ``ssh_port`` 0 lets the kernel choose a free one.
    """

    name: str
    work_dir: Path
    image: Path
    image_format: str
    serial_log: Path
    firmware: str = "bios"
    memory_mib: int = 1024
    cpus: int = 2
    disk_size: int = 0
    disk_growth: int = 0
    seed: Path | None = None
    ssh_port: int = 0
    accelerator: str = "auto"
    outbound: bool = True
    allow_reboot: bool = False

    def to_dict(self) -> dict[str, t.Any]:
        """The settings as plain data."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(self).items()}


@dataclasses.dataclass(frozen=True)
class GuestFiles:
    """The files of a guest in its work folder. All but the logs go when the guest ends."""

    folder: Path

    @property
    def overlay(self) -> Path:
        """The disk that takes the writes of the guest."""
        return self.folder / "overlay.qcow2"

    @property
    def firmware_variables(self) -> Path:
        """The guest's own copy of the UEFI variables."""
        return self.folder / "efivars.fd"

    @property
    def qmp(self) -> Path:
        """The control socket."""
        return self.folder / "qmp.sock"

    @property
    def pid(self) -> Path:
        """The pid file that QEMU itself writes."""
        return self.folder / "qemu.pid"

    @property
    def record(self) -> Path:
        """What the module knows of the guest."""
        return self.folder / "guest.json"

    @property
    def screen(self) -> Path:
        """A copy of the text memory of the screen."""
        return self.folder / "screen.bin"

    @property
    def log(self) -> Path:
        """What QEMU says."""
        return self.folder / "qemu.log"

    @property
    def lock(self) -> Path:
        """Held while a module works on the guest."""
        return self.folder / ".lock"

    def temporary(self) -> tuple[Path, ...]:
        """The files that are removed when the guest has ended; the record last, because it leads to the others."""
        return (self.overlay, self.firmware_variables, self.screen, self.qmp, self.pid, self.record)


@dataclasses.dataclass(frozen=True)
class Firmware:
    """A UEFI firmware: its code and the template of its variables."""

    code: Path
    variables: Path


def settings_from(params: t.Mapping[str, t.Any]) -> GuestSettings:
    """The settings in the options of the module, with absolute paths. Raises GuestError for options that cannot be right."""
    name = params["name"]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise GuestError(f"Cannot name a guest {name!r}: use letters, digits, dots, dashes and underscores.")
    for option in ("work_dir", "image", "seed"):
        if params[option] is not None and not Path(params[option]).exists():
            raise GuestError(f"Cannot work on the guest {name}: {option} {params[option]} does not exist. Create it or correct the path.")
    size = params["disk_size"] or "0"
    try:
        disk = human_to_bytes(size.lstrip("+"))
    except ValueError as error:
        raise GuestError(f"Cannot use the disk_size {size!r}: it is no size. Write it like 20G or +1G.") from error
    folder = Path(params["work_dir"]).absolute()
    return GuestSettings(
        name=name,
        work_dir=folder,
        image=Path(params["image"] or "").absolute(),
        serial_log=Path(params["serial_log"]).absolute() if params["serial_log"] else folder / "serial.log",
        memory_mib=params["memory"],
        seed=Path(params["seed"]).absolute() if params["seed"] else None,
        disk_size=0 if size.startswith("+") else disk,
        disk_growth=disk if size.startswith("+") else 0,
        **{key: params[key] for key in ("image_format", "firmware", "cpus", "ssh_port", "accelerator", "outbound", "allow_reboot")},
    )


def find_firmware(kind: str, pairs: t.Sequence[tuple[str, str]] = FIRMWARE_PAIRS) -> Firmware | None:
    """The files of the UEFI firmware of this host; None for BIOS, which QEMU brings along."""
    if kind == "bios":
        return None
    for code, variables in pairs:
        if Path(code).is_file() and Path(variables).is_file():
            return Firmware(Path(code), Path(variables))
    raise ToolError(
        f"Cannot start a guest with UEFI: no OVMF firmware was found (looked for {', '.join(code for code, dummy in pairs)}). Install the package ovmf.",
        program="OVMF",
    )


def disk_bytes(settings: GuestSettings, image_bytes: int) -> int:
    """The size of the disk of the guest. Raises GuestError when the image does not fit."""
    wanted = settings.disk_size or image_bytes + settings.disk_growth
    if wanted < image_bytes:
        raise GuestError(
            f"Cannot give the guest {settings.name} a disk of {wanted} bytes: {settings.image} has {image_bytes} bytes, "
            "and a smaller disk would cut its file systems off. Choose a larger disk_size, or leave it out."
        )
    return wanted


def overlay_arguments(settings: GuestSettings, size: int | None) -> list[str]:
    """The arguments of qemu-img that make the disk of the guest on top of the image; without a size it gets that of the image."""
    files = GuestFiles(settings.work_dir)
    sizes = [] if size is None else [str(size)]
    return ["create", "-q", "-f", "qcow2", "-F", settings.image_format, "-b", str(settings.image), "--", str(files.overlay), *sizes]


def qemu_arguments(settings: GuestSettings, accelerator: str, firmware: Firmware | None, qmp_fd: int) -> list[str]:
    """The arguments of QEMU. JSON where QEMU takes it: a comma in a path would be a separator otherwise."""
    files = GuestFiles(settings.work_dir)
    return [
        *("-name", _escaped(settings.name)),
        *("-pidfile", str(files.pid)),
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-machine", "q35" + (",pflash0=firmware-code,pflash1=firmware-variables" if firmware else "")),
        *("-accel", "tcg,thread=multi" if accelerator == "tcg" else accelerator),
        *("-cpu", "host" if accelerator == "kvm" else "max"),
        *("-smp", str(settings.cpus)),
        *("-m", str(settings.memory_mib)),
        *("-boot", "strict=on"),
        *(() if settings.allow_reboot else ("-action", "reboot=shutdown")),
        *_firmware_arguments(firmware, files),
        *_disk_arguments(settings, files),
        *_network_arguments(settings),
        # Without a screen, GRUB hangs in the mode gfxterm, which Debian's cloud images use.
        *("-device", "VGA"),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=serial,path={_escaped(str(settings.serial_log))}"),
        *("-serial", "chardev:serial"),
        *("-chardev", f"socket,id=qmp,fd={qmp_fd},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def _escaped(text: str) -> str:
    return text.replace(",", ",,")


def _firmware_arguments(firmware: Firmware | None, files: GuestFiles) -> list[str]:
    if firmware is None:
        return []
    code = {"driver": "raw", "node-name": "firmware-code", "read-only": True, "file": {"driver": "file", "filename": str(firmware.code), "read-only": True}}
    variables = {"driver": "raw", "node-name": "firmware-variables", "file": {"driver": "file", "filename": str(files.firmware_variables)}}
    return ["-blockdev", json.dumps(code), "-blockdev", json.dumps(variables)]


def _disk_arguments(settings: GuestSettings, files: GuestFiles) -> list[str]:
    # The overlay is thrown away: flushing it to the disk of the host would only cost time.
    cache = {"direct": False, "no-flush": True}
    file = {"driver": "file", "filename": str(files.overlay), "discard": "unmap", "cache": cache}
    disk = {"driver": "qcow2", "node-name": "disk", "discard": "unmap", "detect-zeroes": "unmap", "cache": cache, "file": file}
    arguments = ["-blockdev", json.dumps(disk), "-device", "virtio-blk-pci,drive=disk,bootindex=0,write-cache=on"]
    if settings.seed is not None:
        seed = {"driver": "raw", "node-name": "seed", "read-only": True, "file": {"driver": "file", "filename": str(settings.seed), "read-only": True}}
        arguments += ["-blockdev", json.dumps(seed), "-device", "virtio-blk-pci,drive=seed"]
    return arguments


def _network_arguments(settings: GuestSettings) -> list[str]:
    restrict = "" if settings.outbound else ",restrict=on"
    # No option ROM: the guest boots from its disk or not at all.
    return [
        "-netdev",
        f"user,id=net{restrict},hostfwd=tcp:{SSH_HOST}:{settings.ssh_port}-:22",
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
    ]


def parse_ssh_port(usernet: str) -> int:
    """The port of the host in the output of ``info usernet``."""
    found = re.search(r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+22\b", usernet, re.MULTILINE)
    if found is None:
        raise GuestError(f"Cannot find the SSH port of the guest: QEMU lists no forwarding to port 22: {usernet.strip()!r}.")
    return int(found.group(1))
