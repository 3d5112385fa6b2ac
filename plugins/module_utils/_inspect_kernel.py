# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on kernels: one flavour, complete, and with every declared module built for it."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import version_order
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_modinfo import ModuleFile, module_name, normal_name, parse_index, read_vermagic

MODULES = "/lib/modules"
BUILT_IN = "(built in)"
INDEX_LIMIT = 1 << 24
LOG_LINES = 12
BOOT_NAMES = ("vmlinuz-", "vmlinux-")
INITRD_NAMES = ("initrd.img-", "initramfs-")
INITRD_INPUTS = ("/etc/modprobe.d/*.conf", "/etc/initramfs-tools/**/*", "/etc/modules")

MISSING = error("kernel.missing", "Install exactly one kernel package with its modules, for instance linux-image-cloud-amd64.")
FLAVOURS = error(
    "kernel.flavours",
    "Purge the kernels of all flavours but one; install headers of exactly that flavour with recommends off, because headers can pull in another kernel.",
)
SEVERAL = warning("kernel.several", "Purge the older kernel, so that modules are built once and the default entry of the boot menu is clear.")
NO_MODULES = error("kernel.no_modules", "Install the kernel package again, or purge it: it has a file in /boot but no modules.")
NO_IMAGE = warning("kernel.no_image", "Remove the folder: it was left behind by a kernel that was purged.")
INITRD = error("kernel.initrd", "Run update-initramfs -c -k for that kernel inside the image.")
INITRD_OLD = warning("kernel.initrd_old", "Run update-initramfs -u -k all inside the image after changing files that go into it.")
INDEX = error("kernel.module_index", "Run depmod for that kernel inside the image.")
MODULE = error(
    "kernel.module", "Install the headers of exactly that kernel, then run dkms build and dkms install with -k for it; dkms itself succeeds without headers."
)
MODULE_OTHER = error("kernel.module_other", "Build the module for that kernel too (dkms install -k), or purge the kernel.")
VERMAGIC = error("kernel.vermagic", "Build the module again for exactly that kernel.")
DKMS = warning("kernel.dkms", "Build it for that kernel, or remove it from DKMS inside the image.")
HEADERS = warning("kernel.headers", "Purge headers of kernels that are not in the image.")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of the image; ``modules`` are those that were asked for and found."""

    version: str
    flavour: str
    default: bool
    has_image: bool
    has_modules: bool
    initrd: str
    modules: tuple[ModuleFile, ...] = ()

    def as_result(self) -> dict[str, t.Any]:
        """The kernel as a module returns it."""
        return {
            "version": self.version,
            "flavour": self.flavour,
            "default": self.default,
            "modules": [{"name": module.name, "path": module.path, "vermagic": module.vermagic} for module in self.modules],
        }


def flavour_of(version: str) -> str:
    """What is left of a kernel's version without its numbers: ``6.12.107+deb13-cloud-amd64`` is of the flavour ``cloud-amd64``."""
    return re.sub(r"^\d+(\.\d+)*([+~][\w.~+]*)?(-rc\d+)?(-\d[\w.]*)?(-|$)", "", version)


@functools.lru_cache(maxsize=1)  # the modules of a kernel take a second to unpack, and both the rules and the result need them
def find_kernels(subject: Subject) -> tuple[Kernel, ...]:
    """The kernels in /boot and /lib/modules with their declared modules, the newest first."""
    tree = subject.tree
    images = {name.partition("-")[2] for name in tree.names("/boot") if name.startswith(BOOT_NAMES)}
    folders = {name for name in tree.names(MODULES) if _is_folder(subject, f"{MODULES}/{name}")}
    complete = {name for name in folders if tree.target(f"{MODULES}/{name}/kernel") or tree.target(f"{MODULES}/{name}/modules.builtin")}
    versions = sorted(images | folders, key=version_order, reverse=True)
    default = default_version(subject, versions)
    kernels = []
    for version in versions:
        initrd = next(
            (f"/boot/{name}" for name in tree.names("/boot") if name.startswith(INITRD_NAMES) and name.partition("-")[2] in (version, f"{version}.img")), ""
        )
        kernel = Kernel(version, flavour_of(version), version == default, version in images, version in complete, initrd)
        kernels.append(dataclasses.replace(kernel, modules=tuple(_declared(subject, version))))
    return tuple(kernels)


