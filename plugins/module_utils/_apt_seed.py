# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What apt needs, as a shell script for the virtual machine that becomes an image: everything goes below /run."""

from __future__ import annotations

import base64
import dataclasses
import re
import shlex
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access, Placed
from ansible_collections.hyperscaler.images.plugins.module_utils._open_files import APT_CONF, RUN

LOCAL = r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])"
IN_ADDRESS = re.compile(rf"(?<=//)((?:[^/@\s]*@)?){LOCAL}(?=[:/\s]|$)")
IN_NAME = re.compile(rf"::{LOCAL}(?=::|$)")
IN_CREDENTIALS = re.compile(rf"(\bmachine\s+(?:\w+://)?){LOCAL}(?=[:/\s]|$)")
LINK = "/etc/apt/apt.conf.d/99hyperscaler-build"
SETTINGS = ('DPkg::Options:: "--force-unsafe-io";', 'DPkg::Lock::Timeout "600";', 'Acquire::Retries "5";', 'Acquire::Languages "none";')


def seen_from(address: str, access: Access) -> Access:
    """The same access from a machine that reaches this one at ``address``: what names the loopback interface names that instead."""
    settings = tuple((IN_NAME.sub(f"::{address}", name), _moved(address, value)) for name, value in access.settings)
    return dataclasses.replace(access, settings=settings, credentials=IN_CREDENTIALS.sub(rf"\g<1>{address}", access.credentials))


def _moved(address: str, text: str) -> str:
    return IN_ADDRESS.sub(rf"\g<1>{address}", text)


def script(access: Access, mirror_lists: t.Iterable[tuple[str, str]], address: str) -> str:
    """The script, for root; ``address`` is that of this machine, ``mirror_lists`` are shown where the image has such files."""
    lines, files = seen_from(address, access).placed(f"/{RUN}/apt")
    text = "\n".join([*SETTINGS, *lines]) + "\n"
    folder = f"mkdir -p -m 0755 /{RUN} /{RUN}/apt"
    parts = ["set -eu", folder, *(_write(file) for file in (*files, Placed(APT_CONF, text, private=False)))]
    # A link, so that nothing is on the disk; apt takes no notice of one that leads nowhere.
    parts.append(f"ln -sfn {APT_CONF} {LINK}")
    for path, content in mirror_lists:
        shown = Placed(f"/{RUN}{path}", _moved(address, content), private=False)
        place = shlex.quote(shown.path)
        parts += [f"if test -e {path}; then", f"mkdir -p $(dirname {place})", _write(shown), f"mountpoint -q {path} || mount --bind {place} {path}", "fi"]
    return "\n".join([*parts, ""])


def _write(file: Placed) -> str:
    place, content = shlex.quote(file.path), base64.b64encode(file.text.encode("utf-8")).decode("ascii")
    # apt fetches as a user of its own there.
    owner, mode = ("_apt", "0400") if file.private else ("root", "0444")
    return f"install -m 0600 /dev/null {place}\nbase64 -d >{place} <<END\n{content}\nEND\nchmod {mode} {place}\nchown {owner} {place}"
