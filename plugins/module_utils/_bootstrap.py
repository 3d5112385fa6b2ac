# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Bootstrap a Debian base disk image from a package mirror, with the partition layout of Debian's cloud images."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _apt_cache, _base_system, _boot_loader, _namespace
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import explain, without_password
from ansible_collections.hyperscaler.images.plugins.module_utils._base_recipe import ESP, ROOT, SMALLEST, Recipe, layout
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import PartitionTable, gpt_script, write_table
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, IntegrityError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, part_file, require_space
from ansible_collections.hyperscaler.images.plugins.module_utils._gpgv import require_keyring
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import attach_disk, partition_node, release_disk, release_when_unused

# A killed run takes its children with it: they lose their parent, and the kernel ends them with everything that they started.
CONFINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "partx": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "fstrim": "util-linux",
}
# What is left of it, an empty file, is removed with the other traces.
SETTINGS_IN_IMAGE = "etc/apt/apt.conf.d/99mmdebstrap"
INSIDE = ("setpriv", "--pdeathsig", "KILL", "chroot")


def mmdebstrap_arguments(recipe: Recipe, root: Path, sources: Path) -> list[str]:
    """The arguments of mmdebstrap for a root file system that is mounted, with the package cache in place.

    The final sources, and what is cleaned, are not left to mmdebstrap, because the package lists are still needed after it.
    """
    return [
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        "--architectures=amd64",
        f"--components={','.join(recipe.components)}",
        f"--include={','.join(recipe.packages)}",
        "--dpkgopt=force-unsafe-io",
        "--skip=check/empty,essential/unlink,cleanup/apt",
        recipe.release,
        str(root),
        str(sources),
    ]


def apt_settings(access: Access, work: Path) -> str:
    """The apt configuration of the bootstrap, whose files are written to ``work``; signatures are always verified."""
    lines, files = access.placed(str(work))
    for file in files:
        place = Path(file.path)
        place.touch(mode=0o600)
        place.write_text(file.text, encoding="utf-8")
    own = ('Acquire::Languages "none";', 'Acquire::Retries "5";', 'APT::Sandbox::User "root";')
    return "".join(f"{line}\n" for line in (*own, *lines))


def parse_packages(text: str) -> dict[str, str]:
    """Names and versions in the output of ``dpkg-query --show``."""
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def archive_name(name: str, version: str, architecture: str) -> str:
    """The name that apt gives to a package file in its cache."""
    return f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"


def parse_hashes(text: str, names: t.Collection[str]) -> dict[str, str]:
    """The sha256 by file name in the apt cache, for the packages of a package list that have one of the names."""
    hashes = {}
    for record in text.split("\n\n"):
        name = record.lstrip("\n").partition("\n")[0].partition("Package: ")[2]
        if name in names:
            fields = dict(re.findall(r"^(Version|Architecture|SHA256): (\S+)$", record, re.MULTILINE))
            hashes[archive_name(name, fields.get("Version", ""), fields.get("Architecture", ""))] = fields.get("SHA256", "")
    return hashes


def parse_release(text: str) -> tuple[str, str]:
    """Codename and date of an InRelease file."""
    fields = dict(re.findall(r"^(Codename|Date): (.+?)\s*$", text, re.MULTILINE))
    return fields.get("Codename", ""), fields.get("Date", "")


def error_lines(stderr: str) -> str:
    """The first lines of mmdebstrap's output that tell what went wrong, without those that only follow from them."""
    found = re.findall(r"^(?:E: |(?=dpkg(?:-deb)?: error)|W: .*?(?=GPG error: ))(.+?)\s*$", stderr, re.MULTILINE)
    own = [line for line in found if not re.match(r"Some index files|mmdebstrap failed|apt-get |setup failed|run_chroot", line)]
    return " | ".join(list(dict.fromkeys(own))[:3])


