# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What apt needs on this machine to reach its mirrors, for apt in an image: proxies, credentials, certificates, and which lists it takes.

apt's own tools read its configuration. A program that finds out the proxy belongs to this machine: apt asks it here, for each mirror, and
only what it answers is passed on. Nothing of this may stay in an image, so files of it are placed below /run there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import grown

HELPER = "/usr/lib/apt/apt-helper"
# Names of settings do not depend on upper and lower case. Whether signatures are verified is none of them: they always are.
PASSED = re.compile(
    r"Acquire::(?:https?|socks5h)::.+"
    r"|Acquire::(?:ForceIPv[46]|EnableSrvRecords|By-Hash|Queue-Mode|PDiffs|Retries|Check-Valid-Until|Check-Date"
    r"|Max-ValidTime|Min-ValidTime|Max-FutureTime|AllowReleaseInfoChange)(?:::.*)?",
    re.IGNORECASE,
)
DETECTION = re.compile(r"Acquire::(\w+)::Proxy-?Auto-?Detect", re.IGNORECASE)
PROXY = re.compile(r"Acquire::\w+::Proxy(?:::.+)?", re.IGNORECASE)
FILES = re.compile(r"Acquire::https?::(?:.+::)?(?:CaInfo|SslCert|SslKey|IssuerCert|CrlFile)", re.IGNORECASE)
SCHEMES = ("http", "https")
DIRECT = "DIRECT"
# No mirror has this name. What a detection program answers for it holds for the mirrors that roles add later.
ANY_OTHER = "archive.invalid"
CREDENTIALS = "auth.conf"


@dataclasses.dataclass(frozen=True)
class Placed:
    """A file that apt in an image reads; one that is ``private`` only its root may read."""

    path: str
    text: str
    private: bool


@dataclasses.dataclass(frozen=True)
class Access:
    """How the mirrors are reached: apt's settings by name, the content of its auth.conf, and the names that need no proxy.

    ``settings`` may name certificates and keys, which are files of this machine.
    """

    settings: tuple[tuple[str, str], ...] = ()
    credentials: str = ""
    no_proxy: str = ""

    @property
    def proxies(self) -> list[str]:
        """The addresses of all proxies."""
        return [value for name, value in self.settings if PROXY.fullmatch(name) and value.upper() != DIRECT]

    def with_proxies(self, change: t.Callable[[str], str]) -> Access:
        """The same access with other addresses of its proxies."""
        return dataclasses.replace(self, settings=tuple((name, change(value) if PROXY.fullmatch(name) else value) for name, value in self.settings))

    def placed(self, folder: str) -> tuple[list[str], list[Placed]]:
        """The lines of an apt.conf, and the files that they name, in ``folder`` of an image. Raises ImageError for a file that cannot be read."""
        lines, files = [], []
        for number, (name, value) in enumerate(self.settings):
            path = value
            if FILES.fullmatch(name) and value.startswith("/"):
                path = f"{folder}/{number}-{re.sub(r'[^A-Za-z0-9.-]', '-', Path(value).name)}"
                files.append(Placed(path, _read(Path(value), f"that the setting {name} names"), private=name.lower().endswith("key")))
            lines.append(f'{name} "{path}";')
        if self.credentials:
            files.append(Placed(f"{folder}/{CREDENTIALS}", self.credentials, private=True))
            # Only the file, not the folder: credentials that a role puts into auth.conf.d of the image are read as well.
            lines.append(f'Dir::Etc::netrc "{folder}/{CREDENTIALS}";')
        return lines, files


def read_access(mirrors: t.Iterable[str], environment: t.Mapping[str, str] | None = None) -> Access:
    """How this machine reaches ``mirrors`` (addresses) and others.

    Raises ImageError where the program that should find out a proxy does not work, or a file that apt reads cannot be read.
    """
    environment = os.environ if environment is None else environment
    settings = read_settings(mirrors, environment)
    try:
        credentials = _credentials()
    except ToolError:
        credentials = ""
    return Access(tuple(settings.items()), credentials, _variable(environment, "no_proxy"))