def _is_folder(subject: Subject, path: str) -> bool:
    entry = subject.tree.target(path)
    return entry is not None and entry.is_folder


def default_version(subject: Subject, versions: t.Sequence[str]) -> str:
    """The kernel that the boot loader starts: that of its default entry, else the newest."""
    entry = subject.grub.default if subject.grub else None
    if entry is None or not entry.linux:
        return versions[0] if versions else ""
    found = subject.tree.resolve(entry.linux if entry.linux.startswith("/boot/") else f"/boot{entry.linux}")
    return found.rpartition("/")[2].partition("-")[2] or (versions[0] if versions else "")


def _declared(subject: Subject, version: str) -> t.Iterator[ModuleFile]:
    folder = f"{MODULES}/{version}"
    index = _index(subject, f"{folder}/modules.dep")
    built_in = _index(subject, f"{folder}/modules.builtin")
    for name in subject.expectations.kernel_modules:
        path = index.get(normal_name(name), "") or next((entry.path for entry in _files_of(subject, folder, name)), "")
        if path:
            path = path if path.startswith("/") else f"{folder}/{path}"
            if subject.tree.target(path) is not None:
                yield ModuleFile(name, path, _vermagic(subject, path))
        elif normal_name(name) in built_in:
            yield ModuleFile(name, BUILT_IN, "")


def _index(subject: Subject, path: str) -> dict[str, str]:
    return parse_index(subject.tree.data(path, INDEX_LIMIT).decode("utf-8", errors="replace"))


def _files_of(subject: Subject, folder: str, name: str) -> t.Iterator[t.Any]:
    return (entry for entry in subject.tree.glob(f"{folder}/**/*.ko", f"{folder}/**/*.ko.*") if module_name(entry.path) == normal_name(name))


def _vermagic(subject: Subject, path: str) -> str:
    try:
        return read_vermagic(subject.tree.location(path))
    except IntegrityError:
        return ""


def check_kernels(subject: Subject) -> t.Iterator[Finding]:
    """One flavour, each kernel complete, each declared module there and built for it."""
    kernels = find_kernels(subject)
    real = [kernel for kernel in kernels if kernel.has_image]
    if not real:
        yield MISSING.at("/boot", "holds no kernel (vmlinuz-…).")
    flavours = sorted({kernel.flavour for kernel in kernels if kernel.has_image or kernel.has_modules})
    if len(flavours) > 1:
        yield FLAVOURS.at(MODULES, f"holds kernels of {len(flavours)} flavours: {', '.join(f'{kernel.version}' for kernel in kernels)}.")
    elif len(real) > 1:
        yield SEVERAL.at("/boot", f"holds {len(real)} kernels: {', '.join(kernel.version for kernel in real)}.")
    for kernel in kernels:
        yield from _check_files(subject, kernel)
        if kernel.has_image and kernel.has_modules:
            yield from _check_index(subject, kernel)
            yield from _check_modules(subject, kernel)
    yield from _check_dkms(subject, real)
    yield from _check_headers(subject, {kernel.version for kernel in kernels})


def _check_files(subject: Subject, kernel: Kernel) -> t.Iterator[Finding]:
    if not kernel.has_modules and kernel.has_image:
        yield NO_MODULES.at(f"{MODULES}/{kernel.version}", f"has no modules for the kernel {kernel.version}.")
    if not kernel.has_image:
        yield NO_IMAGE.at(f"{MODULES}/{kernel.version}", f"belongs to the kernel {kernel.version}, which is not in /boot.")
        return
    initrd = subject.tree.target(kernel.initrd) if kernel.initrd else None
    if initrd is None or not initrd.size:
        yield INITRD.at(f"/boot/initrd.img-{kernel.version}", f"is missing or empty, so the kernel {kernel.version} finds no root.")
        return
    newer = [entry.path for entry in subject.tree.files(*INITRD_INPUTS) if int(entry.mtime) > int(initrd.mtime)]
    if newer:
        yield INITRD_OLD.at(kernel.initrd, f"is older than {', '.join(newer[:3])}, which may belong in it.")