def bootstrap(recipe: Recipe, destination: Path, cache: Path | None) -> dict[str, t.Any]:
    """Make the image and return its description. The process goes into a mount namespace of its own for that, and stays in it."""
    _require_means(recipe, destination)
    try:
        return _bootstrap(recipe, destination, cache)
    except OSError as error:
        raise ImageError(f"Cannot bootstrap {destination}: {reason(error)}. Look at the folder and the file system that it names.") from error


def _require_means(recipe: Recipe, destination: Path) -> None:
    """Fail before anything is changed."""
    if os.geteuid() != 0:
        raise ImageError(f"Cannot bootstrap {destination}: that needs root, to mount the image and to install packages in it. Use become: true.")
    machine = os.uname().machine
    if machine != "x86_64":
        raise ImageError(f"Cannot bootstrap {destination}: this build host is a {machine} machine, x86_64 is needed. Use a cloud image or another build host.")
    require_space(destination.parent, SMALLEST, f"bootstrap a base image for {destination}")
    for program, package in TOOLS.items():
        Command(program, reason="bootstrap a base image", package=package)
    require_keyring(recipe.keyring, f"bootstrap {destination}")


def _bootstrap(recipe: Recipe, destination: Path, cache: Path | None) -> dict[str, t.Any]:
    _namespace.unshare(_namespace.CLONE_NEWNS)
    _namespace.make_mounts_private()
    remove_leftovers(destination, cache)
    with _workplace(destination) as work, _package_folders(destination, work, cache) as own, part_file(destination) as disk:
        table = _create_disk(recipe, disk)
        try:
            description = _fill_disk(recipe, disk, table, work, own)
        except CommandError:
            # A damaged package may be why, and is the better message then.
            _require_intact(own, cache, _cached(own))
            raise
        _require_intact(own, cache, [name for name in _cached(own) if name.partition("_")[0] in description["packages"]])
        if cache:
            _apt_cache.collect(own, cache)
        _boot_loader.write_efi(disk, table.get(ESP), work / "efi")
        disk.chmod(0o644)
        return {"sha256": file_digest(disk), "virtual_size": recipe.virtual_size, **description}


def remove_leftovers(destination: Path, cache: Path | None) -> None:
    """Remove what runs that were killed left of ``destination``; the caller has its lock, so no other run is at work on it."""
    for part in _of_any_run(destination, "part"):
        release_disk(part)
        part.unlink()
    for folder in [*_of_any_run(destination, "work"), *(_of_any_run(_own_folder(destination, cache), "work") if cache else [])]:
        shutil.rmtree(folder)


def _of_any_run(path: Path, kind: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.\d+\.{kind}")
    return [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)] if path.parent.is_dir() else []


