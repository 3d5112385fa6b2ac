# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Turn facts that were gathered in an opened image into those of the machine that it will be."""

from __future__ import annotations

import dataclasses
import re
import typing as t

# What setup reads in the files of the image. Everything else describes the build host, so what is not named here is left out.
OF_THE_IMAGE = frozenset(
    {
        *("architecture", "machine", "system", "userspace_architecture", "userspace_bits"),
        *("date_time", "distribution", "os_family", "pkg_mgr", "lsb", "local", "env", "fips", "machine_id", "hostnqn", "iscsi_iqn"),
        *("effective_group_id", "effective_user_id", "real_group_id", "real_user_id", "python", "python_version", "systemd", "selinux_python_present"),
    }
)
FAMILIES = ("distribution_", "user_", "ssh_host_")
UNPREFIXED = ("gather_subset", "module_setup")

# The network that QEMU gives a guest unless it is told otherwise; the boot proof uses it.
INTERFACE = "enp1s0"
MAC_ADDRESS = "52:54:00:12:34:56"
ADDRESS = {"address": "10.0.2.15", "broadcast": "10.0.2.255", "netmask": "255.255.255.0", "network": "10.0.2.0", "prefix": "24"}
GATEWAY = "10.0.2.2"
NAME_SERVER = "10.0.2.3"
LOOPBACK = {"address": "127.0.0.1", "broadcast": "", "netmask": "255.0.0.0", "network": "127.0.0.0", "prefix": "8"}

SECTOR = 512
KNOWN_BY_NOBODY = (
    *("bios_date", "bios_vendor", "bios_version", "board_asset_tag", "board_name", "board_serial", "board_vendor", "board_version"),
    *("chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version", "form_factor", "product_serial", "product_uuid", "product_version"),
)

# Prints what setup does not read, one line each: a name, a blank, the value. The version of a kernel is in its file, where its header says.
PROBE = r"""
kernel=$(ls /lib/modules 2>/dev/null | sort -V | tail -n 1)
echo "kernel $kernel"
if [ -r "/boot/vmlinuz-$kernel" ]; then
  at=$(od -An -tu2 -j526 -N2 "/boot/vmlinuz-$kernel")
  echo "version $(dd "if=/boot/vmlinuz-$kernel" bs=1 "skip=$((at + 512))" count=256 2>/dev/null | tr '\0' '\n' | head -n 1)"
fi
echo "cmdline $(sed -n 's/^[[:space:]]*linux[[:space:]]*//p' /boot/grub/grub.cfg 2>/dev/null | head -n 1)"
echo "hostname $(cat /etc/hostname 2>/dev/null)"
[ ! -x /sbin/apparmor_parser ] || echo "apparmor enabled"
awk '$1 !~ /^#/ && NF >= 3 { print "mount " $2 }' /etc/fstab 2>/dev/null
true
"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that will boot the image: processors, memory in MiB, and the size of its disk in bytes."""

    cpus: int
    memory: int
    disk_size: int


@dataclasses.dataclass(frozen=True)
class Probed:
    """What the files of the image say beyond the facts of setup."""

    kernel: str = ""
    version: str = ""
    cmdline: str = ""
    hostname: str = "localhost"
    apparmor: str = "disabled"
    mounts: frozenset[str] = frozenset({"/"})

    @classmethod
    def from_output(cls, output: str) -> Probed:
        """Read what the probe printed."""
        found: dict[str, str] = {}
        mounts = {"/"}
        for line in output.splitlines():
            name, _blank, value = line.partition(" ")
            if name == "mount":
                mounts.add(value)
            elif value.strip():
                found[name] = value.strip()
        return cls(
            kernel=found.get("kernel", ""),
            version=found["version"][found["version"].index("#") :] if "#" in found.get("version", "") else "",
            cmdline=found.get("cmdline", ""),
            hostname=found.get("hostname", "localhost"),
            apparmor=found.get("apparmor", "disabled"),
            mounts=frozenset(mounts),
        )


def describe(gathered: t.Mapping[str, t.Any], probed: Probed, machine: Machine) -> dict[str, t.Any]:
    """The facts of the machine; names without the prefix of setup are not facts of a machine and stay."""
    facts = {name.partition("_")[2]: value for name, value in gathered.items() if name.startswith("ansible_")}
    kept = {name: value for name, value in facts.items() if name in OF_THE_IMAGE or name.startswith(FAMILIES)}
    mounts = image_mounts(facts.get("mounts") or [], probed.mounts)
    described = {
        **kept,
        **_kernel(probed),
        **_hardware(machine),
        **_network(probed.hostname),
        "mounts": mounts,
        "devices": {"vda": _disk(machine.disk_size, mounts)},
        "device_links": {"ids": {}, "labels": {}, "masters": {}, "uuids": {name_of(mount): [mount["uuid"]] for mount in mounts if _has_uuid(mount)}},
        "lvm": {"lvs": {}, "pvs": {}, "vgs": {}} if isinstance(facts.get("lvm"), dict) else "N/A",
    }
    others = {name: gathered[name] for name in UNPREFIXED if name in gathered}
    return {**{f"ansible_{name}": value for name, value in described.items()}, **others}


def _kernel(probed: Probed) -> dict[str, t.Any]:
    options = cmdline_facts(probed.cmdline)
    return {
        "kernel": probed.kernel,
        "kernel_version": probed.version,
        "service_mgr": "systemd",
        "cmdline": options,
        "proc_cmdline": options,
        "apparmor": {"status": probed.apparmor},
        "selinux": {"status": "disabled"},
        "is_chroot": False,
        "uptime_seconds": 60,
        "loadavg": {"1m": 0.0, "5m": 0.0, "15m": 0.0},
        "system_capabilities": [],
        "system_capabilities_enforced": "False",
    }


