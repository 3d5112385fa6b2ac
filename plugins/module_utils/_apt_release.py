# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell whose package archive a source is, by its Release file and the signature of that.

The lists that apt has fetched before answer without the network; otherwise apt itself fetches the Release file and nothing else.
"""

from __future__ import annotations

import re
import tempfile
import typing as t
import urllib.parse
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_apart import AptApart
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import Failure, explain, missing_keys, without_password
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpgv import read_key, verify

LISTS = Path("/var/lib/apt/lists")
ORIGIN = re.compile(r"^Origin:\s*(.*?)\s*$", re.MULTILINE)
ORIGINS = ("Debian", "Debian Backports")
# The keyrings of the package debian-archive-keyring, and the keys of it that apt trusts for sources that name none.
OWN_KEYRING = re.compile(r"/debian-archive-[a-z0-9-]+\.(?:gpg|pgp|asc)$")
# apt quotes them in the names of its lists.
QUOTED = '\\|{}[]<>"^~_=!@#$%^&*'
TIMEOUT = 60.0
SETTINGS = ("Acquire::Retries=0", "Acquire::http::Timeout=15", "Acquire::https::Timeout=15", "Acquire::Languages=none", "Debug::NoLocking=1")


class Asked(t.Protocol):
    """A package source that may be Debian's: its address and suite, the keyring that it names, and the address that its lists are named by."""

    @property
    def uri(self) -> str:
        """The address."""

    @property
    def suite(self) -> str:
        """The suite."""

    @property
    def signed_by(self) -> str:
        """The keyring; empty when the source names none."""

    @property
    def listed(self) -> str:
        """The address that apt names its lists by; empty when that is ``uri``."""


Source = t.TypeVar("Source", bound=Asked)


class Releases:
    """Asks for the Release files of package sources."""

    def __init__(self, keyring: Path, lists: t.Iterable[Path] = ()) -> None:
        """``keyring`` has the keys of Debian, ``lists`` are folders with package lists besides that of this machine."""
        self._keyring = keyring
        self._lists = [folder for folder in (LISTS, *lists) if folder.is_dir()]
        self.failure: Failure | None = None

    def first_of_debian(self, sources: t.Sequence[Source]) -> Source | None:
        """The first source that is Debian's archive; None without one, and then ``failure`` is why some could not be asked, if so."""
        unknown: list[Source] = []
        for source in sources:
            known = self._known(source)
            if known:
                return source
            if known is None and not any(source.uri == other.uri for other in unknown):
                unknown.append(source)
        if not unknown:
            return None
        answered, said = self._ask(unknown)
        for source in unknown:
            if answered.get(source.uri) in ORIGINS:
                return source
        silent = [source for source in unknown if source.uri not in answered and not _was_refused(source, said)]
        refused = [source for source in unknown if source not in silent and source.uri not in answered]
        self.failure = explain(said) if silent else self._lacks(refused, said)
        # apt takes nothing from such a source that Debian has not signed.
        trusted = [source for source in silent if OWN_KEYRING.search(source.signed_by) or source.signed_by == str(self._keyring)]
        if trusted:
            return trusted[0]
        # Where there is just one, and nothing says that it is another's, signatures are verified when something is taken from it.
        return silent[0] if len(silent) == 1 and not silent[0].signed_by else None

    def _lacks(self, refused: t.Sequence[Asked], said: str) -> Failure | None:
        """That no key of the keyring has signed what apt could read; None where that is not the reason."""
        found = [(source.uri, keys) for source in refused if (keys := missing_keys(_lines_of(source, said)))]
        if not found:
            return None
        told = ", ".join(f"{without_password(uri)} is signed with {' and '.join(keys)}" for uri, keys in dict(found).items())
        return Failure(
            f"the keyring {self._keyring} does not have the key of any of them ({told})",
            "Give the keyring that has the key of your mirror (option keyring)",
        )

    def _known(self, source: Asked) -> bool | None:
        """Whether a source is Debian's, by the lists that were fetched before; None where there are none that count."""
        pattern = f"{_escaped(list_name(source.listed or source.uri))}_dists_*_InRelease"
        files = [file for folder in self._lists for file in sorted(folder.glob(pattern))]
        own = [file for file in files if origin_of(file.read_text(encoding="utf-8", errors="replace")) in ORIGINS]
        if any(self._is_signed(file) for file in own):
            return True
        return False if files and not own else None

    def _is_signed(self, file: Path) -> bool:
        """Whether a key of the keyring has signed the file; False as well where no program can tell."""
        try:
            return verify(file, read_key(self._keyring), attempt=f"verify {file}").valid
        except (ToolError, IntegrityError):
            return False

    def _ask(self, sources: t.Sequence[Asked]) -> tuple[dict[str, str], str]:
        """The origin by address of the sources whose Release files apt could fetch and verify, and what apt said of others."""
        with tempfile.TemporaryDirectory(prefix="hyperscaler-apt-") as name:
            # A target that does not exist: no package lists are fetched.
            lines = [f"deb [signed-by={self._keyring} target=none] {source.uri} {source.suite} main\n" for source in sources]
            apart = AptApart(Path(name), "".join(lines), "ask a package mirror what it is", SETTINGS)
            attempt = "ask the package mirrors what they are"
            try:
                done = apart.run("apt-get", "update", attempt=attempt, accepted=range(256), timeout=TIMEOUT * len(sources))
            except CommandError as error:
                return {}, str(error)
            except ToolError:
                return {}, ""
            found = {}
            for source in sources:
                for file in apart.lists.glob(f"{_escaped(list_name(source.uri))}_dists_*Release"):
                    found[source.uri] = origin_of(file.read_text(encoding="utf-8", errors="replace"))
        return found, f"{done.stdout}\n{done.stderr}"


def origin_of(release: str) -> str:
    """The origin that a Release file names."""
    found = ORIGIN.search(release)
    return found.group(1) if found else ""


def list_name(uri: str) -> str:
    """The beginning of the names that apt gives to the lists of an address."""
    parts = urllib.parse.urlsplit(uri)
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    return "".join(f"%{ord(letter):02x}" if letter in QUOTED else letter for letter in place).replace("/", "_")


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _was_refused(source: Asked, said: str) -> bool:
    """Whether apt had a Release file of the source and no key for it: then it is somebody else's."""
    return re.search(r"GPG error|NO_PUBKEY|BADSIG|Missing key", _lines_of(source, said)) is not None


def _lines_of(source: Asked, said: str) -> str:
    return "\n".join(line for line in said.splitlines() if source.uri in line)