def _of_this_run(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _own_folder(destination: Path, cache: Path) -> Path:
    """Where the package folders of the runs for one image are: beside the cache, as both share files through hard links."""
    return cache.with_name(f"{cache.name}-{hashlib.sha256(os.fsencode(destination.resolve())).hexdigest()[:12]}")


@contextlib.contextmanager
def _workplace(destination: Path) -> t.Iterator[Path]:
    """A folder beside the image with a mount point and staged files."""
    work = _of_this_run(destination, "work")
    try:
        for folder in ("root", "efi"):
            (work / folder).mkdir(parents=True)
        yield work
    finally:
        if os.path.ismount(work / "root"):
            _namespace.unmount_lazily(work / "root")
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _package_folders(destination: Path, work: Path, cache: Path | None) -> t.Iterator[Path]:
    """The package folders of this run."""
    own = _of_this_run(_own_folder(destination, cache), "work") if cache else work / "apt"
    try:
        for folder in ("cache/archives/partial", "lists/partial"):
            (own / folder).mkdir(parents=True)
        if cache:
            _apt_cache.fill(cache, own)
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _epoch() -> dict[str, str]:
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    return {"SOURCE_DATE_EPOCH": value, "E2FSPROGS_FAKE_TIME": value} if value.isdigit() else {}


def _create_disk(recipe: Recipe, disk: Path) -> PartitionTable:
    disk.touch(mode=0o600)
    os.truncate(disk, recipe.virtual_size)
    table = write_table(disk, gpt_script(layout(recipe), disk_id=recipe.identity("disk").upper()))
    root, esp = table.get(ROOT), table.get(ESP)
    extended = f"offset={root.start},assume_storage_prezeroed=1,hash_seed={recipe.identity('hash')}"
    ext4 = Command("mkfs.ext4", reason="make the root file system", package="e2fsprogs", environment=_epoch())
    ext4.run("-q", "-F", "-U", recipe.identity("ext4"), "-E", extended, disk, f"{root.size // 1024}k", attempt=f"make the root file system of {disk}")
    vfat = Command("mkfs.vfat", reason="make the EFI system partition", package="dosfstools", environment=_epoch())
    serial, offset = recipe.identity("vfat")[:8], f"--offset={esp.start // table.sector_size}"
    vfat.run("-F", "32", "-s", "1", "-i", serial, offset, disk, str(esp.size // 1024), attempt=f"make the EFI system partition of {disk}")
    return table


def _mount(*arguments: str | Path) -> None:
    Command("mount", reason="mount file systems", package="mount").run(*arguments, attempt=f"mount {arguments[-2]} at {arguments[-1]}")


def _fill_disk(recipe: Recipe, disk: Path, table: PartitionTable, work: Path, own: Path) -> dict[str, t.Any]:
    root = work / "root"
    device = attach_disk(disk, table)
    try:
        _mount("--types", "ext4", "--options", "noatime,nobarrier,commit=600,noinit_itable", partition_node(device, ROOT), root)
    finally:
        release_when_unused(device)
    for source, target in (("cache", "var/cache/apt"), ("lists", "var/lib/apt/lists")):
        (root / target).mkdir(parents=True)
        _mount("--bind", own / source, root / target)
    _install_packages(recipe, root, work)
    _mount("--types", "tmpfs", "--options", "nosuid,mode=0755", "tmpfs", root / "dev")
    _boot_loader.make_devices(root / "dev", device, table)
    _mount("--types", "proc", "proc", root / "proc")
    _mount("--types", "sysfs", "--options", "ro", "sysfs", root / "sys")
    description = _finish_system(recipe, root, own)
    _install_boot_loader(recipe, root, work, device)
    for target in ("sys", "proc", "dev", "var/lib/apt/lists", "var/cache/apt"):
        _namespace.unmount(root / target)
    _base_system.clean(root)
    _base_system.make_apt_folders(root)
    if _epoch():
        _base_system.clamp_times(root, int(_epoch()["SOURCE_DATE_EPOCH"]))
    # Space that was freed since the last commit of the journal is not discarded.
    Command("sync", reason="give freed space back", package="coreutils").run("--file-system", root, attempt=f"write out {disk}")
    Command("fstrim", reason="give freed space back", package="util-linux").run(root, attempt=f"free unused space of {disk}")
    _namespace.remount_read_only(root)
    _namespace.unmount(root)
    return description


def _inside(root: Path) -> t.Callable[[str], Command]:
    environment = {"DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1", **_epoch()}
    return lambda program: Command(program, reason="set up the base image", prefix=(*INSIDE, str(root)), environment=environment)


def _install_packages(recipe: Recipe, root: Path, work: Path) -> None:
    (work / "sources.list").write_text(_base_system.bootstrap_sources(recipe.release, recipe.components, recipe.mirrors, recipe.keyring), encoding="utf-8")
    (work / "settings").mkdir(mode=0o700)
    (work / "settings/apt.conf").write_text(apt_settings(recipe.access, work / "settings"), encoding="utf-8")
    # Shown and not written there (as mmdebstrap would): there may be passwords in it, which must never be on the disk of the image.
    shown = root / SETTINGS_IN_IMAGE
    shown.parent.mkdir(parents=True)
    shown.touch()
    _mount("--bind", work / "settings/apt.conf", shown)
    # INITRD=No: the initramfs is made once, when everything that belongs in it is installed.
    exempt = {"no_proxy": recipe.access.no_proxy} if recipe.access.no_proxy else {}
    environment = {"DEBIAN_FRONTEND": "noninteractive", "INITRD": "No", **exempt, **_epoch()}
    mmdebstrap = Command("mmdebstrap", reason="bootstrap Debian", prefix=CONFINED, environment=environment)
    attempt = f"bootstrap Debian {recipe.release} from {without_password(recipe.mirrors.archive)}"
    try:
        mmdebstrap.run(*mmdebstrap_arguments(recipe, root, work / "sources.list"), attempt=attempt)
    except CommandError as error:
        raise CommandError(f"Cannot {attempt}: {why(error, recipe.keyring)}", **error.details) from error
    _namespace.unmount(shown)


def why(error: CommandError, keyring: Path) -> str:
    """Why mmdebstrap failed and what to do, in sentences, with what apt said."""
    said = error.details.get("stderr", "")
    lines = error_lines(said).rstrip(".")
    failure = explain(said, str(keyring))
    if failure:
        return f"{failure.cause}. {failure.advice}. {lines}".strip()
    remedy = "Check that the mirror has this release and these packages."
    return f"{lines or str(error).rstrip('.')}. {remedy}"


def _finish_system(recipe: Recipe, root: Path, own: Path) -> dict[str, t.Any]:
    inside = _inside(root)
    packages = parse_packages(inside("dpkg-query").run("--show", attempt="list the packages of the image").stdout)
    uuids = {"root": recipe.identity("root"), "esp": recipe.identity("esp")}
    guest = _base_system.configure(root, recipe.release, recipe.components, uuids, recipe.guest)
    inside("systemctl").run("enable", "systemd-networkd.service", attempt="enable systemd-networkd in the image")
    inside("update-initramfs").run("-c", "-k", "all", attempt="make the initramfs of the image")
    # What packages brought is up to date, so the first boot need not do it again (ConditionNeedsUpdate of ldconfig, hwdb and others).
    inside("/usr/lib/systemd/systemd-update-done").run(attempt="mark the image as up to date")
    return {
        "release": recipe.release,
        "arch": "amd64",
        "kernels": sorted(entry.name for entry in (root / "lib/modules").iterdir()),
        "packages": packages,
        "mirror": without_password(recipe.mirrors.archive),
        "guest_mirror": without_password(guest.archive),
        "suites": _suites(recipe, own / "lists"),
    }


def _listed_hashes(own: Path, names: t.Collection[str]) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for file in (own / "lists").glob("*_Packages"):
        hashes.update(parse_hashes(file.read_text(encoding="utf-8", errors="replace"), names))
    return hashes


def _require_intact(own: Path, cache: Path | None, archives: t.Sequence[str]) -> None:
    """Compare packages with the signed lists: apt itself looks only at the size of one that it finds in its cache."""
    hashes = _listed_hashes(own, {name.partition("_")[0] for name in archives})
    bad = [name for name in archives if name in hashes and file_digest(own / "cache/archives" / name) != hashes[name]]
    for name in bad:
        for folder in [own / "cache", *([cache] if cache else [])]:
            (folder / "archives" / name).unlink(missing_ok=True)
    if bad:
        raise IntegrityError(
            f"Cannot bootstrap from damaged packages: {', '.join(bad[:5])} in the package cache did not agree with the signed package lists. "
            "They were removed from the cache; run it again.",
            packages=bad,
        )


def _cached(own: Path) -> list[str]:
    return sorted(file.name for file in (own / "cache/archives").glob("*.deb"))


def _suites(recipe: Recipe, lists: Path) -> dict[str, dict[str, str]]:
    found = {}
    for file in sorted(lists.glob("*_InRelease")):
        codename, date = parse_release(file.read_text(encoding="utf-8", errors="replace"))
        if codename in _base_system.suites_of(recipe.release):
            found[codename] = {"date": date, "sha256": file_digest(file)}
    return found


def _install_boot_loader(recipe: Recipe, root: Path, work: Path, device: str) -> None:
    inside = _inside(root)
    _boot_loader.install_bios(inside, device)
    _boot_loader.write_menu(inside)
    _boot_loader.stage_efi(root, work / "efi", recipe.identity("ext4"))