def cmdline_facts(cmdline: str) -> dict[str, t.Any]:
    """The boot options of the boot menu as setup tells them; the first word of its line is the file of the kernel."""
    kernel, _blank, options = cmdline.partition(" ")
    words = [f"BOOT_IMAGE={kernel}", *options.split()] if kernel else []
    return {name: value if mark else True for name, mark, value in (word.partition("=") for word in words)}


def _hardware(machine: Machine) -> dict[str, t.Any]:
    free = machine.memory * 9 // 10
    processor = [word for number in range(machine.cpus) for word in (str(number), "QEMU", "QEMU Virtual CPU")]
    return {
        **dict.fromkeys(KNOWN_BY_NOBODY, "NA"),
        "system_vendor": "QEMU",
        "product_name": "Standard PC (i440FX + PIIX, 1996)",
        "virtualization_type": "kvm",
        "virtualization_role": "guest",
        "virtualization_tech_guest": ["kvm"],
        "virtualization_tech_host": [],
        "processor": processor,
        "processor_count": 1,
        "processor_cores": machine.cpus,
        "processor_threads_per_core": 1,
        "processor_vcpus": machine.cpus,
        "processor_nproc": machine.cpus,
        "flags": [],
        "memtotal_mb": machine.memory,
        "memfree_mb": free,
        "swaptotal_mb": 0,
        "swapfree_mb": 0,
        "memory_mb": {
            "real": {"total": machine.memory, "free": free, "used": machine.memory - free},
            "nocache": {"free": free, "used": machine.memory - free},
            "swap": {"total": 0, "free": 0, "used": 0, "cached": 0},
        },
        "fibre_channel_wwn": [],
    }


def _network(hostname: str) -> dict[str, t.Any]:
    short, _dot, domain = hostname.partition(".")
    link = {"active": True, "device": INTERFACE, "macaddress": MAC_ADDRESS, "module": "virtio_net", "mtu": 1500, "promisc": False, "type": "ether"}
    return {
        "hostname": short,
        "nodename": hostname,
        "fqdn": hostname,
        "domain": domain,
        "interfaces": ["lo", INTERFACE],
        INTERFACE: {**link, "ipv4": dict(ADDRESS), "ipv6": []},
        "lo": {"active": True, "device": "lo", "mtu": 65536, "promisc": False, "type": "loopback", "ipv4": dict(LOOPBACK), "ipv6": []},
        "default_ipv4": {**ADDRESS, "alias": INTERFACE, "interface": INTERFACE, "gateway": GATEWAY, "macaddress": MAC_ADDRESS, "mtu": 1500, "type": "ether"},
        "default_ipv6": {},
        "all_ipv4_addresses": [ADDRESS["address"]],
        "all_ipv6_addresses": [],
        "locally_reachable_ips": {"ipv4": ["127.0.0.0/8", "127.0.0.1", ADDRESS["address"]], "ipv6": ["::1"]},
        "dns": {"nameservers": [NAME_SERVER]},
    }


def image_mounts(mounts: t.Iterable[t.Mapping[str, t.Any]], points: t.Collection[str]) -> list[dict[str, t.Any]]:
    """The file systems of the image itself, on the disk that the machine will have; what is bound from the build host is none of them."""
    # A file system that is mounted more than once, or in more than one layer, is told once.
    kept = {mount["mount"]: dict(mount) for mount in mounts if mount["mount"] in points and str(mount["device"]).startswith("/dev/")}
    for mount in kept.values():
        number = re.search(r"(\d+)$", str(mount["device"]))
        mount["device"] = f"/dev/vda{number.group(1)}" if number else "/dev/vda"
        # Those of the build are for its speed.
        mount["options"] = "rw,relatime"
    return [kept[point] for point in sorted(kept)]


def name_of(mount: t.Mapping[str, t.Any]) -> str:
    """The name of the device of a mount, without its folder."""
    return str(mount["device"]).rpartition("/")[2]


def _has_uuid(mount: t.Mapping[str, t.Any]) -> bool:
    return mount.get("uuid", "N/A") not in ("", "N/A")


def _disk(size: int, mounts: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    links: dict[str, list[str]] = {"ids": [], "labels": [], "masters": [], "uuids": []}
    partitions: dict[str, t.Any] = {
        name_of(mount): {
            "holders": [],
            "links": {**links, "uuids": [mount["uuid"]] if _has_uuid(mount) else []},
            "sectors": int(mount.get("size_total") or 0) // SECTOR,
            "sectorsize": SECTOR,
            "size": human_size(int(mount.get("size_total") or 0)),
            "start": "2048",
            "uuid": mount["uuid"] if _has_uuid(mount) else None,
        }
        for mount in mounts
    }
    return {
        "holders": [],
        "host": "",
        "links": links,
        "model": None,
        "partitions": partitions,
        "removable": "0",
        "rotational": "1",
        "sas_address": None,
        "sas_device_handle": None,
        "scheduler_mode": "none",
        "sectors": size // SECTOR,
        "sectorsize": str(SECTOR),
        "size": human_size(size),
        "support_discard": "512",
        "vendor": "0x1af4",
        "virtual": 1,
    }


def human_size(size: int) -> str:
    """A size as setup writes it."""
    for unit, bytes_of in (("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= bytes_of:
            return f"{size / bytes_of:.2f} {unit}"
    return f"{size:.2f} Bytes"