def read_settings(mirrors: t.Iterable[str], environment: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of ``read_access``, which any user may read. On a machine without apt, they are the proxies of the environment."""
    environment = os.environ if environment is None else environment
    try:
        dump = _apt_config().run("dump", attempt="read the apt settings of this machine").stdout
    except ToolError:
        dump = ""
    settings = _with_environment(parse_settings(dump), environment)
    programs = parse_detection(dump)
    hosts = sorted({(parts.scheme, parts.hostname) for parts in map(urlsplit, mirrors) if parts.scheme in SCHEMES and parts.hostname})
    if programs:
        _detect(programs, hosts, settings)
    no_proxy = _variable(environment, "no_proxy")
    settings.update({f"Acquire::{scheme}::Proxy::{host}": DIRECT for scheme, host in hosts if exempt(host, no_proxy)})
    return settings


def _apt_config() -> Command:
    return Command("apt-config", reason="read how this machine reaches its package mirror", package="apt")


def parse_settings(dump: str) -> dict[str, str]:
    """The settings in the output of ``apt-config dump`` that tell how a mirror is reached and how old its lists may be."""
    return {name: value for name, value in _entries(dump) if value and PASSED.fullmatch(name) and not DETECTION.fullmatch(name)}


def parse_detection(dump: str) -> dict[str, str]:
    """The programs that find out the proxy, by the kind of address (``http``, ``https``)."""
    found: dict[str, str] = {}
    for name, value in _entries(dump):
        if value and (match := DETECTION.fullmatch(name)):
            # The older spelling, without dashes, counts only where the newer one is not used.
            scheme, newer = match.group(1).lower(), "proxy-auto-detect" in name.lower()
            found[scheme] = value if newer else found.get(scheme, value)
    return found


def _entries(dump: str) -> t.Iterator[tuple[str, str]]:
    for line in dump.splitlines():
        if match := re.fullmatch(r'(\S+) "(.*)";', line):
            yield match.group(1), match.group(2)


def _variable(environment: t.Mapping[str, str], name: str) -> str:
    """A variable in either spelling; apt itself knows the one in small letters."""
    return environment.get(name) or environment.get(name.upper(), "")


def _with_environment(settings: dict[str, str], environment: t.Mapping[str, str]) -> dict[str, str]:
    """Settings with the proxies of the environment, which count where apt's own settings name none; those for http hold for https, too."""
    known = {name.lower() for name in settings}
    found = dict(settings)
    if "acquire::http::proxy" in known:
        return found
    for scheme in SCHEMES:
        value = _variable(environment, f"{scheme}_proxy")
        if value and f"acquire::{scheme}::proxy" not in known:
            found[f"Acquire::{scheme}::Proxy"] = value if "://" in value else f"http://{value}"
    return found


def exempt(host: str, no_proxy: str) -> bool:
    """Whether a host needs no proxy by the list of domains in ``no_proxy``, compared as apt does: by the end of the name."""
    return any(name == "*" or host.endswith(name.lower()) for name in (part.strip() for part in no_proxy.split(",")) if name)


def _detect(programs: t.Mapping[str, str], hosts: t.Iterable[tuple[str, str]], settings: dict[str, str]) -> None:
    """Put what the programs answer for each host into the settings."""
    known = {name.lower(): value for name, value in settings.items()}
    general = {scheme: known.get(f"acquire::{scheme}::proxy") or known.get("acquire::http::proxy", DIRECT) for scheme in SCHEMES}
    for scheme, host in hosts:
        if scheme in programs and f"acquire::{scheme}::proxy::{host}" not in known:
            settings[f"Acquire::{scheme}::Proxy::{host}"] = _answer(programs[scheme], f"{scheme}://{host}/") or general[scheme]
    for scheme in SCHEMES:
        # Both are said, as apt takes the one for http where there is none for https.
        answer = ""
        if scheme in programs:
            with contextlib.suppress(ImageError):
                answer = _answer(programs[scheme], f"{scheme}://{ANY_OTHER}/")
        settings[f"Acquire::{scheme}::Proxy"] = answer or general[scheme]


def _answer(program: str, address: str) -> str:
    """What a detection program says of an address, read by apt: a proxy, DIRECT, or nothing."""
    helper = Command(HELPER, reason="ask for the proxy of a mirror", package="apt")
    try:
        said = helper.run("auto-detect-proxy", address, attempt=f"find out the proxy for {address}", timeout=grown(60))
    except CommandError as error:
        raise ImageError(
            f"Cannot find out the proxy for {address}: the program {program}, which apt of this machine asks for it (Proxy-Auto-Detect), failed: "
            f"{_one_line(error.details.get('stderr', '')) or error}. Correct the program, which apt may run as its own user, or the setting.",
            **error.details,
        ) from error
    found = re.search(r"^Using proxy '(.*)' for URL", said.stdout, re.MULTILINE)
    return found.group(1) if found else ""


def _one_line(text: str) -> str:
    return " | ".join(line.strip().removeprefix("E: ").rstrip(".") for line in text.splitlines() if line.strip())


def _credentials() -> str:
    """The content of auth.conf and of the files in auth.conf.d, in the order in which apt reads them."""
    arguments = ("shell", "FILE", "Dir::Etc::netrc/f", "PARTS", "Dir::Etc::netrcparts/d")
    places = dict(re.findall(r"^(FILE|PARTS)='(.*)'$", _apt_config().run(*arguments, attempt="find the credentials of apt").stdout, re.MULTILINE))
    parts = Path(places.get("PARTS", ""))
    listed = sorted(path for path in parts.iterdir() if re.fullmatch(r"[\w.-]+", path.name) and path.suffix in (".conf", "")) if parts.is_dir() else []
    files = [path for path in (Path(places.get("FILE", "")), *listed) if path.is_file()]
    return "".join(f"{_read(path, 'with credentials of apt').rstrip()}\n" for path in files)


def _read(path: Path, which: str) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ImageError(f"Cannot read {path}, the file {which}: {error.strerror}. Correct the setting, or make it readable for root.") from error
