# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Make a disk image bootable: GRUB for BIOS in the BIOS boot partition, shim and GRUB in the EFI system partition.

Everything that is installed comes from the packages of the image itself, so the build host needs no boot loader.
"""

from __future__ import annotations

import os
import shutil
import stat
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import Partition, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import partition_node

SHIM = "usr/lib/shim"
SIGNED = "usr/lib/grub/x86_64-efi-signed"
MODULES = "usr/lib/grub/x86_64-efi"
# The firmware starts EFI/BOOT/BOOTX64.EFI of a disk that it has no entry for; grub reads its grub.cfg in EFI/debian in either case.
# The fallback program (fb) is left out of EFI/BOOT: it would add a boot entry to the firmware and restart the machine at each first boot.
EFI_FILES: dict[str, str] = {
    "EFI/BOOT/BOOTX64.EFI": f"{SHIM}/shimx64.efi.signed",
    "EFI/BOOT/grubx64.efi": f"{SIGNED}/grubx64.efi.signed",
    "EFI/BOOT/mmx64.efi": f"{SHIM}/mmx64.efi.signed",
    "EFI/debian/shimx64.efi": f"{SHIM}/shimx64.efi.signed",
    "EFI/debian/grubx64.efi": f"{SIGNED}/grubx64.efi.signed",
    "EFI/debian/mmx64.efi": f"{SHIM}/mmx64.efi.signed",
    "EFI/debian/fbx64.efi": f"{SHIM}/fbx64.efi.signed",
    "EFI/debian/BOOTX64.CSV": f"{SHIM}/BOOTX64.CSV",
}
CHARACTER_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def efi_configuration(file_system_uuid: str) -> str:
    """The grub.cfg of the EFI system partition: it only leads to the one on the root file system."""
    return f"search.fs_uuid {file_system_uuid} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"


def device_nodes(device: str, table: PartitionTable) -> list[str]:
    """The nodes of an attached disk and of its partitions."""
    return [device, *(partition_node(device, partition.number) for partition in table.partitions)]


def make_devices(folder: Path, device: str, table: PartitionTable) -> None:
    """Fill an empty /dev with what GRUB's tools need: the usual devices, and of all disks only the one of the image."""
    for name, (major, minor) in CHARACTER_DEVICES.items():
        _make_node(folder / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for node in device_nodes(device, table):
        _make_node(folder / Path(node).name, stat.S_IFBLK | 0o600, Path(node).stat().st_rdev)
    links = folder / "disk/by-partuuid"
    links.mkdir(parents=True)
    for partition in table.partitions:
        (links / partition.uuid.lower()).symlink_to(f"../../{Path(partition_node(device, partition.number)).name}")


def _make_node(path: Path, mode: int, number: int) -> None:
    os.mknod(path, mode, number)
    path.chmod(stat.S_IMODE(mode))


def install_bios(inside: t.Callable[[str], Command], device: str) -> None:
    """Write GRUB to the master boot record and the BIOS boot partition, and its modules to /boot/grub.

    ``inside`` gives a program that runs in the root file system of the image, where /dev has the nodes of ``make_devices``.
    """
    inside("grub-install").run("--target=i386-pc", "--no-floppy", device, attempt="install GRUB for BIOS")


def write_menu(inside: t.Callable[[str], Command]) -> None:
    """Write /boot/grub/grub.cfg for the kernels of the image."""
    inside("update-grub").run(attempt="write the boot menu")


def stage_efi(root: Path, stage: Path, file_system_uuid: str) -> None:
    """Collect the content of the EFI system partition in ``stage``, and copy GRUB's EFI modules to /boot/grub."""
    for target, source in EFI_FILES.items():
        if not (root / source).is_file():
            raise LayoutError(f"Cannot set up booting with UEFI: the image has no /{source}. Install shim-signed and grub-efi-amd64-signed in it.")
        (stage / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / source, stage / target)
    (stage / "EFI/debian/grub.cfg").write_text(efi_configuration(file_system_uuid), encoding="ascii")
    modules = root / "boot/grub/x86_64-efi"
    modules.mkdir(parents=True, exist_ok=True)
    for file in sorted((root / MODULES).iterdir()):
        if file.suffix in (".mod", ".lst"):
            shutil.copy2(file, modules / file.name)


def write_efi(disk: Path, partition: Partition, stage: Path) -> None:
    """Copy the staged files to the EFI system partition of a disk image that is not attached.

    It is not mounted for that, because a kernel may be built without vfat.
    """
    mcopy = Command("mcopy", reason="write the EFI system partition", package="mtools", environment={"MTOOLS_SKIP_CHECK": "1"})
    mcopy.run("-s", "-m", "-i", f"{disk}@@{partition.start}", stage / "EFI", "::/", attempt=f"write the EFI system partition of {disk}")