def _check_index(subject: Subject, kernel: Kernel) -> t.Iterator[Finding]:
    folder = f"{MODULES}/{kernel.version}"
    for name in ("modules.dep", "modules.dep.bin"):
        entry = subject.tree.target(f"{folder}/{name}")
        if entry is None or not entry.size:
            yield INDEX.at(f"{folder}/{name}", f"is missing or empty, so modprobe finds no module of the kernel {kernel.version}.")
    indexed = _index(subject, f"{folder}/modules.dep")
    for module in kernel.modules:
        if module.path != BUILT_IN and normal_name(module.name) not in indexed and indexed:
            yield INDEX.at(f"{folder}/modules.dep", f"does not list {module.path}, so modprobe does not find it.")


def _check_modules(subject: Subject, kernel: Kernel) -> t.Iterator[Finding]:
    found = {module.name: module for module in kernel.modules}
    for name in subject.expectations.kernel_modules:
        module = found.get(name)
        folder = f"{MODULES}/{kernel.version}"
        if module is None:
            rule: Rule = MODULE if kernel.default else MODULE_OTHER
            which = "the kernel that the boot loader starts" if kernel.default else "an installed kernel"
            yield rule.at(folder, f"has no module {name} for {which} ({kernel.version}).{_build_log(subject, name)}")
        elif module.path != BUILT_IN and module.release != kernel.version:
            built = f"was built for {module.release}" if module.release else "is damaged or no kernel module"
            yield VERMAGIC.at(module.path, f"{built}, but the kernel is {kernel.version}.{_build_log(subject, name)}")


def _build_log(subject: Subject, name: str) -> str:
    """The end of the DKMS log that may explain why a module is missing: that of the module of the same name, else of all that failed."""
    logs = list(subject.tree.files("/var/lib/dkms/*/*/build/make.log"))
    own = [
        entry
        for entry in logs
        if normal_name(entry.path.split("/")[4]).startswith(normal_name(name)) or normal_name(name).startswith(normal_name(entry.path.split("/")[4]))
    ]
    parts = []
    for entry in own or logs:
        lines = [line.rstrip() for line in subject.tree.text(entry.path).splitlines() if line.strip()][-LOG_LINES:]
        parts.append(f" The end of {entry.path}: {' | '.join(lines)}")
    return "".join(parts)


def _check_dkms(subject: Subject, kernels: t.Sequence[Kernel]) -> t.Iterator[Finding]:
    for source in subject.tree.glob("/var/lib/dkms/*/*/source"):
        module, version = source.path.split("/")[4:6]
        for kernel in kernels:
            built = subject.tree.target(f"/var/lib/dkms/{module}/{version}/{kernel.version}")
            if built is None:
                yield DKMS.at(
                    f"/var/lib/dkms/{module}/{version}", f"is known to DKMS but was not built for the kernel {kernel.version}.{_build_log(subject, module)}"
                )


def _check_headers(subject: Subject, versions: t.Collection[str]) -> t.Iterator[Finding]:
    for entry in subject.tree.glob("/usr/src/linux-headers-*"):
        version = entry.path.partition("linux-headers-")[2]
        if not version.endswith(("-common", "-common-rt")) and version not in versions and subject.tree.target(f"{entry.path}/Makefile"):
            yield HEADERS.at(entry.path, f"are headers of the kernel {version}, which is not in the image.")


GROUPS = (
    Group(
        "kernel", (MISSING, FLAVOURS, SEVERAL, NO_MODULES, NO_IMAGE, INITRD, INITRD_OLD, INDEX, MODULE, MODULE_OTHER, VERMAGIC, DKMS, HEADERS), check_kernels
    ),
)
