# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the program that divides GPUs with MIG at boot; nvidia-smi is played by the one of the Molecule scenario."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import model_of
from ansible_collections.hyperscaler.images.plugins.module_utils._mig import document, layout_from

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "roles/nvidia_gpu_drivers/files/usr/local/sbin/hyperscaler_mig.py"
FAKE = ROOT / "extensions/molecule/nvidia_gpu_drivers/files/fake_nvidia_smi.py"

spec = importlib.util.spec_from_file_location("hyperscaler_mig", PROGRAM)
assert spec is not None
assert spec.loader is not None
mig = importlib.util.module_from_spec(spec)
sys.modules["hyperscaler_mig"] = mig
spec.loader.exec_module(mig)


class Machine:
    """A machine with GPUs, a layout and the program."""

    def __init__(self, folder: Path) -> None:
        self.state, self.layout, self.stamp = folder / "gpus.json", folder / "mig.json", folder / "state/restarted"
        self.smi = folder / "nvidia-smi"
        self.smi.write_text(f'#!/bin/sh\nFAKE_GPUS={self.state} exec {sys.executable} {FAKE} "$@"\n')
        self.smi.chmod(0o755)
        self.pci = folder / "pci"
        self.restarts = 0
        self.warnings: list[str] = []

    def has(self, *gpus: dict[str, t.Any], **more: t.Any) -> None:
        self.state.write_text(json.dumps({"gpus": gpus, **more}))

    def wants(self, *entries: dict[str, t.Any], reboot: bool = True) -> None:
        self.layout.write_text(json.dumps({**document(layout_from(list(entries))), "reboot": reboot}))

    def gpus(self) -> list[dict[str, t.Any]]:
        found: list[dict[str, t.Any]] = json.loads(self.state.read_text())["gpus"]
        return found

    def calls(self) -> list[list[str]]:
        found: list[list[str]] = json.loads(self.state.read_text()).get("calls", [])
        return found

    def changes(self) -> list[list[str]]:
        """The calls that change something, none of those before this one."""
        flags = {"-mig", "-cgi", "-dgi", "-dci", "--gpu-reset"}
        return [call for call in self.calls() if flags & set(call)]

    def apply(self) -> list[str]:
        smi = self.asked()
        done: list[str] = mig.apply(smi, mig.read_layout(self.layout), self.stamp, self._restart)
        self.warnings = smi.warnings
        return done

    def apply_most(self) -> tuple[list[str], str]:
        """What was done where not all could be, and what is said of the rest."""
        with pytest.raises(mig.UnfinishedError) as caught:
            self.apply()
        return caught.value.done, str(caught.value)

    def differences(self) -> list[str]:
        found: list[str] = mig.differences(self.asked(), mig.read_layout(self.layout))
        return found

    def slurm(self) -> dict[str, int]:
        found: dict[str, int] = mig.slurm_types(self.asked())
        return found

    def asked(self) -> t.Any:
        """nvidia-smi of this machine."""
        return mig.Smi(str(self.smi), self.pci)

    def _restart(self) -> None:
        self.restarts += 1


def gpu(model: str = "h200", reset: str = "none", mode: str = "Disabled", **more: t.Any) -> dict[str, t.Any]:
    found = model_of(model)
    profiles = found.mig.profiles if found.mig else ()
    return {
        "name": found.product,
        "device": found.pci_ids[0],
        "mode": mode if found.mig else "[N/A]",
        "pending": mode if found.mig else "[N/A]",
        "reset": reset,
        "profiles": {item.name: [item.identifier, item.count, item.memory, list(item.starts), item.gib or 10.0] for item in profiles},
        "instances": [],
        "computes": [],
        **more,
    }


