# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small tree that keeps every rule of an inspection, for tests that break one thing of it."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import struct
import time
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Expectations, Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

KERNEL = "6.12.107+deb13-cloud-amd64"
ROOT_UUID = "8002ecc3-d224-5968-9e6e-23a1c8203bc5"
ROOT_PARTUUID = "1F80A020-3742-54DF-A11F-7E9502EA5822"
ESP_PARTUUID = "353F8F4A-74FA-593E-A880-6F0DF3C1A6D5"
ROOT = Volume(1, "", "ext4", ROOT_UUID, "", ROOT_PARTUUID, "")
ESP = Volume(15, "", "vfat", "3ED4-C834", "", ESP_PARTUUID, "")
VOLUMES = (Volume(14, "", "", "", "", "F8E5372B-E944-575B-AA16-826FD4C68292", ""), ESP, ROOT)
EXPECTED = Expectations(
    kernel_modules=("wireguard", "nvidia-current", "ext4"),
    forbidden_hosts=("mirror.builder.org",),
    archive_domains=("distribution.org",),
    session_settings=(("kernel.sysrq", "438"),),
)

FSTAB = f"""# what the image mounts
PARTUUID={ROOT_PARTUUID.lower()} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID={ESP_PARTUUID.lower()} /boot/efi vfat defaults 0 0
tmpfs /scratch tmpfs size=50% 0 0
storage:/home /home nfs4 _netdev,nofail 0 0
"""

GRUB_CFG = f"""
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="0"
fi
function load_video {{
  insmod all_video
}}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-{ROOT_UUID}' {{
    load_video
    if [ x$feature_platform_search_hint = xy ]; then
      search --no-floppy --fs-uuid --set=root  {ROOT_UUID}
    fi
    echo    'Loading Linux {KERNEL} ...'
    linux    /boot/vmlinuz-{KERNEL} root=PARTUUID={ROOT_PARTUUID.lower()} ro  console=tty0 console=ttyS0,115200
    initrd    /boot/initrd.img-{KERNEL}
}}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-{ROOT_UUID}' {{
    menuentry 'Debian GNU/Linux, with Linux {KERNEL}' --class debian $menuentry_id_option 'gnulinux-{KERNEL}-advanced-{ROOT_UUID}' {{
        linux    /boot/vmlinuz-{KERNEL} root=PARTUUID={ROOT_PARTUUID.lower()} ro
        initrd    /boot/initrd.img-{KERNEL}
    }}
}}
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {{
    fwsetup
}}
"""

STATUS = """Package: base-files
Status: install ok installed
Architecture: amd64
Version: 13.8+deb13u1
Conffiles:
 /etc/issue 3b8b8d2bb5b5a0b2c3a4a2a5d8b8d2bb

Package: openssh-server
Status: install ok installed
Architecture: amd64
Version: 1:10.0p1-7

Package: removed-package
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0-1
"""

PACKAGED = {
    "base-files": {"/usr/lib/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', "/usr/bin/tool": "a packaged tool\n"},
    "openssh-server": {"/usr/sbin/sshd": "a packaged server\n", "/usr/lib/systemd/system/ssh.service": "[Service]\nExecStart=/usr/sbin/sshd -D\n"},
}
PACKAGED_FOLDERS = {"base-files": ("/var/log", "/var/lib/misc", "/var/cache/apt"), "openssh-server": ("/etc/ssh",)}


def module_file(vermagic: str) -> bytes:
    """A little-endian ELF file of 64 bits whose only content is the section ``.modinfo``."""
    names = b"\0.modinfo\0.shstrtab\0"
    content = b"license=GPL\0vermagic=" + vermagic.encode() + b" SMP preempt mod_unload modversions \0"
    names_at = 64
    content_at = names_at + len(names)
    table_at = content_at + len(content)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2)
    sections = [bytes(64), _section(1, 1, content_at, len(content)), _section(10, 3, names_at, len(names))]
    return header + names + content + b"".join(sections)


def _section(name: int, kind: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)


