# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build stand-ins of third-party packages with dpkg-deb, and signed repositories of them.

Usage: stand_in.py SPECIFICATION FOLDER. The specification is JSON: "packages" is a list of mappings with "folder", "name", "version" and, where
wanted, "architecture", "depends", "files" (path to content) and "scripts" (name of a maintainer script to content); a content is a text or a list
of lines. "repositories" maps the name of a folder to {"packages": folder, "suite": …, "component": …}; a suite that ends in a slash makes a flat
one. Keys are publisher.asc and stranger.asc, their fingerprints are in publisher.txt and stranger.txt.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path


def joined(content: str | list[str]) -> str:
    """The content of a file."""
    return content if isinstance(content, str) else "\n".join([*content, ""])


def build(root: Path, package: t.Mapping[str, t.Any]) -> Path:
    """One package by Debian's own tool."""
    folder, name, version = root / package["folder"], package["name"], package["version"]
    architecture = package.get("architecture", "amd64")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tree:
        files = {f"/usr/share/doc/{name}/stand-in": f"{name} {version}\n", **package.get("files", {})}
        for path, content in files.items():
            target = Path(tree, path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            text = joined(content)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o755 if text.startswith("#!") else 0o644)
        control = Path(tree, "DEBIAN")
        control.mkdir(mode=0o755)
        lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Maintainer: Nobody <nobody@example.com>"]
        lines += [f"Depends: {package['depends']}"] if package.get("depends") else []
        (control / "control").write_text("\n".join([*lines, "Description: stand-in", " for a test.", ""]), encoding="utf-8")
        for script, content in package.get("scripts", {}).items():
            (control / script).write_text(joined(content), encoding="utf-8")
            (control / script).chmod(0o755)
        subprocess.run(["dpkg-deb", "-Zxz", "--root-owner-group", "--build", tree, folder], check=True, capture_output=True)
    return folder / f"{name}_{version.partition(':')[2] or version}_{architecture}.deb"


def index_entry(root: Path, path: Path) -> str:
    """The paragraph of a package in an index."""
    fields = subprocess.run(["dpkg-deb", "--field", path], check=True, capture_output=True, text=True).stdout
    return f"{fields}Filename: {path.relative_to(root)}\nSize: {path.stat().st_size}\nSHA256: {hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def repository(root: Path, name: str, packages: str, suite: str, component: str, home: Path) -> None:
    """A signed repository that holds copies of the packages of a folder."""
    place = root / name
    pool = place / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for path in sorted((root / packages).glob("*.deb")):
        (pool / path.name).write_bytes(path.read_bytes())
    index = gzip.compress("\n".join(index_entry(place, path) for path in sorted(pool.iterdir())).encode(), mtime=0)
    base = place / suite.strip("/") if suite.endswith("/") else place / "dists" / suite
    listed = base / "Packages.gz" if suite.endswith("/") else base / component / "binary-amd64/Packages.gz"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_bytes(index)
    release = f"Origin: Test\nSuite: {suite}\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {listed.relative_to(base)}\n"
    (base / "Release").write_text(release, encoding="utf-8")
    signed = gpg(home, "--local-user", "publisher@example.com", "--clearsign", "--output", "-", str(base / "Release"))
    (base / "InRelease").write_bytes(signed)


def gpg(home: Path, *arguments: str) -> bytes:
    """Run gpg with a home of its own."""
    return subprocess.run(["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments], check=True, capture_output=True).stdout


def keys(root: Path, home: Path) -> None:
    """A key that signs, and one that does not."""
    home.mkdir(mode=0o700, exist_ok=True)
    for user in ("publisher", "stranger"):
        gpg(home, "--passphrase", "", "--quick-generate-key", f"{user}@example.com", "ed25519", "sign", "never")
        (root / f"{user}.asc").write_bytes(gpg(home, "--armor", "--export", f"{user}@example.com"))
        lines = gpg(home, "--with-colons", "--fingerprint", f"{user}@example.com").decode().splitlines()
        (root / f"{user}.txt").write_text(next(line.split(":")[9] for line in lines if line.startswith("fpr")), encoding="utf-8")


def main() -> None:
    specification, root = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    root.mkdir(parents=True, exist_ok=True)
    for package in specification["packages"]:
        build(root, package)
    if specification.get("repositories"):
        with tempfile.TemporaryDirectory() as home:
            keys(root, Path(home, "gpg"))
            for name, entry in specification["repositories"].items():
                repository(root, name, entry["packages"], entry["suite"], entry.get("component", "main"), Path(home, "gpg"))


if __name__ == "__main__":
    main()
