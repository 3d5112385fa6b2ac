# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The network of an open image: connections go out, nothing of the build host can be reached, and the build host is not changed.

pasta carries the connections from the network namespace of the image to ordinary sockets of the build host.
"""

from __future__ import annotations

import re
import signal
import socket
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import Deadline
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity

INTERFACE = "eth0"
# The addresses that QEMU's user network gives, so that an image sees the same network while it is built and while it is proven.
ADDRESS, GATEWAY, NAME_SERVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
ADDRESS_6, GATEWAY_6 = "fec0::15", "fe80::2"
# With the usual 1500 bytes, downloads take ten times as long.
LARGEST_PACKET = "65520"
LOOPBACK = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+|::1)$")
PORTS = {"http": 80, "https": 443, "ftp": 21}
READY_TIMEOUT = 20.0
NETWORKD = f"""[Match]
Name={INTERFACE}

[Network]
Address={ADDRESS}/24
Gateway={GATEWAY}
DNS={NAME_SERVER}
LinkLocalAddressing=no
IPv6AcceptRA=no
KeepConfiguration=yes
"""


def loopback_ports(addresses: t.Iterable[str]) -> list[int]:
    """The ports of those URLs that name the build host's own loopback interface: a mirror or proxy that runs there."""
    found = set()
    for address in addresses:
        parts = urlsplit(address)
        if LOOPBACK.match(parts.hostname or ""):
            found.add(parts.port or PORTS.get(parts.scheme, 80))
    return sorted(found)


def by_number(address: str) -> str:
    """An address of a server on ``localhost`` by the number of the interface that the server listens on.

    pasta answers on 127.0.0.1 and on ::1. A program that tries ::1 first would get a connection there that ends at once, where the build host
    refuses it and the program goes on with the other one. The name stays for https, as certificates have it.
    """
    parts = urlsplit(address)
    if parts.scheme == "https" or parts.hostname != "localhost":
        return address
    port = parts.port or PORTS.get(parts.scheme, 80)
    number = next((number for number in ("::1", "127.0.0.1") if _listens(number, port)), None)
    if number is None:
        return address
    shown = f"[{number}]" if ":" in number else number
    return re.sub(r"^(\w+://(?:[^/@]*@)?)localhost(?=[:/]|$)", rf"\g<1>{shown}", address, flags=re.IGNORECASE)


def _listens(number: str, port: int) -> bool:
    try:
        with socket.create_connection((number, port), timeout=2):
            return True
    except OSError:
        return False


def resolver(host: str) -> str:
    """The resolv.conf of an open image: the build host's search list, and the address that leads to its name server."""
    kept = [line for line in host.splitlines() if line.split(" ")[0] in ("search", "domain", "options")]
    return "\n".join([*kept, f"nameserver {NAME_SERVER}"]) + "\n"


def families() -> tuple[bool, bool]:
    """Whether the build host has a way out over IPv4 and over IPv6."""
    routes = [_ip().run_json("-json", family, "route", "show", "default", attempt="read the routes of the build host") for family in ("-4", "-6")]
    return bool(routes[0]), bool(routes[1])


def _ip() -> Command:
    return Command("ip", reason="read and write routes", package="iproute2")


def arguments(namespace: Path, ports: t.Sequence[int], v4: bool, v6: bool) -> list[str]:
    """The arguments of pasta for a network namespace."""
    chosen = ["-a", ADDRESS, "-n", "24", "-g", GATEWAY, "--dns-forward", NAME_SERVER] if v4 else ["-6"]
    chosen += ["-a", ADDRESS_6, "-g", GATEWAY_6] if v6 else ["-4"]
    closed = ["-t", "none", "-u", "none", "-U", "none", "-T", ",".join(str(port) for port in ports) or "none", "--no-map-gw"]
    own = ["--foreground", "--quiet", "--config-net", "--runas", "0", "--mtu", LARGEST_PACKET, "--ns-ifname", INTERFACE, "--netns", str(namespace)]
    return [*own, *chosen, *closed]


