# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The files that an image needs while it is open, and that must be gone once it is closed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import find_mirrors, read_sources
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_names import is_given_resolver

POLICY = "usr/sbin/policy-rc.d"
# A package that is removed or replaced stops what a role has started, as on a live machine.
POLICY_TEXT = """#!/bin/sh
# While the image is open, a service starts when a role starts it, and not by itself.
case $2 in
  stop | force-stop) [ ! -d /run/systemd/system ] || exit 0 ;;
esac
exit 101
"""
RESOLVER = "etc/resolv.conf"
RUN = "run/hyperscaler"
APT_CONF = f"/{RUN}/apt.conf"
CA_BUNDLE = f"/{RUN}/ca-certificates.crt"
HOST_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
MIRROR_LISTS = "etc/apt/mirrors"
TRACES = ("root/.ansible",)


def apt_conf(settings: t.Iterable[str]) -> str:
    """The apt configuration of an open image: no waiting for the disk, packages kept, and how the build host reaches its mirrors."""
    own = (
        'DPkg::Options:: "--force-unsafe-io";',
        'APT::Keep-Downloaded-Packages "true";',
        'APT::Sandbox::User "root";',
        'Acquire::Retries "5";',
        'Acquire::Languages "none";',
        f'Acquire::https::CAInfo "{CA_BUNDLE}";',
    )
    return "\n".join([*own, *settings]) + "\n"


def host_mirror_lists(lists: t.Sequence[Path] = ()) -> tuple[tuple[str, str], ...]:
    """The mirror lists of Debian's cloud images with the mirrors that the build host itself uses; empty when it uses none of Debian.

    ``lists`` are folders with package lists besides that of this machine.
    """
    try:
        mirrors = find_mirrors(read_sources(Path("/etc/apt")), "the build host", lists=lists)
    except ImageError:
        return ()
    return (f"/{MIRROR_LISTS}/debian.list", f"{mirrors.archive}\n"), (f"/{MIRROR_LISTS}/debian-security.list", f"{mirrors.security}\n")


def host_addresses(lists: t.Iterable[tuple[str, str]]) -> list[str]:
    """The addresses that apt of the build host fetches from: those of its sources, and the texts of ``lists`` as ``host_mirror_lists`` returns them.

    On a machine without apt there are no sources.
    """
    sources: list[str] = []
    with contextlib.suppress(ImageError, OSError):
        sources = [source.uri for source in read_sources(Path("/etc/apt"))]
    return [*sources, *(text.strip() for _path, text in lists)]


def inside(root: Path, path: str) -> Path:
    """Follow the links of a path as a process inside ``root`` would; the last component need not exist."""
    current = root
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for _step in range(256):
        if not parts:
            return current
        part = parts.pop(0)
        if part == "..":
            current = current.parent if current != root else root
            continue
        following = current / part
        if following.is_symlink():
            target = os.readlink(following)  # noqa: PTH115 (the text of the link, not a path of the host)
            parts = [*(piece for piece in target.split("/") if piece not in ("", ".")), *parts]
            current = root if target.startswith("/") else current
        else:
            current = following
    raise OSError(f"too many links in {path}")


def create(root: Path, path: str, text: str, mode: int) -> str | None:
    """Write a file below ``root`` unless something is there; return the path that has to be removed when the image is closed."""
    target = inside(root, path)
    if target.exists():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)
    return str(target.relative_to(root))


@dataclasses.dataclass(frozen=True)
class Resolver:
    """The resolv.conf of an open image. A role may write its own: what it wrote stays, what the image had comes back otherwise.

    ``path`` is relative to the root of the image, ``former`` None where there was no file.
    """

    path: str
    text: str
    former: bytes | None

    @classmethod
    def place(cls, root: Path, text: str) -> Resolver | None:
        """Write ``text`` to /etc/resolv.conf; None where that leads to /run, which exists only while the image is open."""
        target = inside(root, RESOLVER)
        path = str(target.relative_to(root))
        if path.startswith(("run/", "var/run/")) or not target.parent.is_dir():
            return None
        former = target.read_bytes() if target.is_file() else None
        target.write_text(text, encoding="utf-8")
        if former is None:
            target.chmod(0o644)
        return cls(path, text, former)

    def restore(self, root: Path) -> None:
        """Bring back what the image had, unless a role changed it. Sealing empties it, because it has the servers of the build."""
        target = root / self.path
        if target.is_symlink() or not target.is_file():
            return
        content = target.read_bytes()
        unchanged = content == self.text.encode("utf-8")
        if unchanged and self.former is None:
            target.unlink()
        elif unchanged or (not content and self.former and not is_given_resolver(self.former.decode("utf-8", errors="replace"))):
            target.write_bytes(self.former or b"")
