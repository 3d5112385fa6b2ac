# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a small disk image that keeps every rule: GPT, boot code, EFI system partition and a root file system.

Usage: make_image.py DISK ext4|xfs|btrfs
The file systems are made by their own tools; only the kernel and the packages in the tree are stand-ins.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

MIB = 1 << 20
KERNEL = "6.12.107+deb13-cloud-amd64"
ROOT_PARTUUID = "1f80a020-3742-54df-a11f-7e9502ea5822"
ESP_PARTUUID = "353f8f4a-74fa-593e-a880-6f0df3c1a6d5"
# Tools refuse a UUID that another file system of the machine has.
ROOT_UUID = str(uuid.uuid4())
BIOS_START, ESP_START, ROOT_START = 1 * MIB, 4 * MIB, 40 * MIB
ROOT_SIZE = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 160 * MIB}

TABLE = f"""label: gpt
1 : start={ROOT_START // 512}, size={{size}}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid={ROOT_PARTUUID}
14 : start={BIOS_START // 512}, size={3 * MIB // 512}, type=21686148-6449-6E6F-744E-656564454649
15 : start={ESP_START // 512}, size={36 * MIB // 512}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={ESP_PARTUUID}
"""
GRUB_CFG = f"""set default="0"
menuentry 'Debian GNU/Linux' $menuentry_id_option 'simple' {{
        search --no-floppy --fs-uuid --set=root {ROOT_UUID}
        linux   /boot/vmlinuz-{KERNEL} root=PARTUUID={ROOT_PARTUUID} ro console=ttyS0,115200
        initrd  /boot/initrd.img-{KERNEL}
}}
"""
FILES = {
    "etc/machine-id": "",
    "etc/hostname": "",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    "etc/fstab": f"PARTUUID={ROOT_PARTUUID} / {{kind}} rw 0 1\nPARTUUID={ESP_PARTUUID} /boot/efi vfat defaults 0 0\n",
    "etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
    "etc/hyperscaler-image.json": "{}",
    "boot/grub/grub.cfg": GRUB_CFG,
    f"boot/vmlinuz-{KERNEL}": "kernel\n",
    f"boot/initrd.img-{KERNEL}": "initial RAM disk\n",
    f"usr/lib/modules/{KERNEL}/modules.dep": "kernel/net/wireguard.ko.xz:\n",
    f"usr/lib/modules/{KERNEL}/modules.dep.bin": "index\n",
    f"usr/lib/modules/{KERNEL}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    "usr/lib/sysctl.d/50-default.conf": "kernel.sysrq = 0x1b6\n",
    "usr/bin/tool": "a packaged tool\n",
    "var/lib/dpkg/status": "Package: tool\nStatus: install ok installed\nVersion: 1.0-1\nArchitecture: amd64\n",
    "var/lib/dpkg/info/tool.list": "/.\n/usr\n/usr/bin\n/usr/bin/tool\n/var/lib/tool\n",
}
FOLDERS = ("boot/efi", "dev", "home", "proc", "root", "run", "sys", "usr/sbin", "var/lib/tool", "var/log")


def module_file(vermagic: str) -> bytes:
    """An ELF file with a section .modinfo."""
    names, content = b"\0.modinfo\0.shstrtab\0", b"vermagic=" + vermagic.encode() + b" SMP preempt mod_unload \0"
    at = 64 + len(names) + len(content)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 3, 2)
    sections = [(1, 1, 64 + len(names), len(content)), (10, 3, 64, len(names))]
    table = bytes(64) + b"".join(struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0) for name, kind, offset, size in sections)
    return header + names + content + table


def make_tree(root: Path, kind: str) -> None:
    """The files of the image."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).mkdir()
        (root / folder).chmod(0o1777)
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("{kind}", kind))
    (root / "lib").symlink_to("usr/lib")
    digest = hashlib.md5(FILES["usr/bin/tool"].encode(), usedforsecurity=False).hexdigest()
    (root / "var/lib/dpkg/info/tool.md5sums").write_text(f"{digest}  usr/bin/tool\n")
    module = root / f"usr/lib/modules/{KERNEL}/kernel/net/wireguard.ko.xz"
    module.parent.mkdir(parents=True)
    module.write_bytes(lzma.compress(module_file(KERNEL)))
    shadow = root / "etc/shadow"
    shadow.write_text("root:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n")
    shadow.chmod(0o640)


def run(*argv: str | os.PathLike[str], text: str = "") -> None:
    """Run a program; its output is shown when it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, argv))}: {done.stderr}")


def make_root(disk: Path, tree: Path, kind: str) -> None:
    """The root file system with its files, in a file of its own that is then put into the disk."""
    part = disk.with_suffix(".root")
    with part.open("wb") as stream:
        stream.truncate(ROOT_SIZE[kind])
    if kind == "ext4":
        run("mke2fs", "-q", "-t", "ext4", "-U", ROOT_UUID, "-d", tree, part)
    elif kind == "btrfs":
        run("mkfs.btrfs", "-q", "-U", ROOT_UUID, "--rootdir", tree, part)
    else:
        run("mkfs.xfs", "-q", "-m", f"uuid={ROOT_UUID}", part)
        with tempfile.TemporaryDirectory() as mounted:
            run("mount", "-o", "loop", part, mounted)
            try:
                run("cp", "-a", f"{tree}/.", mounted)
            finally:
                run("umount", mounted)
    run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={ROOT_START // MIB}", "conv=notrunc,sparse", "status=none")
    part.unlink()


def main() -> None:
    disk, kind = Path(sys.argv[1]), sys.argv[2]
    with disk.open("wb") as stream:
        stream.truncate(ROOT_START + ROOT_SIZE[kind] + MIB)
    run("sfdisk", "--quiet", disk, text=TABLE.format(size=ROOT_SIZE[kind] // 512))
    with disk.open("r+b") as stream:
        stream.write(b"\xeb\x63\x90")
        stream.seek(0x5C)
        stream.write(struct.pack("<Q", BIOS_START // 512))
        stream.seek(0x180)
        stream.write(b"GRUB \0")
        stream.seek(BIOS_START)
        stream.write(b"a stand-in of the core image")
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        folder.chmod(0o755)
        make_tree(folder / "root", kind)
        make_root(disk, folder / "root", kind)
        (folder / "EFI" / "BOOT").mkdir(parents=True)
        (folder / "EFI" / "BOOT" / "BOOTX64.EFI").write_text("a stand-in of the loader")
        run("mkfs.vfat", "-F", "16", "--offset", str(ESP_START // 512), disk, str(36 * 1024))
        run("mcopy", "-s", "-i", f"{disk}@@{ESP_START}", folder / "EFI", "::/")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
