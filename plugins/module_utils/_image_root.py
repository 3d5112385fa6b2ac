# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Open the root file system of a disk image and close it again."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import socket
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _apt_cache, _booting, _isolation, _open_files, _outgoing
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access, read_access
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import PartitionTable, grow_last, read_table
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, ImageError, LayoutError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import grow, kind_of, require_healthy
from ansible_collections.hyperscaler.images.plugins.module_utils._files import allocated_bytes, require_space
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import Deadline, awaited, readable
from ansible_collections.hyperscaler.images.plugins.module_utils._keeper import CONTROL, LOG, hold
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import attach_disk, attached_devices, release_disk, release_when_unused
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import OpenFile, RootPlan, find_root, read_volumes, require_growable

# What partitioning tools leave free at the end of a disk: a backup GPT, and the rest of a piece of 1 MiB.
UNUSED = 2 << 20
RELEASE_TIMEOUT = 60.0
# A database that a role started may take a while to end, and free space on a slow disk to be discarded.
CLOSE_TIMEOUT = 600.0


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a user asks for; ``size`` is bytes or 0, ``wait`` seconds, ``memory`` MiB, ``init`` is ``none`` or ``systemd``."""

    path: Path
    state_file: Path
    source: Path | None
    size: int
    cache: Path | None
    files: tuple[tuple[str, str], ...]
    owner: ProcessIdentity | None
    wait: float
    init: str = "none"
    cpus: int = 2
    memory: int = 2048

    @property
    def lock_file(self) -> Path:
        """The file whose lock says that the image is open or being opened."""
        return self.path.with_name(f".{self.path.name}.lock")


def read_state(state_file: Path) -> dict[str, t.Any] | None:
    """The state of an image that is open now, or None; a state that a killed run left is not one."""
    try:
        state: dict[str, t.Any] = json.loads(state_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    first = ProcessIdentity.from_dict(state.get("first"))
    return state if first and first.alive() else None


def same_owner(state: t.Mapping[str, t.Any], owner: ProcessIdentity | None) -> bool:
    """Whether the run that asks is the one that opened the image."""
    return ProcessIdentity.from_dict(state.get("owner")) == owner


def open_image(wanted: Wanted) -> dict[str, t.Any]:
    """Copy the source, grow it and open it. Raises BusyError when another run has the image, LayoutError or IntegrityError for a bad base."""
    _require_root()
    _require_places(wanted)
    _isolation.require(wanted.path.parent)
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(wanted)
    try:
        release_disk(wanted.path)
        _require_source(wanted)
        # Before it is copied: what cannot be opened is refused at once.
        table = read_table(wanted.source or wanted.path)
        _copy(wanted)
        table = _grow(wanted, table)
        device = attach_disk(wanted.path, table)
        try:
            state = hold(_plan(wanted, device, table), wanted.state_file, wanted.owner, lock, _own_cache(wanted))
        finally:
            release_when_unused(device)
        _give_to_owner_of_folder(wanted)
        if wanted.init == "systemd":
            state = {**state, "failed_units": _booting.await_boot(state)}
            _ask(wanted.state_file.with_name(CONTROL), {"action": "settle"})
        return state
    finally:
        os.close(lock)


def close_image(path: Path, state_file: Path, *, trim: bool) -> dict[str, t.Any]:
    """Remove what opening brought, discard free space and release everything; the file is complete and clean afterwards.

    The result has the bytes that were discarded (``trimmed``) and the kernel's settings that were changed while it was open (``settings``).
    """
    state = read_state(state_file)
    if state is None:
        released = release_disk(path)
        return {"changed": bool(released), "trimmed": 0, "settings": []}
    keeper = ProcessIdentity.from_dict(state["keeper"])
    if keeper is None:
        raise ImageError(f"Cannot close {path}: {state_file} does not name the process that holds it open. Remove that file and run again.")
    answer = _ask(state_file.with_name(CONTROL), {"action": "close", "trim": trim})
    if not awaited(keeper.wait, RELEASE_TIMEOUT):
        keeper.end()
    if "error" in answer:
        raise ImageError(f"Cannot close {path}: {answer['error']}")
    _await_detached(path)
    return {"changed": True, **answer}


def _ask(control: Path, action: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Have the process that holds an image open do something; its answer, with the reason as ``error`` when it could not."""
    folder = os.open(control.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CLOSE_TIMEOUT)
            connection.connect(f"/proc/self/fd/{folder}/{control.name}")
            connection.sendall(json.dumps(action).encode("utf-8"))
            if not readable([connection], CLOSE_TIMEOUT):
                raise TimeoutError("timed out")
            with connection.makefile("rb") as stream:
                answer: dict[str, t.Any] = json.loads(stream.read() or b'{"error": "the process that holds it open ended early; look at keeper.log beside it"}')
    except OSError as error:
        return {"error": f"the process that holds it open does not answer ({reason(error)})"}
    finally:
        os.close(folder)
    return answer


