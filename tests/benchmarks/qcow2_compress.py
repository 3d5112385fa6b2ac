# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure hyperscaler.images.qcow2_compress against plain qemu-img and against zstd, all in one run on one raw image.

The collection has to be importable: PYTHONPATH=.venv/collections python tests/benchmarks/qcow2_compress.py disk.raw --runs 3 --json result.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._files import allocated_bytes
from ansible_collections.hyperscaler.images.plugins.module_utils._packing import QCOW2, RAW, Packer, PackRequest
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_img import Conversion, QemuImg
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_formats import sparse_digest

BASELINE = "qemu-img convert -c"
PROVEN = "convert -c, check, compare, sha"


@dataclasses.dataclass
class Contender:
    """A way to compress the image, with the seconds of each run and the size of what it made."""

    name: str
    make: t.Callable[[Path, Path], object]
    # Who does the same work with plain tools.
    like: str = BASELINE
    seconds: list[float] = dataclasses.field(default_factory=list)
    size: int = 0

    @property
    def best(self) -> float:
        return min(self.seconds)


def convert_as_module(image: Path, output: Path) -> None:
    """The conversion of the module with its default options, without checks and checksum."""
    wanted = PackRequest(image, output)
    QemuImg().convert(
        Conversion(image, RAW, output, QCOW2, wanted.compression, wanted.cluster_size, coroutines=wanted.coroutines, out_of_order=wanted.out_of_order)
    )


def pack_as_module(image: Path, output: Path) -> None:
    """Everything that the module does: convert, check, compare, checksum, rename."""
    Packer(PackRequest(image, output)).pack(dry_run=False)


def convert_plainly(image: Path, output: Path) -> None:
    """What is commonly done."""
    Command("qemu-img", reason="compare with it").run("convert", "-c", "-f", "raw", "-O", "qcow2", image, output, attempt="run the baseline")


def prove_plainly(image: Path, output: Path) -> None:
    """The same with what the module does afterwards, one plain command after the other."""
    qemu_img, sha256sum = Command("qemu-img", reason="compare with it"), Command("sha256sum", reason="compare with it")
    convert_plainly(image, output)
    qemu_img.run("check", "-f", "qcow2", output, attempt="check the baseline")
    qemu_img.run("compare", "-f", "raw", "-F", "qcow2", image, output, attempt="compare the baseline")
    sha256sum.run(output, attempt="take the checksum of the baseline")


def compress_with_zstd(image: Path, output: Path) -> None:
    """A compressed file that no virtual machine can read."""
    Command("zstd", reason="compare with it").run("-q", "-T0", "-3", "-f", "-o", output, image, attempt="run zstd")


def measure(image: Path, folder: Path, runs: int) -> list[Contender]:
    """Run everybody in turn, several times, so that a slow moment of the machine hits all of them."""
    contenders = [
        Contender(BASELINE, convert_plainly),
        Contender("qcow2_compress: convert", convert_as_module),
        Contender(PROVEN, prove_plainly),
        Contender("qcow2_compress: all steps", pack_as_module, like=PROVEN),
        Contender("zstd -T0 -3 of the raw", compress_with_zstd),
    ]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".qcow2-compress-bench-") as place:
        # Reads the data once, so that nobody pays for a cold page cache.
        sparse_digest(image)
        for _run in range(runs):
            for contender in contenders:
                output = Path(place, "output")
                started = time.monotonic()
                contender.make(image, output)
                contender.seconds.append(time.monotonic() - started)
                contender.size = output.stat().st_size
                output.unlink()
    return contenders


def report(image: Path, contenders: t.Sequence[Contender]) -> dict[str, t.Any]:
    """The figures with their ratios to the baseline."""
    baseline = contenders[0]
    best = {contender.name: contender.best for contender in contenders}
    return {
        "benchmark": "qcow2_compress",
        "image": {"name": image.name, "virtual_size": image.stat().st_size, "allocated_size": allocated_bytes(image)},
        "processors": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "results": [
            {
                "name": contender.name,
                "seconds": [round(seconds, 3) for seconds in contender.seconds],
                "best_seconds": round(contender.best, 3),
                "size": contender.size,
                "times_faster": round(baseline.best / contender.best, 2),
                "like_for_like": {"name": contender.like, "times_faster": round(best[contender.like] / contender.best, 2)},
                "size_ratio": round(contender.size / baseline.size, 4),
            }
            for contender in contenders
        ],
    }


def table(figures: dict[str, t.Any]) -> str:
    """The figures for reading."""
    image = figures["image"]
    lines = [
        f"{image['name']}: {image['virtual_size'] / 2**30:.1f} GiB, {image['allocated_size'] / 2**20:.0f} MiB on disk, "
        f"{figures['processors']} processors, load {figures['load_average']:.1f}; compared with {BASELINE}, best of {len(figures['results'][0]['seconds'])}",
        f"{'':<33}{'seconds':>9}{'MiB':>9}{'faster':>9}{'like for like':>15}{'size':>9}",
    ]
    for result in figures["results"]:
        faster, size = f"{result['times_faster']:.1f} x", f"{100 * result['size_ratio']:.1f} %"
        same_work = f"{result['like_for_like']['times_faster']:.1f} x"
        lines.append(f"{result['name']:<33}{result['best_seconds']:>9.2f}{result['size'] / 2**20:>9.1f}{faster:>9}{same_work:>15}{size:>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="raw disk image")
    parser.add_argument("--runs", type=int, default=1, help="how often everything is run; the best counts (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the outputs are written for a moment (default: the folder of the image)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    image = arguments.image.absolute()
    figures = report(image, measure(image, arguments.folder or image.parent, max(1, arguments.runs)))
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
