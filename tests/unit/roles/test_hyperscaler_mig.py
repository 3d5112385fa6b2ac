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
        self.restarts = 0

    def has(self, *gpus: dict[str, t.Any]) -> None:
        self.state.write_text(json.dumps({"gpus": gpus}))

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
        done: list[str] = mig.apply(mig.Smi(str(self.smi)), mig.read_layout(self.layout), self.stamp, self._restart)
        return done

    def differences(self) -> list[str]:
        found: list[str] = mig.differences(mig.Smi(str(self.smi)), mig.read_layout(self.layout))
        return found

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
    assert machine.differences() == []


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


def test_it_starts_with_the_interpreter_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-I", str(PROGRAM), "gate", "--pci", str(tmp_path)], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_unit_comes_before_what_uses_gpus() -> None:
    text = (ROOT / "roles/nvidia_gpu_drivers/templates/etc/systemd/system/hyperscaler-mig.service.j2").read_text(encoding="utf-8")
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert {"slurmd.service", "kubelet.service", "nvidia-dcgm.service", "nvidia-dcgm-exporter.service"} <= set(lines["Before"].split())
    assert {"nvidia-persistenced.service", "nvidia-fabricmanager.service"} <= set(lines["After"].split())
    assert lines["ExecCondition"].endswith("hyperscaler-mig gate")
