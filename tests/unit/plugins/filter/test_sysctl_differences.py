# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.sysctl_differences import sysctl_differences


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"net.ipv4.ip_local_port_range": "1024 65000"}, "net.ipv4.ip_local_port_range = 1024\t65000"),
        ({"kernel.printk": "4 4 1 7"}, "kernel.printk = 4\t4\t1\t7"),
        ({"net/ipv4/ip_forward": 1}, "net.ipv4.ip_forward = 1"),
        ({"net.ipv4.conf.eth0/100.rp_filter": 2}, "net.ipv4.conf.eth0/100.rp_filter = 2"),
        ({"kernel.sysrq": "0x10"}, "kernel.sysrq = 16"),
        ({"net.ipv4.ip_forward": True}, "net.ipv4.ip_forward = 1"),
        ({"kernel.core_pattern": "|/usr/lib/systemd/systemd-coredump %P %u=1"}, "kernel.core_pattern = |/usr/lib/systemd/systemd-coredump %P %u=1"),
        ({"kernel.domainname": ""}, "kernel.domainname = "),
    ],
)
def test_the_kernel_reads_both_as_the_same(wanted: dict[str, t.Any], line: str) -> None:
    assert sysctl_differences(wanted, [line]) == []


def test_differences_are_named() -> None:
    wanted = {"vm.swappiness": 7, "kernel.printk": "4 4 1 7", "net.bridge.bridge-nf-call-iptables": 1}
    assert sysctl_differences(wanted, ["vm.swappiness = 60", "kernel.printk = 4\t4\t1\t7"]) == [
        "vm.swappiness: expected 7, got 60",
        "net.bridge.bridge-nf-call-iptables: the kernel has no such setting",
    ]


@pytest.mark.parametrize(("wanted", "lines"), [([], []), ({"a": 1}, "a = 1")])
def test_other_types_are_refused(wanted: t.Any, lines: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="expected a dictionary"):
        sysctl_differences(wanted, lines)