def connect(namespace: Path, leader: int, ports: t.Sequence[int], log: int) -> ProcessIdentity | None:
    """Connect a network namespace; return pasta, or None where the build host itself has no network.

    ``namespace`` is a file that stands for the namespace of process ``leader``. Raises ImageError when pasta does not come up.
    """
    v4, v6 = families()
    if not (v4 or v6):
        return None
    pasta = Command("pasta", reason="give an open image a network", package="passt")
    pid = pasta.spawn(*arguments(namespace, ports, v4, v6), stdout=log, stderr=log, prepare=lambda: _namespace.die_with_parent(signal.SIGKILL))
    identity = ProcessIdentity.of(pid)
    deadline = Deadline(READY_TIMEOUT)
    while not _has_route(leader):
        if identity is None or identity.wait(0.01) or deadline.over():
            raise ImageError("Cannot give the image a network: pasta did not come up. Its messages are in keeper.log beside the image.")
    _refuse(namespace, _own_addresses(), ports)
    return identity


def _has_route(leader: int) -> bool:
    v4 = Path(f"/proc/{leader}/net/route").read_text(encoding="ascii")
    v6 = Path(f"/proc/{leader}/net/ipv6_route").read_text(encoding="ascii") if Path(f"/proc/{leader}/net/ipv6_route").exists() else ""
    return bool(re.search(rf"^{INTERFACE}\t00000000\t", v4, re.MULTILINE) or re.search(rf"^0{{32}} 00 .* {INTERFACE}$", v6, re.MULTILINE))


def _own_addresses() -> list[str]:
    listed = _ip().run_json("-json", "address", attempt="read the addresses of the build host")
    return [str(address["local"]) for link in listed for address in link.get("addr_info", []) if address.get("local") and address.get("scope") != "host"]


def routes(own: t.Iterable[str]) -> dict[str, list[str]]:
    """The routes, in the form of ``ip -batch`` by family, that make the build host and link-local addresses unreachable.

    They are marked as the kernel's own, which the network managers of an image leave alone.
    """
    found: dict[str, list[str]] = {"-4": ["route replace unreachable 169.254.0.0/16 proto kernel metric 1"], "-6": []}
    for address in own:
        if not address.startswith(("169.254.", "fe80")):
            family, length = ("-6", 128) if ":" in address else ("-4", 32)
            found[family].append(f"route replace unreachable {address}/{length} proto kernel metric 1")
    return found


def rules(ports: t.Iterable[int]) -> list[str]:
    """The rules, in the form of ``ip -6 -batch``, that make ::1 unreachable at ports where the build host answers on 127.0.0.1 only.

    A program that knows a server as ``localhost`` then goes on to 127.0.0.1, as it does on the build host.
    """
    found = [f"rule add pref 1 to ::1 ipproto tcp dport {port} unreachable" for port in ports if _listens("127.0.0.1", port) and not _listens("::1", port)]
    # The table of the machine's own addresses comes first otherwise.
    return ["rule add pref 2 lookup local", *found, "rule del pref 0"] if found else []


def _refuse(namespace: Path, own: t.Iterable[str], ports: t.Iterable[int]) -> None:
    ip = Command("ip", reason="write routes", prefix=("nsenter", f"--net={namespace}"))
    for family, lines in routes(own).items():
        if lines:
            ip.run(family, "-batch", "-", stdin="\n".join([*lines, ""]).encode("ascii"), attempt="make the build host unreachable from the image")
    lines = rules(ports)
    if lines:
        # A kernel without such rules has no IPv6, or sends programs to ::1 first; nothing else depends on them.
        attempt = "lead programs in the image to servers on 127.0.0.1"
        ip.run("-6", "-batch", "-", stdin="\n".join([*lines, ""]).encode("ascii"), attempt=attempt, accepted=range(256))
