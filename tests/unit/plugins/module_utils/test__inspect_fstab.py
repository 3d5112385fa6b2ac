# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of fstab that need nothing of the image, and those that name what it lacks."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_fstab import check_fstab
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import ROOT_PARTUUID, ROOT_UUID, FakeImage, clean_image

if t.TYPE_CHECKING:
    from pathlib import Path


def found(folder: Path, *lines: str) -> list[str]:
    image = clean_image(folder / "image")
    image.append("/etc/fstab", "".join(f"{line}\n" for line in lines))
    return _rules(image)


def _rules(image: FakeImage) -> list[str]:
    return [finding.rule for finding in check_fstab(image.subject())]


@pytest.mark.parametrize(
    "line",
    [
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0",
        "UUID=dead-beef /data ext4 defaults,nofail 0 2",
        "LABEL=scratch /scratch xfs x-systemd.automount 0 0",
        "/dev/sda1 /media/usb vfat noauto,user 0 0",
        "UUID=dead-beef none swap sw,nofail 0 0",
        "shm /dev/shm tmpfs nodev,nosuid,noexec 0 0",
        "hugepages1g /dev/hugepages1G hugetlbfs pagesize=1G 0 0",
        "whatever /proc proc hidepid=2 0 0",
        "cgroups /sys/fs/cgroup cgroup2 defaults 0 0",
        "over /merged overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0",
        "ram /ram ramfs defaults 0 0",
        "rpool/home /home zfs defaults,zfsutil 0 0",
        "/dev/gpfs0 /gpfs gpfs rw,mtime,atime,dev=gpfs0 0 0",
        "gpfs0 /gpfs gpfs rw 0 0",
        "backend1/default /mnt/weka wekafs num_cores=1,net=ib0 0 0",
        "10.0.0.1@o2ib:10.0.0.2@o2ib:/lfs /lustre lustre defaults 0 0",
        "beegfs_nodev /mnt/beegfs beegfs rw,cfgFile=/etc/beegfs/beegfs-client.conf 0 0",
        "admin@.cephfs=/ /ceph ceph mon_addr=10.0.0.1,name=admin 0 0",
        "mon1,mon2:/ /ceph ceph name=admin 0 0",
        "none /ceph fuse.ceph ceph.id=admin 0 0",
        "s3fs#bucket /s3 fuse allow_other 0 0",
        "/srv/a:/srv/b /pool fuse.mergerfs defaults 0 0",
        "sshfs#ops@host:/x /x fuse defaults 0 0",
        "gluster1:/vol /gluster glusterfs defaults 0 0",
        "nfs1:/export/home /home/nfs nfs4 rw 0 0",
        "[2001:db8::1]:/export /home/nfs6 nfs rw 0 0",
        "//server/share /share cifs credentials=/root/x 0 0",
        "share /share virtiofs defaults 0 0",
        "/dev/mapper/cluster-data /data gfs2 defaults 0 0",
        "UUID=dead-beef /data ocfs2 defaults 0 0",
        "UUID=dead-beef /iscsi ext4 _netdev 0 0",
        "/dev/zram0 none swap defaults 0 0",
        "/run/shared /mnt none bind 0 0",
        "fs-12345678:/ /efs efs tls 0 0",
    ],
)
def test_lines_that_need_nothing_of_the_image(line: str, tmp_path: Path) -> None:
    assert found(tmp_path, line) == []


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("LABEL=data#1 /data ext4 defaults 0 2", "fstab.source"),
        ("LABEL=data /data auto defaults 0 2", "fstab.source"),
        ("UUID=dead-beef none swap sw 0 0", "fstab.source"),
        ("/dev/vg0/data /data xfs defaults 0 2", "fstab.source"),
        ("/dev/mapper/data /data ext4 defaults 0 2", "fstab.source"),
        ("/dev/pmem0 /data xfs dax 0 0", "fstab.source"),
        ("sdb1 /data ext4 defaults 0 2", "fstab.source"),
        ("PARTLABEL=data /data btrfs subvol=@data 0 0", "fstab.source"),
        ("/dev/disk/by-uuid/dead-beef /data ext4 defaults 0 2", "fstab.source"),
        ("/dev/disk/by-id/ata-X-part1 /data ext4 defaults 0 2", "fstab.source"),
        ("UUID=dead-beef /data newfs defaults 0 2", "fstab.source"),
        ("/srv/data /data none bind 0 0", "fstab.build_host"),
        ("/swapfile none swap sw 0 0", "fstab.build_host"),
        ("/dev/nvme0n1p3 /data ext4 nofail 0 2", "fstab.device_name"),
    ],
)
def test_lines_that_name_what_the_image_lacks(line: str, rule: str, tmp_path: Path) -> None:
    assert found(tmp_path, line) == [rule]


def test_a_folder_of_a_server_is_shown_elsewhere(tmp_path: Path) -> None:
    assert found(tmp_path, "nfs1:/export /nfs nfs4 rw 0 0", "/nfs/home /people none bind 0 0", "/nfs /all none rbind 0 0") == []


def test_a_disk_that_is_unlocked_first(tmp_path: Path) -> None:
    image = clean_image(tmp_path / "image")
    image.append("/etc/fstab", "/dev/mapper/data /data ext4 defaults 0 2\n")
    image.write("/etc/crypttab", f"data UUID={ROOT_UUID} none luks\n")
    assert _rules(image) == []
    image.write("/etc/crypttab", "data UUID=dead-beef none luks,nofail\n")
    assert _rules(image) == []
    image.write("/etc/crypttab", "data /dev/disk/by-id/x none luks\n")
    assert _rules(image) == ["fstab.crypttab"]

    image.write("/etc/crypttab", f"data UUID={ROOT_UUID} none luks\n")
    image.replace("/boot/grub/grub.cfg", "console=tty0", f"luks.uuid=luks-{ROOT_UUID} console=tty0")
    assert _rules(image) == []
    image.replace("/boot/grub/grub.cfg", "console=tty0", "rd.luks.uuid=luks-dead-beef console=tty0")
    assert _rules(image) == ["fstab.crypttab"]


def test_swap_of_the_image_is_resumed_from(tmp_path: Path) -> None:
    image = clean_image(tmp_path / "image")
    image.write("/etc/initramfs-tools/conf.d/resume", f"RESUME=PARTUUID={ROOT_PARTUUID}\n")
    assert _rules(image) == []
    image.replace("/boot/grub/grub.cfg", "console=tty0", "resume=UUID=dead-beef console=tty0")
    assert _rules(image) == ["fstab.resume"]
