# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Take packages from another suite of Debian: those that are named, and what they need that the release of the image does not have.

apt of the controller does it, with lists of its own: it verifies the signatures, resolves what is needed, and reaches the mirror as it always does.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import typing as t
from pathlib import Path
from urllib.parse import quote

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_apart import AptApart
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import explain
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import find_mirrors, read_sources
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, SuiteSource, UnavailableError
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import package_from, parse_fields, split_paragraphs
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, IntegrityError, ToolError

APT = Path("/etc/apt")
# A mirror that somebody froze serves package lists that have expired. What is taken is signed all the same, and locked by its digest.
SETTINGS = ("Acquire::Languages=none", "Acquire::Check-Valid-Until=false", "APT::Install-Recommends=false")
FORGED = re.compile(r"GPG error|NO_PUBKEY|BADSIG|is not signed|invalid signature|signature verification failed|Hash Sum mismatch")
RELEASE_FIELD = re.compile(r"^(Origin|Suite|Version): *(\S.*?) *$", re.MULTILINE)
CHOSEN = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) (.+) \[\w+\]\)", re.MULTILINE)
UPDATE_TIMEOUT = 900.0


class DebianSuites:
    """Reads suites of a Debian mirror; ``cache`` keeps the lists, ``mirror`` is the address, or empty for the one of this machine."""

    def __init__(self, cache: Path, mirror: str, keyring: Path, architecture: str) -> None:
        self._cache = cache
        self._given = mirror
        self._keyring = keyring
        self._architecture = architecture

    @property
    def mirror(self) -> str:
        """The address of the archive; raises UnavailableError when this machine has none."""
        if not self._keyring.is_file():
            raise UnavailableError(
                f"nothing here can verify Debian's archive: the keyring {self._keyring} is not there. Install the package debian-archive-keyring."
            )
        if not self._given:
            try:
                self._given = find_mirrors(read_sources(APT), "this machine", self._keyring).archive
            except ImageError as error:
                raise UnavailableError(f"{error} Here the option is the variable artefact_debian_mirror.") from error
        return self._given.rstrip("/")

    def offers(self, suite: SuiteSource, names: t.Sequence[str]) -> list[Offer]:
        """The named packages as the suite has them, and what they need of it. Names that end in a question mark need not be there.

        Raises UnavailableError when the mirror cannot be read, IntegrityError when a signature or digest is wrong, ImageError for anything else.
        """
        attempt = f"read the suite {suite.name} of {self.mirror}"
        with self._apart(suite) as apart:
            self._update(apart, attempt)
            known = set(apart.run("apt-cache", "pkgnames", attempt=attempt).stdout.split())
            wanted = [name.rstrip("?") for name in names if name.rstrip("?") in known or not name.endswith("?")]
            if absent := [name for name in wanted if name not in known]:
                raise UnavailableError(f"the suite {suite.name} of {self.mirror} has no package {', '.join(absent)} for {self._architecture}.")
            try:
                plan = apart.run("apt-get", "--simulate", "install", *(f"{name}/{suite.name}" for name in wanted), attempt=attempt).stdout
            except CommandError as error:
                raise ImageError(
                    f"Cannot take {', '.join(wanted)} from {suite.name} to {suite.system}: they do not fit together. {_reasons(error)} "
                    "Take another suite, or build the packages for this release."
                ) from error
            label = _label(apart, suite)
            chosen = [f"{name}={version}" for name, version, origin in CHOSEN.findall(plan) if label in origin.split(", ") or name in wanted]
            shown = apart.run("apt-cache", "show", *chosen, attempt=attempt).stdout
        return [self._offer(fields) for fields in map(parse_fields, split_paragraphs(shown))]

    def bring(self, location: str, digest: str, target: Path) -> None:
        """Fetch a package to ``target``; raises UnavailableError when it cannot be had any more, IntegrityError when its digest is another."""
        attempt = f"fetch {location}"
        part = target.with_name(f".{target.name}.part")
        with self._apart(None) as apart:
            try:
                apart.run("apt-helper", "download-file", location, str(part), f"SHA256:{digest}", attempt=attempt, timeout=UPDATE_TIMEOUT)
            except CommandError as error:
                part.unlink(missing_ok=True)
                raise self._told(attempt, str(error.details.get("stderr", error))) from error
            except ToolError as error:
                raise UnavailableError(str(error)) from error
        part.rename(target)

    @contextlib.contextmanager
    def _apart(self, suite: SuiteSource | None) -> t.Iterator[AptApart]:
        """apt with the suite and the release beside it; one process at a time uses its lists."""
        folder = self._cache / "debian" / re.sub(r"[^A-Za-z0-9.-]", "-", f"{suite.name}-{self._architecture}" if suite else "fetch")
        settings = [*SETTINGS, f"APT::Architecture={self._architecture}", f"APT::Architectures={self._architecture}"]
        lines = ""
        if suite:
            option = f"[signed-by={self._keyring} arch={self._architecture}]"
            lines = "".join(f"deb {option} {self.mirror} {name} {suite.component}\n" for name in (suite.system, suite.name))
            settings.append(f"APT::Default-Release={suite.system}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "lock").open("w", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield AptApart(folder, lines, "take packages from another suite of Debian", settings)
        except OSError as error:
            raise ImageError(f"Cannot keep the package lists of Debian in {folder}: {error.strerror}. Choose another artefact_cache.") from error

    def _update(self, apart: AptApart, attempt: str) -> None:
        try:
            done = apart.run("apt-get", "update", attempt=attempt, accepted=range(256), timeout=UPDATE_TIMEOUT)
        except (CommandError, ToolError) as error:
            raise UnavailableError(str(error)) from error
        said = f"{done.stdout}\n{done.stderr}"
        # apt goes on with the lists that it has.
        if done.rc or re.search(r"^(?:E|W): (?:Failed to fetch|.*GPG error|.*is not signed)", said, re.MULTILINE):
            raise self._told(attempt, said)

    def _told(self, attempt: str, said: str) -> ImageError:
        failure = explain(said, str(self._keyring))
        why = f"{failure.cause}. {failure.advice}." if failure else f"apt says {' | '.join(said.strip().splitlines()[-3:]) or 'nothing'}."
        kind = IntegrityError if FORGED.search(said) and "Failed to fetch" not in said.partition("GPG error")[0] else UnavailableError
        return kind(f"Cannot {attempt}: {why}")

    def _offer(self, fields: t.Mapping[str, str]) -> Offer:
        package = package_from(fields)
        file = fields["filename"]
        return Offer(package, fields["sha256"].lower(), f"{self.mirror}/{quote(file, safe='/+~:')}", file)


def _label(apart: AptApart, suite: SuiteSource) -> str:
    """How apt calls the suite where it tells what a version comes from."""
    for file in apart.lists.glob(f"*_dists_{suite.name.replace('/', '_')}_*Release"):
        found = dict(RELEASE_FIELD.findall(file.read_text(encoding="utf-8", errors="replace")[:4096]))
        version = f"{found['Version']}/" if "Version" in found else ""
        return f"{found.get('Origin', '')}:{version}{found.get('Suite', '')}"
    return ""


def _reasons(error: CommandError) -> str:
    """The lines of apt on what does not fit."""
    text = f"{error.details.get('stdout', '')}\n{error.details.get('stderr', '')}"
    lines = [" ".join(line.split()) for line in text.splitlines() if re.search(r"Depends:|Conflicts:|Breaks:|^E: ", line)]
    return f"apt says {' | '.join(lines[:4]).rstrip('.')}." if lines else ""
