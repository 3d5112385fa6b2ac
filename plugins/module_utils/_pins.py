# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What ties an image to the disks and cards of the machine that it was built on: one table for sealing and for inspection, as data only.

Patterns are relative to the root; ``**`` stands for any number of folders. A machine makes what is removed again when it needs it:
multipathd its bindings and wwids, iscsid a name of its own, libnvme an identity from the firmware, and LVM looks at all disks.
"""

from __future__ import annotations

import dataclasses
import re

MAC = r"(?:[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2})"
ANYTHING = re.compile(r"^[ \t]*[^#\s]", re.MULTILINE)
REMOVE = "Remove it; each machine makes its own."
BUILD_ONLY = "Remove it unless every machine has exactly these devices; accept the finding with the reason in that case."


@dataclasses.dataclass(frozen=True)
class Pin:
    """One kind of file: ``rule`` and ``severity`` are those of its finding, ``message`` continues the sentence that the path begins.

    Only a file with the ``content`` is meant, any file where that is None. ``sealed`` is None where sealing leaves the file to the inspection,
    empty where it removes it, and otherwise what it writes instead.
    """

    name: str
    rule: str
    severity: str
    patterns: tuple[str, ...]
    message: str
    remedy: str
    content: re.Pattern[str] | None = None
    sealed: str | None = None


def _text(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


PINS: tuple[Pin, ...] = (
    Pin(
        "NVMe host identity",
        "identity.storage",
        "error",
        ("etc/nvme/hostid", "etc/nvme/hostnqn"),
        "identifies the NVMe host of the build machine.",
        "Remove it; the initiator of each machine gets a name of its own from its firmware.",
        sealed="",
    ),
    Pin(
        "NVMe connections",
        "identity.storage",
        "error",
        ("etc/nvme/config.json", "etc/nvme/discovery.conf"),
        "holds the identity of the NVMe host of the build machine.",
        "Remove the host identity; the initiator of each machine gets a name of its own from its firmware.",
        content=_text(r"^[^#]*(?:\"host(?:nqn|id)\"\s*:|(?:--host(?:nqn|-id|id)|\s-[qI])[\s=])"),
    ),
    Pin(
        "iSCSI initiator name",
        "identity.storage",
        "error",
        ("etc/iscsi/initiatorname.iscsi",),
        "holds the name of the iSCSI initiator of the build machine.",
        "Write GenerateName=yes to it; the initiator of each machine needs a name of its own, made on first boot.",
        content=_text(r"^[ \t]*InitiatorName[ \t]*="),
        sealed="GenerateName=yes\n",
    ),
    Pin(
        "iSCSI targets",
        "pin.iscsi_targets",
        "warning",
        ("etc/iscsi/nodes/**/*", "etc/iscsi/send_targets/**/*", "var/lib/iscsi/nodes/**/*", "var/lib/iscsi/send_targets/**/*"),
        "is a record of a target that the build machine found, and every machine may log in to it.",
        BUILD_ONLY,
    ),
    Pin(
        "device names by address",
        "identity.udev",
        "error",
        ("etc/udev/rules.d/7[05]-persistent-*.rules", "etc/systemd/network/*-persistent-*.link"),
        "fixes names of devices of the build machine.",
        "Remove it; it gives names to the network cards of the build machine.",
        sealed="",
    ),
    Pin(
        "names of network cards",
        "identity.udev",
        "error",
        ("etc/udev/rules.d/*", "usr/local/lib/udev/rules.d/*", "etc/iftab"),
        "names one network card by its address.",
        "Remove the line, or match network cards by their driver or place instead of the address of one card.",
        content=_text(
            # The address of an InfiniBand card ends with its own part, and its GUID is four groups.
            rf"^[^#\n]*(?:ATTRS?\{{address\}}==\"?[^\"\n]*|\bmac\s+){MAC}|^[^#\n]*ENV\{{ID_NET_NAME_MAC\}}==\"en"
            r"|^[^#\n]*ATTRS?\{(?:node|sys_image)_guid\}==\"[0-9a-fA-F]"
        ),
    ),
    Pin(
        "DHCP identifier",
        "pin.dhcp",
        "error",
        (
            *("etc/systemd/networkd.conf", "etc/systemd/networkd.conf.d/*.conf", "etc/systemd/network/*.network"),
            *("etc/dhcp/dhclient.conf", "etc/dhcp/dhclient*.conf", "etc/dhcpcd.conf"),
        ),
        "gives every machine the same identifier for DHCP, so all get the same address.",
        "Remove the line; each machine makes an identifier of its own.",
        content=_text(r"^[ \t]*(?:DUIDRawData[ \t]*=|(?:send[ \t]+(?:dhcp6?-client-id(?:entifier)?|dhcp6\.client-id)|clientid)[ \t]+(?![^;\n]*hardware)\S)"),
    ),
    Pin(
        "names of disks",
        "pin.udev_disk",
        "warning",
        ("etc/udev/rules.d/*", "usr/local/lib/udev/rules.d/*"),
        "names one disk by its serial number.",
        BUILD_ONLY,
        content=_text(r"^[^#\n]*(?:ENV\{ID_(?:SERIAL|WWN)\w*\}|ATTRS?\{(?:wwid|serial)\})==\"[^\"*?]+\""),
    ),
    # With it, an image uses only disks that the build had, and finds no volume group elsewhere.
    Pin(
        "LVM device list",
        "state.lvm_devices",
        "error",
        ("etc/lvm/devices/*.devices", "etc/lvm/devices/backup/*.devices*"),
        "lists the disks of the build machine, so LVM ignores the disks of every other machine.",
        "Remove it; without it LVM looks at all disks.",
        sealed="",
    ),
    Pin(
        "LVM cache",
        "state.lvm_devices",
        "error",
        ("etc/lvm/cache/.cache",),
        "lists the disks of the build machine.",
        "Remove it; LVM looks at all disks.",
        sealed="",
    ),
    Pin(
        "LVM filter",
        "pin.lvm",
        "warning",
        ("etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"),
        "lets LVM use named disks only, or belongs to one system id.",
        BUILD_ONLY,
        content=_text(
            r"^[ \t]*(?:(?:global_)?filter[ \t]*=[ \t]*\[[^\]]*\"a[|/][^\]]*dev/(?!\.\*)|(?:system_id|devicesfile)[ \t]*=[ \t]*\"[^\"]+\")",
        ),
    ),
    Pin(
        "multipath bindings",
        "pin.multipath",
        "error",
        ("etc/multipath/bindings", "etc/multipath/wwids", "etc/multipath/prkeys"),
        "lists the disks of the build machine for multipathd.",
        "Remove it; multipathd makes it again for the disks of each machine.",
        content=ANYTHING,
        sealed="",
    ),
    Pin(
        "multipath settings",
        "pin.multipath_settings",
        "warning",
        ("etc/multipath.conf", "etc/multipath/conf.d/*.conf"),
        "names single disks by their identifier (wwid).",
        BUILD_ONLY,
        content=_text(r"^[ \t]*wwid[ \t]+\"?(?:[0-9a-fA-F]{16,}|(?:naa|eui|uuid|t10|scsi)[.-]?\S+)"),
    ),
    Pin(
        "ZFS pools",
        "pin.zfs",
        "error",
        ("etc/zfs/zpool.cache", "etc/zfs/zfs-list.cache/*"),
        "lists the pools of the build machine.",
        "Remove it; pools are found by their labels then (zfs-import-scan.service).",
    ),
    Pin("host id", "pin.host_id", "error", ("etc/hostid",), "is the host id of the build machine, by which ZFS tells machines apart.", REMOVE),
    Pin(
        "RAID arrays",
        "pin.raid",
        "warning",
        ("etc/mdadm/mdadm.conf", "etc/mdadm.conf"),
        "names the arrays of one machine.",
        BUILD_ONLY,
        content=_text(r"^[ \t]*ARRAY[ \t]+(?!<ignore>)\S"),
    ),
    Pin(
        "GRUB device map",
        "pin.device_map",
        "warning",
        ("boot/grub/device.map",),
        "names the disk of the build machine.",
        "Remove it; GRUB finds its disk without it.",
    ),
)
