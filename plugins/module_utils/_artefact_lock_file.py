# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find the lock file of a project, and change it so that builds that run at once lose nothing."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Lock, Locked, lock_text, parse_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic

NAME = "artefacts.lock.json"
# What ansible-galaxy puts into the folder of a collection that it installs.
INSTALLED = ("MANIFEST.json", "FILES.json")


def lock_path(named: str, playbook_folder: Path, own_playbooks: Path) -> Path:
    """Where the lock file of a project is: what ``artefact_lock`` names, beside the playbook, or in the folder that Ansible was started in.

    The playbooks of this collection, in ``own_playbooks``, belong to no project. Raises ImageError where only an installed collection is left.
    """
    here = Path.cwd()
    if named:
        return here / Path(named).expanduser()
    playbook = playbook_folder.resolve()
    if not playbook.is_relative_to(own_playbooks.resolve()) and not _is_installed(playbook):
        return playbook / NAME
    if _is_installed(here):
        raise ImageError(
            f"Cannot keep a lock file in {here}: it belongs to an installed collection. Start in the folder of your project, or set artefact_lock."
        )
    return here / NAME


def _is_installed(folder: Path) -> bool:
    return any(all((place / name).is_file() for name in INSTALLED) for place in (folder, *folder.parents))


def lock_first_use(path: Path, component: str, fresh: Locked) -> Locked:
    """Lock packages that were not locked yet; return what is locked of this version now. What another build locked meanwhile is kept.

    Raises IntegrityError when it locked another digest, ImageError when the file cannot be written.
    """

    def add(lock: Lock) -> Lock:
        versions = lock.get(component, {})
        known = versions.get(fresh.version, Locked(fresh.version, ()))
        return {**lock, component: {**versions, fresh.version: known.extended(fresh)}}

    return update_lock(path, add)[component][fresh.version]


def update_lock(path: Path, change: t.Callable[[Lock], Lock]) -> Lock:
    """Replace the content of a lock file by what ``change`` makes of it, in one step and one process at a time; return it.

    Raises what ``change`` and ``parse_lock`` raise, and ImageError when the file cannot be written.
    """
    # A link stays one: what it leads to is replaced.
    target = Path(os.path.realpath(path))
    try:
        with _held(target) as stream:
            text = stream.read()
            changed = change(parse_lock(text, path))
            # What a process left that was killed while it wrote.
            for left in target.parent.glob(glob.escape(f".{target.name}.") + "*.part"):
                left.unlink()
            if lock_text(changed) != text:
                write_atomic(target, lock_text(changed), mode=os.fstat(stream.fileno()).st_mode & 0o777)
            return changed
    except FileNotFoundError as error:
        raise ImageError(f"Cannot write the lock file {path}: its folder does not exist. Make it, or name another file in artefact_lock.") from error
    except UnicodeDecodeError as error:
        raise ImageError(f"Cannot use the lock file {path}: it is not text. Restore it from a copy, or remove it and lock again.") from error
    except OSError as error:
        raise ImageError(
            f"Cannot write the lock file {path}: {error.strerror}. Let this user write it and its folder, or name another file in artefact_lock."
        ) from error


@contextlib.contextmanager
def _held(target: Path) -> t.Iterator[t.TextIO]:
    """Open the file, made when there is none, and hold its lock; others wait until it is released."""
    while True:
        try:
            stream = target.open("r+", encoding="utf-8")
        except FileNotFoundError:
            _make(target)
            continue
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Who held it before has replaced the file: the lock of the old one protects nothing.
            if not _is_at(stream, target):
                continue
            yield stream
            return


def _is_at(stream: t.TextIO, target: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), target.stat())
    return False


def _make(target: Path) -> None:
    """Make a file that locks nothing, complete at once, unless another process was quicker."""
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", encoding="utf-8") as part:
        part.write(lock_text({}))
        part.flush()
        os.fchmod(part.fileno(), 0o644)
        with contextlib.suppress(FileExistsError):
            os.link(part.name, target)
