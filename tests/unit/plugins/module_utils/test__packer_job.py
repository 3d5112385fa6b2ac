# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of packer_build's work, with a stand-in for Packer."""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._packer import PackerError
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_job import Job, Work, ssh_port, without_secrets

# Makes the folder that the variable output_directory names, with one file, and tells of it as Packer does.
GOOD = """
folder=$(sed -n 's/.*"output_directory": "\\([^"]*\\)".*/\\1/p' "$TMPDIR/variables.pkrvars.json")
mkdir "$folder"; echo content >"$folder/x.qcow2"
echo "10,,ui,say,==> qemu.x: Starting VM%!(PACKER_COMMA) booting disk image"
echo "30,,ui,say,==> qemu.x: Provisioning with Ansible..."
echo "31,qemu.x,artifact-count,1"; echo "31,qemu.x,artifact,0,builder-id,b"; echo "31,qemu.x,artifact,0,file,0,$folder/x.qcow2"; echo "31,qemu.x,artifact,0,end"
"""
BAD = """
folder=$(sed -n 's/.*"output_directory": "\\([^"]*\\)".*/\\1/p' "$TMPDIR/variables.pkrvars.json")
mkdir "$folder"
echo "10,qemu.x,error,it went wrong"; exit 1
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    template = tmp_path / "template"
    template.mkdir()
    (template / "image.pkr.hcl").write_text("build {}\n", encoding="utf-8")
    return Job(command="build", executable=str(tmp_path / "packer"), template=template, output=tmp_path / "results/image", log=tmp_path / "log")


@pytest.fixture
def packer(tmp_path: Path) -> t.Callable[..., None]:
    def make(body: str, version: str = "1.6.6") -> None:
        program = tmp_path / "packer"
        text = f'#!/bin/bash\n[[ $2 == version ]] && {{ echo "1,,version,{version}"; exit; }}\necho "$*" >>{tmp_path}/calls\n{body}\n'
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)

    return make


def do(job: Job, **changes: t.Any) -> tuple[dict[str, t.Any], list[str]]:
    shown: list[str] = []
    return Work(dataclasses.replace(job, **changes), shown.append, None).do(), shown


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_build(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(GOOD)
    result, shown = do(job, only=("qemu.*",), force=True, parallel_builds=2)
    assert result["changed"]
    assert result["msg"].startswith("Packer 1.6.6 built qemu.x in ")
    assert result["artifacts"] == [
        {"build": "qemu.x", "builder_id": "b", "id": "", "description": "", "files": [f"{tmp_path}/results/image/x.qcow2"]},
    ]
    assert result["stages"] == {"start": 20, "provision": 0}
    assert names(tmp_path / "results") == [".image.packer.lock", "image"]
    assert names(tmp_path / "results/image") == ["packer_build.json", "x.qcow2"]
    assert any(line.endswith("provision qemu.x: Provisioning with Ansible...") for line in shown)
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines() == shown
    assert "build -on-error=cleanup -force -parallel-builds=2 -only=qemu.* -var-file=" in (tmp_path / "calls").read_text(encoding="utf-8")


def test_the_same_again_is_not_built(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(GOOD)
    first, shown = do(job, variables={"password": "a", "cpus": 2})
    assert shown[0].endswith(f"Building, because {job.output} was not built yet.")
    again, _shown = do(job, variables={"password": "a", "cpus": 2})
    assert (again["changed"], again["artifacts"]) == (False, first["artifacts"])
    assert again["msg"] == f"{job.output} is up to date."
    assert '"a"' not in (tmp_path / "results/image/packer_build.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda job: dataclasses.replace(job, variables={"cpus": 4}), "variables.cpus changed from 2 to 4"),
        (lambda job: (job.template / "image.pkr.hcl").write_text("build {} # x\n", encoding="utf-8") and job, "template.image.pkr.hcl changed from "),
        (lambda job: (job.output / "x.qcow2").unlink() or job, "x.qcow2 is missing"),
        (lambda job: dataclasses.replace(job, only=("a",)), "builds.only changed from [] to "),
    ],
)
def test_what_makes_it_build_again(job: Job, packer: t.Callable[..., None], change: t.Callable[[Job], Job], reason: str) -> None:
    packer(GOOD)
    job = dataclasses.replace(job, variables={"cpus": 2})
    do(job)
    result, shown = do(change(job))
    assert result["changed"]
    assert reason in shown[0]


def test_a_failure_leaves_the_former_result(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(GOOD)
    do(job)
    packer(BAD)
    with pytest.raises(PackerError) as error:
        do(job, force=True)
    assert str(error.value).splitlines()[0] == f"Cannot build {job.template} with Packer: qemu.x: it went wrong."
    assert f"The whole log: {tmp_path}/log" in str(error.value)
    assert (error.value.details["kind"], error.value.details["rc"]) == ("packer_failed", 1)
    assert names(tmp_path / "results") == [".image.packer.lock", "image"]
    assert (tmp_path / "results/image/x.qcow2").read_text(encoding="utf-8") == "content\n"


@pytest.mark.parametrize(("on_error", "option"), [("abort", "abort"), ("keep", "abort")])
def test_files_of_a_failure_stay_when_asked(job: Job, packer: t.Callable[..., None], tmp_path: Path, on_error: str, option: str) -> None:
    packer(BAD)
    with pytest.raises(PackerError) as error:
        do(job, on_error=on_error)
    assert (tmp_path / "results/.image.packer").is_dir()
    assert f"-on-error={option} " in (tmp_path / "calls").read_text(encoding="utf-8")
    assert ("No virtual machine was left to be kept." in str(error.value)) == (on_error == "keep")
    packer(GOOD)
    assert do(job)[0]["changed"]
    assert names(tmp_path / "results") == [".image.packer.lock", "image"]


def test_no_artifact_is_a_failure_though_packer_says_that_all_is_well(job: Job, packer: t.Callable[..., None]) -> None:
    packer('echo "1,,ui,say,==> Builds finished but no artifacts were created."; exit 0')
    with pytest.raises(PackerError, match="Packer built nothing"):
        do(job)


def test_two_builds_at_once(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(GOOD)
    (tmp_path / "results").mkdir()
    with (tmp_path / "results/.image.packer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another run of Packer builds it now"):
            do(job)


@pytest.mark.parametrize(("version", "calls"), [("1.6.6", ["build"]), ("1.16.0", ["init", "build"])])
def test_plugins_are_fetched_where_they_are_not_built_in(job: Job, packer: t.Callable[..., None], tmp_path: Path, version: str, calls: list[str]) -> None:
    packer(f"[[ $2 == init ]] && exit\n{GOOD}", version)
    result, _shown = do(job, plugin_folder=tmp_path / "plugins")
    assert [line.split()[1] for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()] == calls
    assert ("has its plugins built in and no init" in result["init"]) == (version == "1.6.6")


def test_init_alone(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer('[[ $2 == init ]] && touch "$PACKER_PLUGIN_PATH/packer-plugin-qemu"', "1.16.0")
    plugins = tmp_path / "plugins"
    assert do(job, command="init", plugin_folder=plugins)[0]["changed"]
    assert not do(job, command="init", plugin_folder=plugins)[0]["changed"]


def test_validate(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer('echo "1,,ui,say,Warning: A checksum of none\\n\\n  on a line 1:"')
    result, _shown = do(job, command="validate")
    assert result["msg"] == f"{job.template} is valid for Packer 1.6.6."
    assert result["warnings_of_packer"] == ["Warning: A checksum of none\n\n  on a line 1:"]
    assert not (tmp_path / "results").exists()


def test_a_failure_names_the_file_of_the_template(job: Job, packer: t.Callable[..., None]) -> None:
    """An older Packer reads a view of the template without required_plugins."""
    (job.template / "image.pkr.hcl").write_text("packer {\n  required_plugins {}\n}\nbuild {}\n", encoding="utf-8")
    packer('echo "1,,ui,error,Error: Unknown source type x\\n\\n  on ${@: -1}/image.pkr.hcl line 14:\\n"; exit 1')
    with pytest.raises(PackerError) as caught:
        do(job, command="validate")
    assert f"on {job.template}/image.pkr.hcl line 14" in str(caught.value)
    assert "Packer 1.6.6 has its plugins built in and takes no others." in str(caught.value)


def test_format(job: Job, packer: t.Callable[..., None]) -> None:
    packer("exit 0")
    assert do(job, command="format")[0]["msg"] == f"The format of {job.template} is Packer's."
    packer("echo '-  a'; exit 3")
    with pytest.raises(PackerError, match=r"(?s)is not Packer.s. Run `packer fmt .*-  a"):
        do(job, command="format")


def test_the_log_of_packer_is_kept_for_its_owner(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(f'echo secret >"$PACKER_LOG_PATH"\n{GOOD}')
    do(job)
    assert not (tmp_path / "log.debug").exists()
    do(job, debug=True, force=True)
    assert (tmp_path / "log.debug").read_text(encoding="utf-8") == "secret\n"
    assert (tmp_path / "log.debug").stat().st_mode & 0o777 == 0o600


def test_the_console_is_part_of_the_message(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "serial").write_text("grub rescue>\n", encoding="utf-8")
    panic = f'echo "[    4.1] Kernel panic - not syncing: VFS" >{tmp_path}/serial'
    packer(panic + '; echo "1,,ui,error,==> qemu.x: Timeout waiting for SSH."; echo "2,qemu.x,error,Timeout waiting for SSH."; exit 1')
    with pytest.raises(PackerError) as error:
        do(job, serial_log=tmp_path / "serial")
    assert error.value.details["kind"] == "kernel_panic"
    assert "Last lines of the console" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": Path("/gone")}, "Cannot use the template /gone: it is no folder with files"),
        ({"var_files": (Path("/gone.hcl"),)}, "the file /gone.hcl does not exist. Correct var_files."),
        ({"inputs": (Path("/gone.iso"),)}, "the file /gone.iso does not exist. Correct inputs."),
        ({"executable": "/gone/packer"}, "/gone/packer is required to build images with the packer backend"),
    ],
)
def test_what_cannot_work(job: Job, changes: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ImageError) as error:
        do(job, **changes)
    assert message in str(error.value)


def test_the_disk_of_a_machine_that_was_kept_is_not_taken_away(job: Job, packer: t.Callable[..., None], tmp_path: Path) -> None:
    packer(GOOD)
    staging = tmp_path / "results/.image.packer"
    staging.mkdir(parents=True)
    with subprocess.Popen(["bash", "-c", 'exec -a qemu-system-x bash -c "read" "$0"', f"file={staging}/disk.raw"], stdin=subprocess.PIPE) as kept:
        assert kept.stdin is not None
        with pytest.raises(BusyError, match=f"End it with: kill {kept.pid}"):
            do(job)
        kept.stdin.close()
    assert do(job)[0]["changed"]


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        (["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:2681-:22"], 2681),
        (["-netdev", "user,id=user.0,hostfwd=tcp::4012-:22"], 4012),
        (["-m", "64"], 0),
    ],
)
def test_ssh_port(arguments: list[str], port: int) -> None:
    assert ssh_port(arguments) == port


def test_secrets_are_kept_as_digests_that_still_show_a_change() -> None:
    first, second = without_secrets("web_password", "a"), without_secrets("web_password", "b")
    assert first.startswith("sha256:")
    assert first != second
    assert without_secrets("web_port", 80) == 80
    assert without_secrets("web_password", "") == ""
