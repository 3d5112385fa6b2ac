# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the compilation of kernel modules; dkms and modinfo are played by a table."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _dkms
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._dkms import (
    Dkms,
    DkmsError,
    Places,
    Wanted,
    installed_kernels,
    newest_log,
    newest_source,
    remove_signing_keys,
    signing_keys,
    tail,
    wanted_from,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError

KERNEL = "6.12.117+deb13-cloud-amd64"
MAGIC = f"{KERNEL} SMP preempt mod_unload modversions \n"


class Tools:
    """Stands in for Command: answers by the words of the call and records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.failure = False
        self.magic = {"nvidia-current": MAGIC, "nvidia-current-uvm": MAGIC}

    def __call__(self, _program: str, **_options: t.Any) -> Tools:
        return self

    def run(self, *args: str, attempt: str, accepted: t.Collection[int] = (0,)) -> CommandResult:
        self.calls.append(args)
        if args[0] == "-k":
            text = self.magic.get(args[-1])
            assert 1 in accepted
            return CommandResult(args, 0 if text else 1, text or "", "", 0.1)
        if args[0] == "install" and self.failure:
            raise CommandError(f"Cannot {attempt}: dkms ended with exit code 10: Bad return status.", rc=10)
        return CommandResult(args, 0, "", "", 0.1)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in (f"modules/{KERNEL}/kernel", f"modules/{KERNEL}/build/include", "modules/6.1.0-removed/updates", "state/nvidia-current/550.163.01/build"):
        (tmp_path / name).mkdir(parents=True)
    for version in ("550.163.01", "550.90.07"):
        (tmp_path / f"src/nvidia-current-{version}").mkdir(parents=True)
        (tmp_path / f"src/nvidia-current-{version}/dkms.conf").touch()
    (tmp_path / "src/nvidia-current-999").mkdir()
    (tmp_path / "src/nvidia-current-open-560.0").mkdir()
    return Places(tmp_path / "modules", tmp_path / "src", tmp_path / "state")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    fake = Tools()
    monkeypatch.setattr(_dkms, "Command", fake)
    return fake


WANTED = Wanted("nvidia-current", "550.163.01", ("nvidia-current", "nvidia-current-uvm"), (KERNEL,))


def test_open_ends_are_completed_from_what_is_installed(places: Places) -> None:
    assert wanted_from("nvidia-current", None, ["nvidia-current", "nvidia-current-uvm"], [], places) == WANTED
    assert wanted_from("x", "1", ["x"], ["a", "b"], places) == Wanted("x", "1", ("x",), ("a", "b"))


def test_left_over_folders_are_no_kernels(places: Places) -> None:
    assert installed_kernels(places) == (KERNEL,)


def test_versions_are_compared_as_numbers(places: Places) -> None:
    assert newest_source("nvidia-current", places) == "550.163.01"


def test_no_sources(places: Places) -> None:
    with pytest.raises(DkmsError, match=r"Cannot compile beegfs: there is no .*/beegfs-VERSION with a dkms\.conf\. Install the DKMS package"):
        newest_source("beegfs", places)


def test_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(DkmsError, match=r"holds no kernel with modules of its own\. Install the kernel of the image first"):
        wanted_from("x", "1", ["x"], [], Places(kernels=tmp_path))


@pytest.mark.parametrize(
    ("link", "modules", "missing"),
    [
        (f"550.163.01/{KERNEL}/x86_64", ["nvidia-current", "nvidia-current-uvm"], []),
        (f"550.163.01/{KERNEL}/x86_64", ["nvidia-current"], [KERNEL]),
        (f"550.90.07/{KERNEL}/x86_64", ["nvidia-current", "nvidia-current-uvm"], [KERNEL]),
        (f"550.163.01/{KERNEL}-rt/x86_64", ["nvidia-current", "nvidia-current-uvm"], [KERNEL]),
        (None, ["nvidia-current", "nvidia-current-uvm"], [KERNEL]),
    ],
)
def test_missing(tools: Tools, places: Places, link: str | None, modules: list[str], missing: list[str]) -> None:
    if link:
        # The mark that dkms 3.2.2 leaves when it has installed modules.
        (places.state / f"nvidia-current/kernel-{KERNEL}-x86_64").symlink_to(link)
    tools.magic = dict.fromkeys(modules, MAGIC)
    assert Dkms(places).missing(WANTED) == missing


@pytest.mark.usefixtures("tools")
def test_copies_become_one_file(places: Places) -> None:
    kept = places.state / f"nvidia-current/550.163.01/{KERNEL}/x86_64/module"
    installed = places.kernels / KERNEL / "updates/dkms"
    for folder in (kept, installed):
        folder.mkdir(parents=True)
        (folder / "same.ko.xz").write_text("same")
        (folder / "other.ko.xz").write_text(str(folder))
    (kept / "not-installed.ko.xz").touch()
    Dkms(places).share(WANTED, KERNEL)
    assert (kept / "same.ko.xz").samefile(installed / "same.ko.xz")
    assert not (kept / "other.ko.xz").samefile(installed / "other.ko.xz")
    assert sorted(path.name for path in kept.iterdir()) == ["not-installed.ko.xz", "other.ko.xz", "same.ko.xz"]


@pytest.mark.usefixtures("tools")
def test_copies_stay_where_links_are_impossible(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = places.state / f"nvidia-current/550.163.01/{KERNEL}/x86_64/module/a.ko"
    installed = places.kernels / KERNEL / "updates/dkms/a.ko"
    for path in (kept, installed):
        path.parent.mkdir(parents=True)
        path.write_text("a")

    def refuse(*_paths: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    Dkms(places).share(WANTED, KERNEL)
    assert [path.name for path in kept.parent.iterdir()] == ["a.ko"]


def test_compile(tools: Tools, places: Places) -> None:
    Dkms(places).compile(WANTED, KERNEL)
    assert tools.calls == [("install", "-m", "nvidia-current", "-v", "550.163.01", "-k", KERNEL, "--force")]


def test_no_headers(tools: Tools, places: Places) -> None:
    with pytest.raises(DkmsError, match=r"its headers are not installed\. Install linux-headers-6\.1\.0 without recommended packages"):
        Dkms(places).compile(WANTED, "6.1.0")
    assert tools.calls == []


def test_failure_shows_the_end_of_the_newest_log(tools: Tools, places: Places) -> None:
    tools.failure = True
    folder = places.state / "nvidia-current/550.163.01"
    old, new = folder / "old/make.log", folder / "build/make.log"
    old.parent.mkdir()
    old.write_text("old\n")
    os.utime(old, (1, 1))
    new.write_text("first line\n" + "noise\n" * 50 + "nv-pci.c:237: error: too few arguments to function 'pci_resize_resource'\n")
    with pytest.raises(DkmsError) as caught:
        Dkms(places).compile(WANTED, KERNEL)
    message = str(caught.value)
    assert message.startswith(f"Cannot compile nvidia-current 550.163.01 for kernel {KERNEL}: dkms ended with exit code 10")
    assert message.endswith("too few arguments to function 'pci_resize_resource'")
    assert "first line" not in message
    assert str(new) in message
    assert caught.value.details["rc"] == 10


def test_failure_without_a_log(tools: Tools, places: Places) -> None:
    tools.failure = True
    with pytest.raises(DkmsError, match="or read the output of dkms"):
        Dkms(places).compile(WANTED, KERNEL)
    assert newest_log(WANTED, places) is None
    assert tail(None) == ""


def test_long_lines_are_shortened(tmp_path: Path) -> None:
    (tmp_path / "make.log").write_text("x" * 1000 + "\n" + "y" * 240)
    first, second = tail(tmp_path / "make.log").splitlines()
    assert (first, second) == ("x" * 239 + "…", "y" * 240)


def test_prove(tools: Tools, places: Places) -> None:
    assert Dkms(places).prove(WANTED) == {KERNEL: {"nvidia-current": MAGIC.strip(), "nvidia-current-uvm": MAGIC.strip()}}
    assert tools.calls[0] == ("-k", KERNEL, "-F", "vermagic", "nvidia-current")


@pytest.mark.parametrize(
    ("magic", "reason"),
    [
        ({"nvidia-current": MAGIC}, "missing nvidia-current-uvm; for another kernel none"),
        ({"nvidia-current": MAGIC, "nvidia-current-uvm": "6.12.94 SMP "}, r"missing none; for another kernel nvidia-current-uvm \(compiled for 6\.12\.94\)"),
        ({"nvidia-current": MAGIC, "nvidia-current-uvm": f"{KERNEL}x SMP"}, "for another kernel nvidia-current-uvm"),
    ],
)
def test_modules_that_do_not_fit(tools: Tools, places: Places, magic: dict[str, str], reason: str) -> None:
    tools.magic = magic
    with pytest.raises(DkmsError, match=f"do not fit kernel .*{reason}.* Remove them with dkms remove and compile again"):
        Dkms(places).prove(WANTED)


def test_signing_keys_go(places: Places) -> None:
    for name in ("mok.key", "mok.pub", "dkms_dbversion"):
        (places.state / name).touch()
    assert [path.name for path in signing_keys(places)] == ["mok.key", "mok.pub"]
    remove_signing_keys(places)
    assert signing_keys(places) == []
    assert (places.state / "dkms_dbversion").exists()