def _require_root() -> None:
    if os.geteuid() != 0:
        raise ImageError("Cannot open an image: mounting needs root. Run the task with become, or the playbook as root.")


def _give_to_owner_of_folder(wanted: Wanted) -> None:
    """Root opens the image, but the build root belongs to the user who builds."""
    folder = wanted.path.parent.stat()
    for path in (wanted.path, wanted.lock_file, wanted.state_file, wanted.state_file.with_name(LOG), wanted.state_file.with_name("root")):
        os.chown(path, folder.st_uid, folder.st_gid)


def _lock(wanted: Wanted) -> int:
    """Take the lock of the image, once a run that has ended has been cleaned up."""
    descriptor = os.open(wanted.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + wanted.wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            state = read_state(wanted.state_file) or {}
        owner, keeper = ProcessIdentity.from_dict(state.get("owner")), ProcessIdentity.from_dict(state.get("keeper"))
        if keeper and owner and owner.local and not owner.alive():
            awaited(keeper.wait, RELEASE_TIMEOUT)
        elif keeper and time.monotonic() < deadline:
            keeper.wait(deadline - time.monotonic())
        else:
            os.close(descriptor)
            raise BusyError(_busy_message(wanted, owner, keeper), owner=owner.to_dict() if owner else None)


def _busy_message(wanted: Wanted, owner: ProcessIdentity | None, keeper: ProcessIdentity | None) -> str:
    if owner:
        who = f"the run with pid {owner.pid}" + ("" if owner.local else " on another machine, or before the last reboot of it,")
    else:
        who = f"process {keeper.pid}" if keeper else "another task that is opening it now"
    ending = f" It can be ended with: kill {keeper.pid}" if keeper else ""
    return f"Cannot open {wanted.path}: {who} has it open. Wait for its end, or give a time to wait (option wait).{ending}"


def _require_places(wanted: Wanted) -> None:
    """Refuse what is no file, or no folder, before anything is written there."""
    for path, what in ((wanted.path, "the image"), (wanted.state_file, "its state file")):
        if path.exists() and not path.is_file():
            raise ImageError(f"Cannot open {wanted.path}: {path} is no file, but {what} would be written there. Give another path.")
    for folder, what in ((wanted.path.parent, "of the image"), (wanted.state_file.parent, "of the state file"), (wanted.cache, "of the package cache")):
        blocked = next((place for place in (folder, *folder.parents) if place.exists() or place.is_symlink()), None) if folder else None
        if blocked and not blocked.is_dir():
            raise ImageError(f"Cannot open {wanted.path}: {blocked} is no folder, but the folder {what} would be made there. Give another path.")


def _require_source(wanted: Wanted) -> None:
    path, attempt, remedy = (
        (wanted.path, f"open {wanted.path}", "Give the base image as source.")
        if wanted.source is None
        else (wanted.source, f"copy the base image {wanted.source}", "Build or fetch the base image first.")
    )
    if not path.exists():
        raise ImageError(f"Cannot {attempt}: there is no such file. {remedy}")
    if not path.is_file():
        raise ImageError(f"Cannot {attempt}: it is no file. Give the path of a disk image file.")


def _copy(wanted: Wanted) -> None:
    if wanted.source is None:
        return
    needed = allocated_bytes(wanted.source)
    if wanted.path.exists():
        needed -= allocated_bytes(wanted.path)
    require_space(wanted.path.parent, needed, f"copy {wanted.source} to {wanted.path}")
    copy = Command("cp", reason="copy disk images", package="coreutils")
    copy.run("--sparse=always", "--reflink=auto", "--no-preserve=mode", "--", wanted.source, wanted.path, attempt=f"copy {wanted.source} to {wanted.path}")


def _grow(wanted: Wanted, table: PartitionTable) -> PartitionTable:
    """Give the last partition all the space of the size asked for; a disk is never made smaller.

    A file may be as large as wanted while its partition is not, when someone enlarged it: its backup GPT then lies in the middle, and moves to the end.
    """
    current = wanted.path.stat().st_size
    if not wanted.size or (wanted.size == current and table.partitions and table.last.end > current - UNUSED):
        return table
    if wanted.size < current:
        raise LayoutError(
            f"Cannot make {wanted.path} {wanted.size} bytes large: its base image is {current} bytes large already. "
            f"Ask for a disk_size of at least {-(-current // 2**30)}G."
        )
    if not table.partitions:
        raise LayoutError(f"Cannot grow {wanted.path}: its partition table is empty. Use a disk image of an installed system.")
    if wanted.size > current:
        os.truncate(wanted.path, wanted.size)
    return grow_last(wanted.path, table.last.number)


def _plan(wanted: Wanted, device: str, table: PartitionTable) -> RootPlan:
    volumes = read_volumes(device, table)
    root = find_root(volumes, table, wanted.path)
    if wanted.size:
        require_growable(root, table, wanted.path)
    where = f"partition {root.number} of {wanted.path}"
    kind = kind_of(root.type, where)
    require_healthy(kind, root.node, where)
    if wanted.size and not kind.grow_mounted:
        grow(kind, root.node, "")
    mount_point = wanted.state_file.with_name("root")
    mount_point.mkdir(exist_ok=True)
    own = _own_cache(wanted)
    if own:
        shutil.rmtree(own[0], ignore_errors=True)
        _apt_cache.fill(own[1], own[0])
    caches = ((own[0] / "cache", "/var/cache/apt"), (own[0] / "lists", "/var/lib/apt/lists")) if own else ()
    found = _open_files.host_mirror_lists([own[1] / "lists"] if own else [])
    lists = tuple((path, _outgoing.by_number(text)) for path, text in found)
    addresses = _open_files.host_addresses(lists)
    access = read_access(addresses).with_proxies(_outgoing.by_number)
    return RootPlan(
        disk=wanted.path,
        device=device,
        root=root,
        volumes=volumes,
        mount_point=mount_point,
        caches=caches,
        files=_files(wanted, access),
        replacements=lists,
        resolver=_outgoing.resolver(_text_of(Path("/etc/resolv.conf"))),
        ports=tuple(_outgoing.loopback_ports([*access.proxies, *addresses])),
        init=wanted.init,
        cpus=wanted.cpus,
        memory=wanted.memory,
        environment=(("no_proxy", access.no_proxy),) if access.no_proxy else (),
    )


def _own_cache(wanted: Wanted) -> tuple[Path, Path] | None:
    return (wanted.path.with_name("apt"), wanted.cache) if wanted.cache else None


def _files(wanted: Wanted, access: Access) -> tuple[OpenFile, ...]:
    """The files of an open image: no services that start by themselves, what apt needs, certificates, and what the user adds."""
    lines, placed = access.placed(f"/{_open_files.RUN}/apt")
    own = (
        OpenFile(f"/{_open_files.POLICY}", _open_files.POLICY_TEXT, 0o755),
        OpenFile(_open_files.APT_CONF, _open_files.apt_conf(lines)),
        OpenFile(_open_files.CA_BUNDLE, _text_of(_open_files.HOST_CA_BUNDLE)),
        *(OpenFile(file.path, file.text, 0o600 if file.private else 0o644) for file in placed),
    )
    return (*own, *(OpenFile(path, text) for path, text in wanted.files))


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _await_detached(path: Path) -> None:
    """The kernel lets go of the loop device a moment after the last mount has gone; no event tells of it."""
    deadline = Deadline(RELEASE_TIMEOUT)
    while attached_devices(path):
        if deadline.over():
            raise BusyError(
                f"Cannot release {path}: its loop device is still in use {RELEASE_TIMEOUT:g} s after closing. "
                "Something else has mounted it: look at losetup and /proc/mounts."
            )
        signal.sigtimedwait([signal.SIGUSR2], 0.02)
