# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a build, by stage and by role, against mmdebstrap of the same packages with the same warm package cache, in one run.

Run it from the root of a checkout that has built the image once, so that the package cache is warm for both:
PYTHONPATH=.venv/collections tests/benchmarks/build_image.py --image hpc-controller --json result.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import find_mirrors, read_sources

BUILD_STAGES = ("open", "provision", "seal", "inspect", "pack", "record")


def build(image: str, root: Path, extra: t.Sequence[str]) -> dict[str, t.Any]:
    """Build the image without the boot proof and return its manifest."""
    playbook = Path(sys.executable).with_name("ansible-playbook")
    options = ["-e", f"image_build_root={root}", "-e", "image_rebuild=always", "-e", '{"image_boot": false}', *extra]
    subprocess.run([playbook, "build-images.yml", "--limit", image, *options], check=True, stdout=subprocess.DEVNULL)
    manifest: dict[str, t.Any] = json.loads((root / "packer" / image / image / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def bootstrap(packages: t.Sequence[str], root: Path, output: Path) -> float:
    """Seconds that mmdebstrap takes for a tar of the packages; packages come from the cache and none is fetched when it is warm."""
    mirrors = find_mirrors(read_sources(Path("/etc/apt")), "this machine")
    components = "main contrib non-free non-free-firmware"
    archive = [f"deb {mirrors.archive} {suite} {components}" for suite in ("trixie", "trixie-updates", "trixie-backports")]
    sources = [*archive, f"deb {mirrors.security} trixie-security {components}"]
    cache = root / "cache" / "apt" / "archives"
    hooks = [f'--setup-hook=mkdir -p "$1/var/cache/apt/archives/partial" && cp --link {cache}/*.deb "$1/var/cache/apt/archives/"']
    skipped = "--skip=download/empty,essential/unlink"
    arguments = ["--variant=apt", f"--include={','.join(packages)}", "--dpkgopt=force-unsafe-io", skipped, *hooks, "trixie", str(output), *sources]
    started = time.monotonic()
    subprocess.run(["mmdebstrap", *arguments], check=True, env={**os.environ, "TMPDIR": str(root / "work")}, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="hpc-controller")
    parser.add_argument("--build-root", type=Path, default=Path("build").absolute())
    parser.add_argument("--json", type=Path)
    parser.add_argument("extra", nargs="*", help="further arguments of ansible-playbook")
    options = parser.parse_args()
    root = options.build_root.absolute()
    manifest = build(options.image, root, options.extra)
    stages = manifest["timings"]["stages"]
    ours = sum(stages.get(stage, 0.0) for stage in BUILD_STAGES)
    names = [f"{package['name']}={package['version']}" for package in manifest["packages"]]
    with tempfile.TemporaryDirectory(dir=root / "work") as folder:
        baseline = bootstrap(names, root, Path(folder, "root.tar"))
    result = {
        "image": options.image,
        "packages": len(names),
        "stages": stages,
        "roles": manifest["timings"]["roles"],
        "build_seconds": round(ours, 1),
        "mmdebstrap_seconds": round(baseline, 1),
        "ratio": round(ours / baseline, 2),
    }
    for name, seconds in [*stages.items(), *manifest["timings"]["roles"].items()]:
        print(f"{name:45} {seconds:8.1f} s")
    print(f"{'base to packed image':45} {ours:8.1f} s")
    print(f"{'mmdebstrap of the same ' + str(len(names)) + ' packages':45} {baseline:8.1f} s")
    print(f"{'ratio':45} {result['ratio']:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
