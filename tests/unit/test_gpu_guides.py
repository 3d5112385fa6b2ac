# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables in the guides on GPUs are those of the code. Run this file to write them anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import FAMILIES, MODELS, family_of
from ansible_collections.hyperscaler.images.plugins.module_utils._mig import layout_from, slurm_type
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_drivers import COMPILATIONS, DEBIAN_DRIVERS, offered
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_resolver import Request, objections, version_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def families() -> str:
    """Which GPUs there are and what drives them."""
    rows = []
    for family in FAMILIES:
        models = family_of(family)
        first = models[0]
        flavours = " or ".join([*["proprietary"] * first.proprietary, *["open"] * first.open])
        branches = f"{first.since if first.since > 535 else 'up to'}" if first.last and first.since <= 535 else f"from {first.since}"
        branches = f"{branches} {first.last}" if first.last else branches
        ids = " ".join(dict.fromkeys(device for model in models for device in model.pci_ids)).lower()
        mig = version_text(first.mig.driver) if first.mig else "no"
        rows.append([f"`{family}`", first.architecture, first.capability, f"`{ids}`", flavours, branches, mig, first.host])
    return table(["family", "architecture", "compute capability", "PCI ids (10de:…)", "kernel modules", "branches", "MIG from driver", "host"], rows)


def drivers() -> str:
    """Which drivers there are and what each serves on a current machine."""
    rows = []
    for driver in offered("auto", None):
        served = [name for name in FAMILIES if not objections(driver, family_of(name), Request((name,))) and family_of(name)[0].host == "amd64"]
        rows.append([driver.source, driver.version or f"{driver.branch} (newest)", driver.flavour, driver.support or "", " ".join(served)])
    return table(["source", "version", "kernel modules", "support", "families"], rows)


def compilations() -> str:
    """What is known about kernels."""
    titles = {(driver.version, driver.flavour): driver.kernel_package for driver in DEBIAN_DRIVERS}
    rows = [[f"`{titles[row.version, row.flavour]}`", row.version, "yes" if row.works else "no", row.remark] for row in COMPILATIONS]
    return table(["package", "version", "compiles", "remark"], rows)


def profiles() -> str:
    """All profiles of all models."""
    parts = []
    for model in MODELS:
        if model.mig is None:
            continue
        rows = []
        for item in model.mig.profiles:
            number = "" if item.identifier is None else str(item.identifier)
            gib = "" if item.gib is None else f"{item.gib:g}"
            kind = slurm_type(model, item) if item.gib is not None else f"{slurm_type(model, item)} (compare)"
            rows.append([f"`{item.name}`", number, str(item.count), str(item.compute), str(item.memory), " ".join(map(str, item.starts)), gib, f"`{kind}`"])
        head = ["profile", "number", "at most", "compute slices", "memory slices", "begins at slice", "GiB", "type for Slurm"]
        title = f"{model.product}: `{model.name}`, from driver {version_text(model.mig.driver)}"
        parts.append(f"### {title}\n\n{model.mig.compute} compute and {model.mig.memory} memory slices.\n\n{table(head, rows)}")
    return "\n\n".join(parts)


TABLES = {
    ("supported_gpus", "families"): families,
    ("supported_gpus", "drivers"): drivers,
    ("supported_gpus", "compilations"): compilations,
    ("mig_profiles", "profiles"): profiles,
}


def split(text: str, name: str) -> tuple[str, str, str]:
    """What is before, in and after a table."""
    before, begin, rest = text.partition(BEGIN.format(name))
    inside, end, after = rest.partition(END)
    assert begin, f"the guide has no place for the table {name}"
    assert end
    return before + begin, inside.strip(), end + after


@pytest.mark.parametrize(("guide", "name"), TABLES)
def test_tables_are_those_of_the_code(guide: str, name: str) -> None:
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    assert split(text, name)[1] == TABLES[guide, name](), f"run {Path(__file__).name} to write the table {name} of {guide}.md anew"


def layouts() -> list[tuple[str, str]]:
    """The layouts in the guides."""
    return [
        (path.name, block)
        for path in sorted(DOCS.glob("*.md"))
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        if "mig_layout:" in block
    ]


def test_there_are_layouts_in_the_guides() -> None:
    assert len(layouts()) >= 3


@pytest.mark.parametrize(("name", "block"), layouts())
def test_layouts_in_the_guides_fit(name: str, block: str) -> None:
    assert layout_from(yaml.safe_load(block)["nvidia_gpu_drivers_mig_layout"]), name


def write() -> None:
    """Write all tables anew."""
    for (guide, name), render in TABLES.items():
        path = DOCS / f"{guide}.md"
        before, _inside, after = split(path.read_text(encoding="utf-8"), name)
        path.write_text(f"{before}\n\n{render()}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