def names(one: dict[str, t.Any]) -> list[str]:
    return sorted(name for name, _number, _start in one["instances"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


BALANCED = {"model": "h200", "instances": {"1g.18gb": 2, "2g.35gb": 1, "3g.71gb": 1}}


def test_boot_divides_and_the_next_run_changes_nothing(machine: Machine) -> None:
    machine.has(gpu(), gpu())
    machine.wants(BALANCED)
    assert len(machine.differences()) == 2
    done = machine.apply()
    assert done[0] == "GPU 0 (NVIDIA H200) was divided into 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb."
    for one in machine.gpus():
        assert (one["mode"], names(one), len(one["computes"])) == ("Enabled", ["1g.18gb", "1g.18gb", "2g.35gb", "3g.71gb"], 4)
    assert machine.differences() == []
    before = machine.changes()
    assert machine.apply()[1] == "GPU 1 (NVIDIA H200) has 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb already."
    assert machine.changes() == before


def test_instances_are_placed_where_all_of_them_fit(machine: Machine) -> None:
    """The driver alone puts a 3g where four 1g no longer fit beside it."""
    machine.has(gpu())
    machine.wants({"model": "h200", "instances": {"3g.71gb": 1, "1g.18gb": 4}})
    machine.apply()
    assert machine.changes()[-1][4] == "9:4,19:3,19:2,19:1,19:0"


def test_another_layout_replaces_the_instances(machine: Machine) -> None:
    machine.has(gpu(mode="Enabled", instances=[["7g.141gb", 1, 0]], computes=[1]))
    machine.wants(BALANCED)
    assert machine.differences() == ["GPU 0 (NVIDIA H200) has 7g.141gb, not 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb."]
    machine.apply()
    assert names(machine.gpus()[0]) == ["1g.18gb", "1g.18gb", "2g.35gb", "3g.71gb"]


def test_instance_without_compute_instance_is_made_again(machine: Machine) -> None:
    machine.has(gpu(mode="Enabled", instances=[["7g.141gb", 1, 0]]))
    machine.wants({"model": "h200", "instances": {"7g.141gb": 1}})
    machine.apply()
    assert machine.gpus()[0]["computes"] == [1]


def test_mig_is_turned_off(machine: Machine) -> None:
    machine.has(gpu(mode="Enabled", instances=[["7g.141gb", 1, 0]], computes=[1]))
    machine.wants({"model": "h200", "instances": {}})
    assert machine.apply() == ["GPU 0 (NVIDIA H200) is whole."]
    assert (machine.gpus()[0]["mode"], machine.gpus()[0]["instances"]) == ("Disabled", [])


def test_only_named_gpus_are_touched(machine: Machine) -> None:
    machine.has(gpu(), gpu(), gpu("t4"))
    machine.wants({**BALANCED, "devices": [1]})
    machine.apply()
    assert [one["mode"] for one in machine.gpus()] == ["Disabled", "Enabled", "[N/A]"]


def test_gpus_of_other_models_are_left_alone(machine: Machine) -> None:
    machine.has(gpu("t4"))
    machine.wants(BALANCED)
    assert machine.apply() == ["No GPU here is in the layout. Here are Tesla T4 (1EB8)."]
    assert machine.changes() == []
    assert machine.differences() == ["No GPU here is in the layout. Here are Tesla T4 (1EB8)."]


def test_a_layout_that_fits_no_gpu_is_not_well(machine: Machine) -> None:
    """A GPU that could be divided, but was not because of its id, is what someone has to look at."""
    machine.has(gpu("h100-80gb", device="2399"))
    machine.wants(BALANCED)
    said = (
        "No GPU here is in the layout. Here are NVIDIA H100 80GB HBM3 (2399). The layout is for h200 (2335). "
        "Add an entry, or add the PCI id to pci_ids of the entry whose model the GPU is."
    )
    assert machine.differences() == [said]
    assert machine.apply_most() == ([], said)
    assert machine.changes() == []
    machine.wants({"model": "h100-80gb", "instances": {"1g.10gb": 7}, "pci_ids": ["10de:2399"]})
    assert machine.apply() == ["GPU 0 (NVIDIA H100 80GB HBM3) was divided into 7 x 1g.10gb."]
    assert machine.differences() == []


@pytest.mark.parametrize("device", ["2BB1", "2BB4", "2BB5"])
def test_all_editions_of_a_model_are_known(machine: Machine, device: str) -> None:
    machine.has(gpu("rtx-pro-6000", device=device))
    machine.wants({"model": "rtx-pro-6000", "instances": {"1g.24gb+gfx": 4}})
    assert machine.apply() == ["GPU 0 (NVIDIA RTX PRO 6000 Blackwell Server Edition) was divided into 4 x 1g.24gb+gfx."]
    assert machine.differences() == []


def test_numbers_of_the_layout_that_are_not_here_are_told(machine: Machine) -> None:
    machine.has(gpu(), gpu("a30"))
    machine.wants({**BALANCED, "devices": [0, 1, 5]})
    said = ["GPU 1 of the layout is no h200: it is NVIDIA A30 (20B7).", "GPU 5 of the layout is not here: h200 has the numbers 0."]
    done, problem = machine.apply_most()
    assert (len(done), problem.splitlines()) == (1, said)
    assert machine.differences() == said
    machine.wants({"model": "b200", "devices": [7], "instances": {}}, BALANCED)
    assert machine.apply() == ["GPU 0 (NVIDIA H200) has 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb already."]


def test_a_virtual_gpu_without_mig_is_as_wanted_when_mig_is_off(machine: Machine) -> None:
    virtual = gpu("h100-nvl", name="NVIDIA H100L-2-24C", mode="[N/A]", pending="[N/A]")
    machine.has(virtual, gpu("h100-nvl", mode="Enabled", instances=[["7g.94gb", 1, 0]], computes=[1]))
    machine.wants({"model": "h100-nvl", "instances": {}})
    assert len(machine.differences()) == 1
    assert machine.apply() == ["GPU 0 (NVIDIA H100L-2-24C) is whole.", "GPU 1 (NVIDIA H100 NVL) is whole."]
    assert machine.differences() == []
    machine.has(virtual, gpu("h100-nvl"))
    machine.wants({"model": "h100-nvl", "instances": {"1g.12gb": 7}})
    done, problem = machine.apply_most()
    assert done == ["GPU 1 (NVIDIA H100 NVL) was divided into 7 x 1g.12gb."]
    assert problem.startswith("Cannot divide GPU 0 (NVIDIA H100L-2-24C): the driver says that it has no MIG ([N/A]).")


INFOROM = "WARNING: infoROM is corrupted at gpu 0000:3B:00.0"


@pytest.mark.parametrize(
    "warning",
    [
        INFOROM,
        "Warning: persistence mode is disabled on device 0. See the Known Issues section of the nvidia-smi(1) man page for more information.",
        "Warning: MIG mode is in pending enable state for GPU 00000000:3B:00.0:In use by another client",
        "warning: the driver is older than the management library",
    ],
)
def test_a_warning_is_passed_on_and_hinders_nothing(machine: Machine, warning: str) -> None:
    machine.has(gpu(), gpu(), warning=warning)
    machine.wants(BALANCED)
    assert len(machine.apply()) == 2
    assert machine.warnings == [warning]
    assert machine.differences() == []
    assert sum(machine.slurm().values()) == 8


@pytest.mark.parametrize(
    "row",
    [
        "1, [Unknown Error], [Unknown Error], [Unknown Error], [Unknown Error]",
        "1, 0x233510DE, [GPU is lost], [GPU is lost], NVIDIA H200",
        "1, 0x233510DE, [GPU requires reset], [GPU requires reset], NVIDIA H200",
        "Unable to determine the device handle for GPU0000:02:00.0: Unknown Error",
        "[Unknown Error], [Unknown Error], [Unknown Error], [Unknown Error], [Unknown Error]",
        "1, 0x233510DE, [Insufficient Permissions], [Insufficient Permissions], NVIDIA H200",
        "1, 0x233510DE, , , NVIDIA H200",
        "Unable to determine the device handle for GPU1: 0000:3B:00.0: Unknown Error, which has fallen off the bus",
    ],
)
def test_one_sick_gpu_does_not_stop_the_others(machine: Machine, row: str) -> None:
    machine.has(gpu(), gpu(sick=row), gpu())
    machine.wants(BALANCED)
    done, problem = machine.apply_most()
    assert [line.partition(" was divided")[0] for line in done] == ["GPU 0 (NVIDIA H200)", "GPU 2 (NVIDIA H200)"]
    assert "cannot be read" in problem
    assert "Xid" in problem
    assert len(problem.splitlines()) == 1
    assert [len(one["instances"]) for one in machine.gpus()] == [4, 0, 4]
    assert machine.differences() == problem.splitlines()
    assert sum(machine.slurm().values()) == 8


def test_a_sick_gpu_that_the_layout_is_not_about_is_no_problem(machine: Machine) -> None:
    machine.has(gpu(), gpu("t4", sick="1, 0x1EB810DE, [GPU is lost], [GPU is lost], Tesla T4"))
    machine.wants(BALANCED)
    assert len(machine.apply()) == 1
    assert machine.differences() == []


def test_when_one_keeps_all_from_being_listed_each_is_asked_for(machine: Machine) -> None:
    for number in range(2):
        device(machine.pci, f"0000:0{number}:00.0", "0x10de", "0x030200")
    machine.has(
        gpu(place="0000:00:00.0"),
        gpu(place="0000:01:00.0", sick="Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost. Reboot the system to recover this GPU"),
        all_or_nothing=True,
    )
    machine.wants(BALANCED)
    done, problem = machine.apply_most()
    assert len(done) == 1
    assert problem.startswith("A GPU cannot be read: Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.")


def test_what_cannot_be_divided_becomes_whole_again(machine: Machine) -> None:
    """Slurm's daemon does not start where MIG is on without instances, so that would stop the healthy GPUs, too."""
    machine.has(gpu(room=2), gpu())
    machine.wants(BALANCED)
    done, problem = machine.apply_most()
    assert done == ["GPU 1 (NVIDIA H200) was divided into 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb."]
    assert "Insufficient Resources" in problem
    assert problem.endswith("It is whole.")
    assert [(one["mode"], len(one["instances"])) for one in machine.gpus()] == [("Disabled", 0), ("Enabled", 4)]
    assert machine.slurm()["nvidia_h200"] == 1


def test_what_cannot_be_divided_anew_gets_its_former_instances(machine: Machine) -> None:
    former = [["3g.71gb", 1, 4], ["1g.18gb", 2, 0]]
    machine.has(gpu(mode="Enabled", instances=former, computes=[1, 2], room=2), gpu())
    machine.wants(BALANCED)
    done, problem = machine.apply_most()
    assert len(done) == 1
    assert problem.endswith("It has its former instances.")
    first = machine.gpus()[0]
    assert sorted((name, start) for name, _number, start in first["instances"]) == [("1g.18gb", 0), ("3g.71gb", 4)]
    assert len(first["computes"]) == 2


def test_what_is_in_use_keeps_all_its_instances(machine: Machine) -> None:
    machine.has(gpu(mode="Enabled", instances=[["3g.71gb", 1, 4], ["3g.71gb", 2, 0]], computes=[1, 2], in_use=True, held=True), gpu())
    machine.wants(BALANCED)
    done, problem = machine.apply_most()
    assert len(done) == 1
    assert problem.endswith("It has its former instances.")
    assert sorted(machine.gpus()[0]["computes"]) == [1, 2]


def test_a_profile_that_is_not_offered_changes_nothing(machine: Machine) -> None:
    lacking = gpu(mode="Enabled", instances=[["7g.141gb", 1, 0]], computes=[1])
    del lacking["profiles"]["3g.71gb"]
    machine.has(lacking)
    machine.wants(BALANCED)
    assert "it has no profile 3g.71gb. It has 1g.18gb, " in machine.apply_most()[1]
    assert names(machine.gpus()[0]) == ["7g.141gb"]
    machine.has({**lacking, "mode": "Disabled", "pending": "Disabled", "instances": [], "computes": []})
    assert machine.apply_most()[1].endswith("It is whole.")
    assert machine.gpus()[0]["mode"] == "Disabled"


def test_one_that_waits_for_a_restart_in_vain_does_not_stop_the_others(machine: Machine) -> None:
    machine.has(gpu("a100-40gb", "reboot"), gpu("a100-40gb", "reset"))
    machine.wants({"model": "a100-40gb", "instances": {"1g.5gb": 7}}, reboot=False)
    done, problem = machine.apply_most()
    assert done == ["GPU 1 (NVIDIA A100-SXM4-40GB) was divided into 7 x 1g.5gb."]
    assert problem.startswith("Cannot change the MIG mode of GPU 0: a reset did not help, and the layout does not allow a restart.")


def test_an_instance_without_compute_instance_does_not_count_for_slurm(machine: Machine) -> None:
    machine.has(gpu(mode="Enabled", instances=[["1g.18gb", 1, 0], ["1g.18gb", 2, 1]], computes=[2]))
    assert list(machine.slurm().values()) == [1]


def test_ampere_is_reset_all_at_once(machine: Machine) -> None:
    machine.has(gpu("a100-40gb", "reset"), gpu("a100-40gb", "reset"))
    machine.wants({"model": "a100-40gb", "instances": {"1g.5gb": 7}})
    machine.apply()
    assert ["--gpu-reset", "-i", "0,1"] in machine.calls()
    assert [names(one) for one in machine.gpus()] == [["1g.5gb"] * 7] * 2
    assert machine.restarts == 0


def test_restart_where_a_reset_is_not_possible_happens_once(machine: Machine) -> None:
    machine.has(gpu("a100-40gb", "reboot"))
    machine.wants({"model": "a100-40gb", "instances": {"1g.5gb": 7}})
    assert machine.apply() == ["GPU 0 changes its MIG mode only at a restart: restarting once."]
    assert (machine.restarts, machine.stamp.exists()) == (1, True)
    with pytest.raises(mig.MigError, match="neither a reset nor a restart of the machine helped"):
        machine.apply()
    assert machine.restarts == 1


def test_after_the_restart_the_instances_are_made_and_the_stamp_goes(machine: Machine) -> None:
    machine.has(gpu("a100-40gb", "reboot"))
    machine.wants({"model": "a100-40gb", "instances": {"1g.5gb": 7}})
    machine.apply()
    state = machine.gpus()
    state[0]["mode"] = "Enabled"
    machine.has(*state)
    machine.apply()
    assert (names(machine.gpus()[0]), machine.stamp.exists(), machine.restarts) == (["1g.5gb"] * 7, False, 1)


def test_restart_can_be_forbidden(machine: Machine) -> None:
    machine.has(gpu("a100-40gb", "reboot"))
    machine.wants({"model": "a100-40gb", "instances": {"1g.5gb": 7}}, reboot=False)
    with pytest.raises(mig.MigError, match="the layout does not allow a restart"):
        machine.apply()
    assert machine.restarts == 0


def test_failures_say_what_to_do(machine: Machine) -> None:
    machine.wants(BALANCED)
    machine.has(gpu(mode="Enabled", instances=[["7g.141gb", 1, 0]], computes=[1], in_use=True))
    with pytest.raises(mig.MigError, match=r"stop what uses them.*ended with exit code 15: .*In use by another client"):
        machine.apply()
    machine.has(gpu(mode="[N/A]", pending="[N/A]"))
    with pytest.raises(mig.MigError, match="the driver says that it has no MIG"):
        machine.apply()
    lacking = gpu(mode="Enabled")
    del lacking["profiles"]["3g.71gb"]
    machine.has(lacking)
    with pytest.raises(mig.MigError, match=r"it has no profile 3g\.71gb\. It has 1g\.18gb, "):
        machine.apply()
    machine.smi.unlink()
    with pytest.raises(mig.MigError, match="nvidia-smi was not found"):
        machine.apply()


def test_a_program_that_cannot_be_run(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine.wants(BALANCED)
    machine.smi.write_text("no program")
    for mode, why in ((0o644, "Permission denied"), (0o755, "Exec format error")):
        machine.smi.chmod(mode)
        monkeypatch.setenv("PATH", str(machine.smi.parent))
        assert mig.main(["check", "--layout", str(machine.layout)]) == 1
        told = capsys.readouterr().err
        assert told == f"Cannot list the GPUs: nvidia-smi cannot be run: {why}. Install the NVIDIA driver again.\n"


def test_no_room_is_said_before_anything_is_created() -> None:
    profiles = {"3g": mig.Profile(9, 40.0), "1g": mig.Profile(19, 10.0)}
    places = {9: ((0, 4), 4), 19: (tuple(range(7)), 1)}
    with pytest.raises(mig.MigError, match="no room"):
        mig.choose_placements(["3g", "3g", "1g"], profiles, places)
    assert mig.choose_placements(["3g", "1g"], profiles, {}) == ["9", "19"]


@pytest.mark.parametrize(("text", "reason"), [("", "it is not JSON"), ("[]", "not of format 1"), ('{"format": 2, "entries": []}', "not of format 1")])
def test_layout_that_cannot_be_read(machine: Machine, text: str, reason: str) -> None:
    machine.layout.write_text(text)
    with pytest.raises(mig.MigError, match=reason):
        mig.read_layout(machine.layout)
    machine.layout.unlink()
    with pytest.raises(mig.MigError, match="Apply the role nvidia_gpu_drivers"):
        mig.read_layout(machine.layout)


def test_strange_list_of_gpus_is_refused(machine: Machine) -> None:
    machine.smi.write_text("#!/bin/sh\necho No devices were found\n")
    with pytest.raises(mig.MigError, match="'No devices were found', which is not index"):
        mig.Smi(str(machine.smi)).gpus()


def test_a_list_without_a_word_is_told_so(machine: Machine) -> None:
    machine.has()
    with pytest.raises(mig.MigError, match="nvidia-smi printed nothing"):
        mig.Smi(str(machine.smi)).gpus()


def test_types_of_slurm(machine: Machine) -> None:
    one = gpu("a100-40gb", mode="Enabled", instances=[["3g.20gb", 1, 4], ["1g.5gb", 2, 0], ["1g.5gb", 3, 1]], computes=[1, 2, 3])
    machine.has(one, gpu("a100-40gb"))
    assert mig.slurm_types(mig.Smi(str(machine.smi))) == {"nvidia_a100_3g.20gb": 1, "nvidia_a100_1g.5gb": 2, "nvidia_a100-sxm4-40gb": 1}


def device(folder: Path, name: str, vendor: str, kind: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "vendor").write_text(f"{vendor}\n")
    (folder / name / "class").write_text(f"{kind}\n")


def test_gate(tmp_path: Path) -> None:
    assert mig.main(["gate", "--pci", str(tmp_path / "none")]) == 1
    device(tmp_path, "0000:00:01.0", "0x8086", "0x030000")
    device(tmp_path, "0000:00:02.0", "0x10de", "0x040300")
    assert mig.main(["gate", "--pci", str(tmp_path)]) == 1
    device(tmp_path, "0000:00:03.0", "0x10de", "0x030200")
    assert mig.main(["gate", "--pci", str(tmp_path)]) == 0


def test_as_a_program(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", f"{machine.smi.parent}:/usr/bin:/bin")
    options = ["--layout", str(machine.layout), "--stamp", str(machine.stamp)]
    machine.has(gpu())
    machine.wants(BALANCED)
    assert [mig.main([action, *options]) for action in ("check", "apply", "check", "slurm")] == [1, 0, 0, 0]
    assert "gpu:nvidia_h200_1g.16gb:2" in capsys.readouterr().out
    machine.layout.unlink()
    assert mig.main(["apply", *options]) == 1
    assert "Cannot read the MIG layout" in capsys.readouterr().err


def test_as_a_program_with_a_sick_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", f"{machine.smi.parent}:/usr/bin:/bin")
    options = ["--layout", str(machine.layout), "--stamp", str(machine.stamp), "--pci", str(machine.pci)]
    machine.has(gpu(), gpu(sick="1, [Unknown Error], [Unknown Error], [Unknown Error], [Unknown Error]"), warning=INFOROM)
    machine.wants(BALANCED)
    assert mig.main(["apply", *options]) == 1
    done = capsys.readouterr()
    assert done.out == "GPU 0 (NVIDIA H200) was divided into 1 x 3g.71gb, 1 x 2g.35gb, 2 x 1g.18gb.\n"
    assert done.err.splitlines()[0].startswith("GPU 1 ([Unknown Error]) cannot be read")
    assert done.err.splitlines()[1] == INFOROM
    assert mig.main(["slurm", *options]) == 0
    assert capsys.readouterr().out.startswith("gpu:nvidia_h200_3g.10gb:1")


def test_it_starts_with_the_interpreter_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-I", str(PROGRAM), "gate", "--pci", str(tmp_path)], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_unit_comes_before_what_uses_gpus() -> None:
    text = (ROOT / "roles/nvidia_gpu_drivers/templates/etc/systemd/system/hyperscaler-mig.service.j2").read_text(encoding="utf-8")
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert {"slurmd.service", "kubelet.service", "nvidia-dcgm.service", "nvidia-dcgm-exporter.service"} <= set(lines["Before"].split())
    assert {"nvidia-persistenced.service", "nvidia-fabricmanager.service"} <= set(lines["After"].split())
    assert lines["ExecCondition"].endswith("hyperscaler-mig gate")
