# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a small disk image whose root file system has a shell: make_disk PATH LAYOUT FILE_SYSTEM [TROUBLE]."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = 1 << 20
LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
LAYOUTS = {
    "gpt": f"label: gpt\nstart=2048,size=204800,type=uefi,name=esp\nstart=206848,size=819200,type={LINUX_ROOT},name=root\n",
    "mbr": "label: dos\nlabel-id: 0x12345678\nstart=2048,size=204800,type=c\nstart=206848,size=819200,type=83\n",
    "root-first": f"label: gpt\nstart=206848,size=819200,type={LINUX_ROOT}\nstart=1026048,size=20480,type=swap\n",
    "no-esp": f"label: gpt\nstart=206848,size=819200,type={LINUX_ROOT}\n",
}
ROOT_START, ROOT_SIZE = 206848 * 512, 819200 * 512


def run(*arguments: object, **options: object) -> None:
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:" + os.environ["PATH"]}
    subprocess.run([str(argument) for argument in arguments], check=True, stdout=subprocess.DEVNULL, env=environment, **options)  # type: ignore[call-overload]


def tree(root: Path, fstab: str) -> None:
    """A root with a shell and a few tools of this machine, with the libraries that they need."""
    for folder in ("etc", "usr/sbin", "usr/bin", "usr/lib", "var/cache/apt", "var/lib/apt/lists", "root", "boot/efi", "tmp", "dev", "proc", "sys", "run"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to("usr/lib" if link.startswith("lib") else f"usr/{link}")
    for program in ("sh", "cat", "env", "id", "ls", "mkdir", "rm", "sleep", "sync", "touch"):
        source = Path(shutil.which(program) or "").resolve()
        shutil.copy(source, root / "usr/bin" / program)
        listed = subprocess.run(["ldd", source], check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+\.so\S*)", listed):
            shutil.copy(library, root / "usr/lib" / Path(library).name)
    (root / "etc/os-release").write_text("ID=test\n")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    (root / "var/lib/apt/lists/own_Packages").touch()
    (root / "etc/fstab").write_text(fstab)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")


def make_file_system(kind: str, root: Path, target: Path) -> None:
    with target.open("wb") as stream:
        stream.truncate(ROOT_SIZE)
    if kind == "ext4":
        run("mkfs.ext4", "-q", "-d", root, target)
    elif kind == "btrfs":
        run("mkfs.btrfs", "-q", "--rootdir", root, target)
    elif kind == "xfs":
        protofile = target.with_suffix(".mount")
        protofile.mkdir()
        run("mkfs.xfs", "-q", target)
        run("unshare", "--mount", "sh", "-ec", 'mount -o loop "$1" "$2"; cp -a "$3"/. "$2"/; umount "$2"', "sh", target, protofile, root)
        protofile.rmdir()
    elif kind == "luks":
        with target.open("r+b") as stream:
            stream.write(b"LUKS\xba\xbe\x00\x01")
            stream.seek(168)
            stream.write(b"00000000-0000-0000-0000-000000000001")


def spoil(path: Path, trouble: str) -> None:
    """Make it a disk of another kind."""
    if trouble == "large-sectors":
        # On a disk with sectors of 4096 bytes the GPT begins at byte 4096.
        device = subprocess.run(["losetup", "--find", "--show", "--sector-size", "4096", path], check=True, capture_output=True, text=True).stdout.strip()
        try:
            run("sfdisk", "--quiet", "--wipe", "always", device, input=b"label: gpt\nsize=300MiB\n")
        finally:
            run("losetup", "--detach", device)
    elif trouble == "cut":
        os.truncate(path, 256 * MIB)
    elif trouble == "gzip":
        run("gzip", "-1", "--force", path)
        path.with_name(f"{path.name}.gz").rename(path)
    elif trouble == "vhd":
        run("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed", path, path.with_suffix(".vhd"))
        path.with_suffix(".vhd").rename(path)


def main() -> None:
    path, layout, kind, trouble = Path(sys.argv[1]), sys.argv[2], sys.argv[3], (sys.argv[4:] or [""])[0]
    with path.open("wb") as stream:
        stream.truncate(640 * MIB)
    run("sfdisk", "--quiet", path, input=LAYOUTS[layout].encode())
    esp = "" if layout in ("root-first", "no-esp") else "UUID=AB12-CD34 /boot/efi vfat defaults 0 1\n"
    missing = "UUID=00000000-0000-0000-0000-000000000000 /data ext4 defaults 0 2\n" if trouble == "fstab" else ""
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        root, target = Path(work, "root"), Path(work, "file-system")
        tree(root, f"LABEL=none / {kind} defaults 0 1\n{esp}{missing}")
        if trouble == "no-system":
            (root / "etc/os-release").unlink()
        make_file_system(kind, root, target)
        if trouble == "unclean":
            run("debugfs", "-w", "-R", "set_super_value state 0", target, stderr=subprocess.DEVNULL)
        run("dd", f"if={target}", f"of={path}", "bs=1M", f"seek={ROOT_START // MIB}", "conv=notrunc,sparse", stderr=subprocess.DEVNULL)
        if esp:
            with Path(work, "esp").open("wb") as stream:
                stream.truncate(100 * MIB)
            run("mkfs.vfat", "-i", "AB12CD34", Path(work, "esp"))
            run("dd", f"if={Path(work, 'esp')}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse", stderr=subprocess.DEVNULL)
    spoil(path, trouble)


main()