class FakeImage:
    """A tree in a folder, with the usual ways to change it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def append(self, name: str, content: str) -> None:
        path = self.path(name)
        self.write(name, path.read_text() + content, stat.S_IMODE(path.stat().st_mode))

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert old in text
        self.write(name, text.replace(old, new), stat.S_IMODE(self.path(name).stat().st_mode))

    def folder(self, name: str, mode: int = 0o755) -> None:
        self.path(name).mkdir(parents=True, exist_ok=True)
        self.path(name).chmod(mode)

    def link(self, name: str, target: str) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).symlink_to(target)

    def remove(self, name: str) -> None:
        self.path(name).unlink()

    def remove_tree(self, name: str) -> None:
        shutil.rmtree(self.path(name))

    def kernel(self, version: str, *, modules: bool = True) -> None:
        """Add a kernel with everything that belongs to it."""
        self.write(f"/boot/vmlinuz-{version}", "kernel")
        self.write(f"/boot/initrd.img-{version}", "initrd")
        # Whatever a test writes afterwards is not newer, however long that takes.
        later = time.time() + 3600
        os.utime(self.path(f"/boot/initrd.img-{version}"), (later, later))
        folder = f"/usr/lib/modules/{version}"
        self.write(f"{folder}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
        self.folder(f"{folder}/kernel")
        self.write(f"{folder}/kernel/net/wireguard.ko.xz", lzma.compress(module_file(version)))
        listed = "kernel/net/wireguard.ko.xz: kernel/net/udp_tunnel.ko.xz\n"
        if modules:
            self.write(f"{folder}/updates/dkms/nvidia-current.ko", module_file(version))
            listed += "updates/dkms/nvidia-current.ko:\n"
        self.write(f"{folder}/modules.dep", listed)
        self.write(f"{folder}/modules.dep.bin", "index")

    def install(self, *packages: str) -> None:
        """Make dpkg know packages without files; a name may be followed by what dpkg wants of it, as in ``linux-image-amd64 hold``."""
        status = self.root / "var/lib/dpkg/status"
        text = status.read_text(encoding="utf-8")
        for package in packages:
            name, _space, want = package.partition(" ")
            text = f"{text.rstrip()}\n\nPackage: {name}\nStatus: {want or 'install'} ok installed\nArchitecture: amd64\nVersion: 1\n"
            self.write(f"/var/lib/dpkg/info/{name}.list", "/.\n")
        self.write("/var/lib/dpkg/status", text)

    def subject(self, expected: Expectations = EXPECTED) -> Subject:
        return Subject(Tree(self.root), VOLUMES, ROOT, expected, frozenset({"/", "/boot/efi"}))


def clean_image(root: Path) -> FakeImage:
    """Fill a folder with a tree that has no finding."""
    image = FakeImage(root)
    for folder in ("/dev", "/proc", "/sys", "/run/lock", "/root", "/home", "/etc/ssh", "/var/lib/dbus", "/var/lib/cloud", "/var/log/journal", "/var/lib/misc"):
        image.folder(folder)
    for folder in ("/tmp", "/var/tmp"):
        image.folder(folder, 0o1777)
    for folder in ("bin", "lib", "sbin"):
        image.folder(f"/usr/{folder}")
        image.link(f"/{folder}", f"usr/{folder}")
    image.folder("/var/cache/apt/archives/partial")
    _accounts(image)
    image.write("/etc/machine-id")
    image.write("/etc/hostname")
    image.write("/etc/hosts", "127.0.0.1 localhost\n")
    image.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    image.link("/etc/mtab", "../proc/self/mounts")
    image.write("/etc/fstab", FSTAB)
    image.write("/usr/lib/sysctl.d/50-default.conf", "kernel.sysrq = 0x1b6\n")
    image.write("/etc/hyperscaler-image.json", '{"image": "test"}')
    image.write("/etc/apt/sources.list.d/debian.sources", "Types: deb\nURIs: https://archive.distribution.org/debian\nSuites: trixie\nComponents: main\n")
    image.write("/etc/apt/apt.conf.d/20proxy", '// Acquire::http::Proxy "http://10.0.0.1:3142";\nAcquire::http::Proxy::archive.distribution.org "DIRECT";\n')
    image.write("/etc/systemd/system/ssh-host-keys.service", "[Service]\nExecStart=/usr/bin/ssh-keygen -A\n")
    image.link("/etc/systemd/system/multi-user.target.wants/ssh-host-keys.service", "../ssh-host-keys.service")
    image.write("/etc/sudoers", "root ALL=(ALL:ALL) ALL\n# %admin ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    image.write("/boot/grub/grub.cfg", GRUB_CFG)
    image.write("/boot/grub/grubenv", "# GRUB Environment Block\n####\n")
    image.write("/boot/efi/EFI/BOOT/BOOTX64.EFI", "loader")
    image.write("/boot/efi/EFI/debian/grub.cfg", f"search.fs_uuid {ROOT_UUID} root\nset prefix=($root)'/boot/grub'\n")
    _packages(image)
    image.write("/etc/modprobe.d/policy.conf", "blacklist nouveau\n")
    image.kernel(KERNEL)
    return image


def _accounts(image: FakeImage) -> None:
    users = ["root:x:0:0:root:/root:/bin/bash", "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin"]
    if os.getuid() not in (0, 65534):
        users.append(f"tester:x:{os.getuid()}:{os.getgid()}::/nonexistent:/usr/sbin/nologin")
    image.write("/etc/passwd", "\n".join(users) + "\n")
    image.write("/etc/shadow", "root:!*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\nsshd:!:20000::::::\n", 0o640)
    image.write("/etc/gshadow", "root:*::\nnogroup:*::\nstaff:!::\nslurm:::\n", 0o640)


def _packages(image: FakeImage) -> None:
    image.write("/var/lib/dpkg/status", STATUS)
    for package, files in PACKAGED.items():
        for name, content in files.items():
            image.write(name, content)
        sums = "".join(f"{hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()}  {name.lstrip('/')}\n" for name, content in files.items())
        image.write(f"/var/lib/dpkg/info/{package}.md5sums", sums)
        image.write(f"/var/lib/dpkg/info/{package}.list", "".join(f"{name}\n" for name in ("/.", *PACKAGED_FOLDERS[package], *files)))
    image.link("/etc/os-release", "../usr/lib/os-release")
