# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the look at a booted system."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _booted_system
from ansible_collections.hyperscaler.images.plugins.module_utils._booted_system import (
    AllowedUnit,
    BootedSystem,
    HostKey,
    RootDisk,
    inspect_system,
    judge,
    parse_boot_time,
    parse_failed_units,
    parse_host_key,
    read_disk,
    read_host_keys,
    read_image_document,
    require_reasons,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError

# The public half of a key pair that was made for this test; ssh-keygen -lf prints the fingerprint.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK6RxqvJS2xeh/kBmQKdfuDaUBuv94zOCWYJeEV73G9b root@vm\n"
FINGERPRINT = "SHA256:FKg2edEm+CekREqzXVHTSvTPz4ckoT2efPAxjom2TJc"
# Captured from cloud-init 25.1.4: `cloud-init status --wait --format json`, shortened to what is read.
DONE = {
    "status": "done",
    "extended_status": "done",
    "errors": [],
    "recoverable_errors": {},
    "datasource": "nocloud",
    "boot_status_code": "enabled-by-generator",
}
# Captured from systemd 257.
FAILED_UNITS = '[{"unit":"nvidia.service","load":"loaded","active":"failed","sub":"failed","description":"NVIDIA Persistence Daemon"}]\n'
GOOD = BootedSystem(
    cloud_init=DONE,
    system_state="running",
    failed_units=(),
    machine_id="0123456789abcdef0123456789abcdef",
    boot_time=1000.0,
    kernel="6.12.117+deb13-cloud-amd64",
    firmware="bios",
    host_keys=(HostKey("/etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519", "SHA256:x", 1010.0),),
    root=RootDisk("/dev/vda1", 19 << 30, 20 << 30, 21 << 30, 21 << 30),
    image={"image": "x"},
)


def failed(**changes: t.Any) -> dict[str, str]:
    return {check.name: check.detail for check in judge(dataclasses.replace(GOOD, **changes)) if not check.passed}


def test_a_good_system_passes_everything() -> None:
    assert failed() == {}
    assert [check.name for check in judge(GOOD)] == ["cloud_init", "units", "machine_id", "host_keys", "root_grown", "image_document"]


@pytest.mark.parametrize(
    ("changes", "name", "detail"),
    [
        ({"cloud_init": {**DONE, "status": "error", "errors": ["no module x"]}}, "cloud_init", "cloud-init is done (no module x)."),
        ({"cloud_init": {"status": "disabled"}}, "cloud_init", "cloud-init is disabled."),
        ({"cloud_init": {}}, "cloud_init", "cloud-init is in an unknown state."),
        (
            {"failed_units": ({"unit": "a.service", "journal": ["one", "two"]},)},
            "units",
            "Units failed: a.service (one | two). When the hardware that they need is missing in a virtual machine, "
            "allow them in image_boot_allowed: {unit: a.service, reason: …}.",
        ),
        ({"system_state": "degraded"}, "units", "The system is degraded; no unit failed."),
        ({"machine_id": ""}, "machine_id", "The machine id is 'empty'."),
        ({"machine_id": "uninitialized"}, "machine_id", "The machine id is 'uninitialized'."),
        ({"host_keys": ()}, "host_keys", "There is no SSH host key."),
        (
            {"host_keys": (HostKey("/k.pub", "ssh-rsa", "SHA256:x", 100.0),)},
            "host_keys",
            "SSH host keys are older than this boot, so they came with the image: /k.pub.",
        ),
        ({"root": None}, "root_grown", "The disk of the root file system was not found."),
        (
            {"root": RootDisk("/dev/vda1", 2 << 30, 2 << 30, 3 << 30, 20 << 30)},
            "root_grown",
            "The root partition does not reach the end of the disk (/dev/vda1: disk 20480 MiB, partition 2048 MiB, file system 2048 MiB).",
        ),
        (
            {"root": RootDisk("/dev/vda1", 2 << 30, 20 << 30, 20 << 30, 20 << 30)},
            "root_grown",
            "The root file system does not fill its partition (/dev/vda1: disk 20480 MiB, partition 20480 MiB, file system 2048 MiB).",
        ),
        ({"image": None, "image_error": "no such file"}, "image_document", "/etc/hyperscaler-image.json cannot be read: no such file."),
    ],
)
def test_each_check_alone(changes: dict[str, t.Any], name: str, detail: str) -> None:
    assert failed(**changes) == {name: detail}


def test_errors_that_cloud_init_recovered_from_are_named_and_pass() -> None:
    status = {**DONE, "extended_status": "degraded done", "recoverable_errors": {"WARNING": ["Invalid cloud-config"]}}
    check = judge(dataclasses.replace(GOOD, cloud_init=status))[0]
    assert check.passed
    assert check.detail == "cloud-init is degraded done (WARNING: Invalid cloud-config)."


def units(*names: str) -> tuple[dict[str, t.Any], ...]:
    return tuple({"unit": name, "journal": ["no such device"]} for name in names)


@pytest.mark.parametrize("unit", ["opensm.service", "opensm", "opensm*", "*"])
def test_a_unit_that_is_allowed_may_fail_and_degrade_the_system(unit: str) -> None:
    system = dataclasses.replace(GOOD, system_state="degraded", failed_units=units("opensm.service"))
    checks = judge(system, [AllowedUnit(unit, "There is no InfiniBand card.")])
    assert [check.name for check in checks if not check.passed] == []
    assert checks[1].detail == "The system is degraded; no other unit failed. opensm.service failed, which is allowed: There is no InfiniBand card."


def test_other_units_and_states_still_fail() -> None:
    allowed = [AllowedUnit("opensm.service", "no card")]
    both = judge(dataclasses.replace(GOOD, system_state="degraded", failed_units=units("opensm.service", "ssh.service")), allowed)[1]
    assert not both.passed
    assert both.detail.startswith("Units failed: ssh.service (no such device). ")
    assert "image_boot_allowed: {unit: ssh.service, reason: …}." in both.detail
    assert not judge(dataclasses.replace(GOOD, system_state="starting", failed_units=units("opensm.service")), allowed)[1].passed
    assert not judge(dataclasses.replace(GOOD, system_state="degraded"), allowed)[1].passed
    assert not judge(dataclasses.replace(GOOD, system_state="degraded", failed_units=units("opensm.timer")), allowed)[1].passed


def test_a_unit_that_is_allowed_without_need_is_named_and_passes() -> None:
    check = judge(GOOD, [AllowedUnit("opensm.service", "no card")])[1]
    assert check.passed
    assert check.detail.endswith("Allowed to fail without need, so remove it from what is allowed: opensm.service.")


@pytest.mark.parametrize(
    ("unit", "reason", "message"), [("a.service", " ", "Cannot allow a.service to fail: the reason is empty"), ("", "x", "its name is empty")]
)
def test_an_allowed_unit_needs_name_and_reason(unit: str, reason: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        require_reasons([AllowedUnit(unit, reason)])


def test_a_system_without_cloud_init_passes() -> None:
    assert failed(cloud_init=None) == {}


def test_parse_boot_time() -> None:
    assert parse_boot_time("cpu 1 2\nbtime 1795231722\nprocesses 9\n") == 1795231722.0
    assert parse_boot_time("") == 0.0


def test_parse_host_key() -> None:
    key = parse_host_key("/k.pub", PUBLIC_KEY, 5.0)
    assert key == HostKey("/k.pub", "ssh-ed25519", FINGERPRINT, 5.0)


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 ###"])
def test_what_is_no_host_key(text: str) -> None:
    assert parse_host_key("/k.pub", text, 5.0) is None


def test_host_keys_are_read_with_their_age(tmp_path: Path) -> None:
    folder = tmp_path / "etc/ssh"
    folder.mkdir(parents=True)
    (folder / "ssh_host_ed25519_key.pub").write_text(PUBLIC_KEY, encoding="ascii")
    (folder / "ssh_host_rsa_key.pub").write_text("", encoding="ascii")
    os.utime(folder / "ssh_host_ed25519_key.pub", (77, 77))
    assert [(key.fingerprint, key.created) for key in read_host_keys(tmp_path)] == [(FINGERPRINT, 77.0)]


@pytest.mark.parametrize(("content", "error"), [(None, "No such file"), ("{", "it is not JSON"), ("[]", "it is not a JSON object")])
def test_what_is_no_image_document(tmp_path: Path, content: str | None, error: str) -> None:
    (tmp_path / "etc").mkdir()
    if content is not None:
        (tmp_path / "etc/hyperscaler-image.json").write_text(content, encoding="utf-8")
    document, message = read_image_document(tmp_path)
    assert document is None
    assert error in message


def test_the_sizes_of_a_partition_and_its_disk(tmp_path: Path) -> None:
    partition = tmp_path / "devices/vda/vda1"
    partition.mkdir(parents=True)
    (tmp_path / "devices/vda/size").write_text("8388608\n", encoding="ascii")
    (partition / "size").write_text("8126464\n", encoding="ascii")
    (partition / "start").write_text("262144\n", encoding="ascii")
    (tmp_path / "vda1").symlink_to(partition)
    assert read_disk(tmp_path / "vda1", "/dev/vda1", 7) == RootDisk("/dev/vda1", 7, 8126464 * 512, 8388608 * 512, 4 << 30)
    assert read_disk(tmp_path / "vdb1", "/dev/vdb1", 7) is None


def test_parse_failed_units() -> None:
    assert parse_failed_units(FAILED_UNITS) == [{"unit": "nvidia.service", "description": "NVIDIA Persistence Daemon"}]
    assert parse_failed_units("[]\n") == []


class FakeCommand:
    """Answers like the programs of a booted system."""

    answers: t.ClassVar[dict[str, str]] = {}

    def __init__(self, program: str, **_: t.Any) -> None:
        if program not in self.answers:
            raise ToolError(f"{program} was not found")
        self._answer = self.answers[program]

    def run(self, *arguments: str, **_: t.Any) -> CommandResult:
        answer = "running\n" if "is-system-running" in arguments else self._answer
        return CommandResult(arguments, 0, answer, "", 0.1)

    def run_json(self, *arguments: str, **options: t.Any) -> t.Any:
        return json.loads(self.run(*arguments, **options).stdout)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    answers = {
        "cloud-init": json.dumps(DONE),
        "systemctl": FAILED_UNITS,
        "journalctl": "first\nsecond\n",
        "findmnt": '{"filesystems": [{"source": "/dev/vda1"}]}',
    }
    monkeypatch.setattr(FakeCommand, "answers", answers)
    monkeypatch.setattr(_booted_system, "Command", FakeCommand)
    return answers


def test_inspect_system(tmp_path: Path, programs: dict[str, str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    system = inspect_system(10, tmp_path)
    assert system.cloud_init == DONE
    assert system.system_state == "running"
    assert system.failed_units == ({"unit": "nvidia.service", "description": "NVIDIA Persistence Daemon", "journal": ["first", "second"]},)
    assert (system.machine_id, system.firmware, system.root) == ("0123456789abcdef0123456789abcdef", "uefi", None)
    del programs["cloud-init"]
    assert inspect_system(10, tmp_path).cloud_init is None


def test_a_cloud_init_that_does_not_answer(tmp_path: Path, programs: dict[str, str]) -> None:
    programs["cloud-init"] = "Traceback"
    with pytest.raises(ImageError, match=r"Cannot read the status of cloud-init: .* It said: Traceback"):
        inspect_system(10, tmp_path)
