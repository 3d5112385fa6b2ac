# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up refuses what cannot work before it changes anything, and does nothing when there is nothing to do."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_13 = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\nVERSION_ID="24.04"\n'
GIB = 1024


@dataclasses.dataclass
class Machine:
    """A machine made of stand-ins: each program answers as it is told and notes that it was called."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "os-release").write_text(DEBIAN_13, encoding="utf-8")
        self.memory(16 * GIB)
        (self.folder / "loop-control").touch()
        self.namespaces(15000)
        self.program("uname", "echo x86_64")
        self.program("id", 'case "$*" in -u) echo 0 ;; *) echo root ;; esac')
        self.program("df", f"echo Avail; echo {100 * GIB}M")
        for name in ("dpkg-query", "apt-get", "sudo", "pip"):
            self.program(name, "")
        clone = self.folder / "clone"
        for name in ("scripts/setup", "requirements.txt", "requirements-test.txt"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
        shutil.copytree(ROOT / "playbooks/inventory", clone / "playbooks/inventory")

    def program(self, name: str, answer: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.folder}/calls"\n{answer}\n', encoding="utf-8")
        path.chmod(0o755)

    def memory(self, megabytes: int) -> None:
        (self.folder / "meminfo").write_text(f"MemTotal:       {megabytes * 1024} kB\nMemFree: 1 kB\n", encoding="utf-8")

    def namespaces(self, limit: int) -> None:
        (self.folder / "namespaces").write_text(f"{limit}\n", encoding="utf-8")

    def release(self, text: str) -> None:
        (self.folder / "os-release").write_text(text, encoding="utf-8")

    def disk(self, gigabytes: int) -> None:
        self.program("df", f"echo Avail; echo {gigabytes * GIB}M")

    def set_up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder),
            "SETUP_OS_RELEASE": str(self.folder / "os-release"),
            "SETUP_KVM": str(self.folder / "kvm"),
            "SETUP_MEMINFO": str(self.folder / "meminfo"),
            "SETUP_LOOP_CONTROL": str(self.folder / "loop-control"),
            "SETUP_NAMESPACES": str(self.folder / "namespaces"),
        }
        return subprocess.run(
            [str(self.folder / "clone/scripts/setup"), *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def refusal(self, *arguments: str) -> str:
        """The only message, after making sure that nothing was changed."""
        (message,) = self.refusals(*arguments)
        return message

    def refusals(self, *arguments: str) -> list[str]:
        """The messages, after making sure that nothing was changed."""
        result = self.set_up(*arguments)
        assert result.returncode == 1
        assert result.stdout == ""
        calls = (self.folder / "calls").read_text(encoding="utf-8").splitlines() if (self.folder / "calls").exists() else []
        assert [call for call in calls if call.split()[0] in ("apt-get", "pip") or "apt-get" in call] == []
        assert not (self.folder / "clone/.venv").exists()
        return [line.removeprefix("set-up: ").strip() for line in result.stderr.splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if shutil.which("bash") is None:
        pytest.skip("the set-up is for systems with bash")
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("release", "architecture", "named"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nID=debian\nVERSION_ID="11"\n', "x86_64", "Debian GNU/Linux 11 (bullseye) on x86_64"),
        ('PRETTY_NAME="Ubuntu 22.04 LTS"\nID=ubuntu\nVERSION_ID="22.04"\n', "x86_64", "Ubuntu 22.04 LTS on x86_64"),
        ("ID=arch\n", "x86_64", "this system on x86_64"),
        (DEBIAN_13, "aarch64", "Debian GNU/Linux 13 (trixie) on aarch64"),
    ],
)
def test_unsupported_platforms(machine: Machine, release: str, architecture: str, named: str) -> None:
    machine.release(release)
    machine.program("uname", f"echo {architecture}")
    assert machine.refusal("images").startswith(f"Cannot set up {named}: Debian 12, Debian 13 and Ubuntu 24.04 on x86-64 are supported.")


def test_too_little_disk_counts_the_images_asked_for(machine: Machine) -> None:
    """A quarter of disk_size each, and 5 GiB in common."""
    machine.disk(8)
    assert "Cannot build cloud-base: about 10 GiB are needed in " in machine.refusal("images", "cloud-base")
    assert "Cannot build cloud-base hpc-compute: about 18 GiB are needed in " in machine.refusal("images", "cloud-base,hpc-compute")
    whole = machine.refusal("images")
    assert "Cannot build cloud-base cloud-gpu-worker hpc-compute hpc-controller: about 30 GiB are needed in " in whole
    assert whole.endswith("8 GiB are free. Free space there, clone to a larger file system, or build fewer images at a time (make images IMAGES=cloud-base).")
    assert "Cannot build hpc-compute hpc-controller: " in machine.refusal("images", "hpc")


def test_images_that_are_there_need_no_space(machine: Machine) -> None:
    machine.disk(8)
    output = machine.folder / "clone/build/packer/cloud-base/cloud-base/manifest.json"
    output.parent.mkdir(parents=True)
    output.write_text("{}", encoding="utf-8")
    machine.release("ID=arch\n")
    assert machine.refusal("images", "cloud-base").startswith("Cannot set up")


def test_too_little_memory(machine: Machine) -> None:
    machine.memory(2000)
    assert machine.refusal("images").startswith("Cannot build and boot images: this machine has 2000 MiB of memory, 3 GiB are needed")


def test_an_image_that_is_not_known(machine: Machine) -> None:
    message = machine.refusal("images", "cloud-base,hpc-kompute")
    assert message.startswith("Cannot build hpc-kompute: playbooks/inventory/images.yml has no image or group of this name.")
    assert message.endswith("It has: cloud-base cloud-gpu-worker hpc-compute hpc-controller.")


def test_no_sudo(machine: Machine) -> None:
    machine.program("id", 'case "$*" in -u) echo 1000 ;; *) echo user ;; esac')
    (machine.folder / "bin/sudo").unlink()
    if shutil.which("sudo", path="/usr/sbin:/usr/bin:/sbin:/bin"):
        pytest.skip("this machine has a sudo that cannot be hidden")
    message = machine.refusal("images")
    assert message.startswith("Cannot install the packages ")
    assert "this needs root, and there is no sudo. Run `apt-get install --no-install-recommends " in message


def test_sudo_that_asks_without_a_terminal(machine: Machine) -> None:
    machine.program("id", 'case "$*" in -u) echo 1000 ;; *) echo user ;; esac')
    machine.program("sudo", "exit 1")
    assert "sudo asks for a password, and there is no terminal to ask on." in machine.refusal("images")


@pytest.mark.parametrize(
    ("release", "arguments", "wanted"),
    [
        ("12", ("test",), True),
        ("12", ("images", "cloud-base", "-e image_backend=packer"), True),
        ("12", ("images", "cloud-base"), False),
        ("13", ("images", "cloud-base", "-e image_backend=packer"), False),
        ("13", ("test",), False),
    ],
)
def test_packer_is_installed_where_there_is_a_package_of_it(machine: Machine, release: str, arguments: tuple[str, ...], wanted: bool) -> None:
    machine.release(DEBIAN_13.replace("13", release))
    machine.program("id", 'case "$*" in -u) echo 1000 ;; *) echo user ;; esac')
    machine.program("sudo", "exit 1")
    assert (" packer " in f"{machine.refusal(*arguments)} ".replace(":", " ")) == wanted


def test_ubuntu_without_kvm_says_so_at_once(machine: Machine) -> None:
    machine.release(UBUNTU)
    message = machine.refusal("images")
    assert message.startswith("Cannot boot images on this machine: root may not use /dev/kvm, and Ubuntu 24.04's QEMU 8.2 is too old")
    assert "make images EXTRA='-e image_boot=false'" in message


def test_ubuntu_without_kvm_may_build_without_the_boot_proof(machine: Machine) -> None:
    machine.release(UBUNTU)
    machine.program("apt-get", "exit 100")
    assert "apt-get update failed" in machine.set_up("images", "", "-e image_boot=false").stderr


def test_no_loop_devices(machine: Machine) -> None:
    (machine.folder / "loop-control").unlink()
    assert machine.refusal("images").startswith("Cannot open images on this machine: it has no loop devices (/dev/loop-control).")


def test_no_user_namespaces(machine: Machine) -> None:
    machine.namespaces(0)
    assert machine.refusal("images").startswith("Cannot open images on this machine: user namespaces are switched off.")


def test_everything_that_is_wrong_is_told_at_once(machine: Machine) -> None:
    machine.disk(8)
    machine.memory(2000)
    machine.release("ID=arch\n")
    machine.namespaces(0)
    machine.program("id", 'case "$*" in -u) echo 1000 ;; *) echo user ;; esac')
    machine.program("sudo", "exit 1")
    told = machine.refusals("images")
    started = (
        "Cannot build cloud-base ",
        "Cannot set up this system ",
        "Cannot build and boot images: ",
        "Cannot open images ",
        "Cannot install the packages ",
    )
    assert [message for message, start in zip(told, started, strict=True) if not message.startswith(start)] == []
    assert "sudo asks for a password" in told[4]


def test_wrong_use(machine: Machine) -> None:
    assert machine.refusal("everything").startswith("Usage: scripts/setup images")


def prepared(machine: Machine, goal: str, extra: str = "") -> t.Callable[[], subprocess.CompletedProcess[str]]:
    """A machine on which the set-up was made: all packages there, and a stamp that fits."""
    clone = machine.folder / "clone"
    machine.program("dpkg-query", 'shift 2; for name; do echo "installed $name"; done')
    for name in (".venv/bin/ansible-playbook", ".venv/collections/ansible_collections/hyperscaler/images/galaxy.yml"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("", encoding="utf-8")
        (clone / name).chmod(0o755)
    script = (clone / "scripts/setup").read_text(encoding="utf-8").rpartition("\nmain\n")[0]
    helper = machine.folder / "clone/scripts/stamp"
    helper.write_text(script + '\nprintf "%s" "$(digest)$(boots_wanted && echo \' boots\')"\n', encoding="utf-8")
    environment = {"PATH": f"{machine.folder}/bin:/usr/bin:/bin", "SETUP_OS_RELEASE": str(machine.folder / "os-release")}
    stamp = subprocess.run(["bash", helper, goal, "", extra], env=environment, capture_output=True, text=True, check=True).stdout
    (clone / f".venv/.setup-{goal}").write_text(stamp, encoding="utf-8")
    return lambda: machine.set_up(goal, "", extra)


@pytest.mark.parametrize("goal", ["images", "test"])
def test_a_second_call_does_nothing(machine: Machine, goal: str) -> None:
    again = prepared(machine, goal)
    result = again()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    calls = {call.split()[0] for call in (machine.folder / "calls").read_text(encoding="utf-8").splitlines()}
    assert calls <= {"dpkg-query", "df", "id", "uname"}


def test_changed_requirements_undo_the_shortcut(machine: Machine) -> None:
    again = prepared(machine, "images")
    with (machine.folder / "clone/requirements.txt").open("a", encoding="utf-8") as requirements:
        requirements.write("# changed\n")
    machine.release("ID=arch\n")
    assert again().stderr.startswith("set-up: Cannot set up")


def test_a_package_that_went_away_undoes_the_shortcut(machine: Machine) -> None:
    again = prepared(machine, "images")
    machine.program("dpkg-query", 'shift 2; for name; do [[ $name == xorriso ]] || echo "installed $name"; done')
    machine.program("id", 'case "$*" in -u) echo 1000 ;; *) echo user ;; esac')
    machine.program("sudo", "exit 1")
    assert again().stderr.startswith("set-up: Cannot install the packages xorriso: sudo asks for a password")
