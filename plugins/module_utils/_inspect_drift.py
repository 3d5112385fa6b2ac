# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The rule on modules that were compiled for the kernel of an image, and on the updates that would replace this kernel."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_kernel import find_kernels

# Where depmod looks before it looks at the modules of the kernel package; DKMS installs into the first one.
FOLDERS = ("updates", "extra", "extramodules", "weak-updates")
# A package without a version in its name follows the newest kernel.
FOLLOWS = re.compile(r"linux-image-[a-z][a-z0-9-]*")
NAMED = 3

DRIFT = error(
    "kernel.drift",
    "Apply the role kernel_updates: with the policy follow, headers come with each kernel, and DKMS compiles for it; with hold, the kernel stays.",
)


def check_drift(subject: Subject) -> t.Iterator[Finding]:
    """Modules that were compiled here are compiled for the next kernel, too, or there is no next kernel."""
    packages = {package.name: package for package in subject.packages.installed}
    following = [name for name in packages if FOLLOWS.fullmatch(name) and not name.endswith("-dbg") and packages[name].want != "hold"]
    kernel = next((kernel for kernel in find_kernels(subject) if kernel.default), None)
    if not following or kernel is None:
        return
    folder = f"/lib/modules/{kernel.version}"
    compiled = [entry.path for name in FOLDERS for entry in subject.tree.glob(f"{folder}/{name}/**/*.ko", f"{folder}/{name}/**/*.ko.*")]
    # What a package brought for this kernel is the business of that package.
    lost = sorted(_module_name(path) for path in compiled if subject.tree.canonical(path) not in subject.packages.owned)
    lacking = "dkms" if "dkms" not in packages else next((name for name in map(_headers_of, following) if name not in packages), "")
    if lost and lacking:
        named = ", ".join(lost[:NAMED]) + (f" and {len(lost) - NAMED} more" if len(lost) > NAMED else "")
        fate = f"{following[0]} brings another kernel, and without {lacking} they are not compiled for that."
        yield DRIFT.at(folder, f"has modules that were compiled for it: {named}. {fate}")


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0]


def _headers_of(kernel_package: str) -> str:
    return kernel_package.replace("image", "headers", 1)


GROUPS = (Group("drift", (DRIFT,), check_drift),)
