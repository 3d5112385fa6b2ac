# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build one image with both backends and show the seconds of each stage side by side.

Run it from the root of a checkout that has built the image once, so that base image and package cache are there for both:
PYTHONPATH=.venv/collections tests/benchmarks/backends.py --image cloud-base --json result.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import typing as t
from pathlib import Path

STAGES = ("open", "provision", "seal", "inspect", "pack", "record")


def build(image: str, cache: Path, root: Path, backend: str) -> dict[str, t.Any]:
    """Build the image without the boot proof and return its manifest."""
    playbook = Path(sys.executable).with_name("ansible-playbook")
    options = ["-e", f"image_build_root={root}", "-e", f"base_image_cache_dir={cache}", "-e", f"image_package_cache={cache}/apt"]
    options += ["-e", f"image_backend={backend}", "-e", "image_rebuild=always", "-e", '{"image_boot": false}']
    subprocess.run([playbook, "build-images.yml", "--limit", image, *options], check=True, stdout=subprocess.DEVNULL)
    manifest: dict[str, t.Any] = json.loads((root / "packer" / image / image / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="cloud-base")
    parser.add_argument("--build-root", type=Path, default=Path("build").absolute())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    root = options.build_root.absolute()
    manifests = {backend: build(options.image, root / "cache", root / "bench" / f"backend-{backend}", backend) for backend in ("direct", "packer")}
    machine = manifests["packer"]["backend"]
    print(f"{options.image}, seconds; Packer {machine['packer']} with QEMU under {machine['accelerator'].upper()}")
    print(f"{'':12}{'direct':>10}{'packer':>10}")
    totals = dict.fromkeys(manifests, 0.0)
    for stage in STAGES:
        seconds = {backend: manifest["timings"]["stages"].get(stage, 0.0) for backend, manifest in manifests.items()}
        totals = {backend: totals[backend] + seconds[backend] for backend in totals}
        print(f"{stage:12}{seconds['direct']:10.1f}{seconds['packer']:10.1f}")
    print(f"{'total':12}{totals['direct']:10.1f}{totals['packer']:10.1f}")
    if options.json:
        result = {"image": options.image, **machine, "stages": {name: manifest["timings"]["stages"] for name, manifest in manifests.items()}, "total": totals}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
