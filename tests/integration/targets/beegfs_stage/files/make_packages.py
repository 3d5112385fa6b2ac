# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build stand-ins of BeeGFS packages with dpkg-deb, broken ones, and a signed repository of them."""

from __future__ import annotations

import hashlib
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path


def build(folder: Path, name: str, version: str, architecture: str, compression: str = "xz", depends: str = "", sums: str = "{digest}  {path}\n") -> Path:
    """One package by Debian's own tool; ``sums`` is how its file md5sums is written."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}_{version.partition(':')[2] or version}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as tree:
        content = Path(tree, "usr/share", name, "content")
        content.parent.mkdir(parents=True)
        # Random data does not shrink: so a file that is cut misses content, not only padding.
        content.write_bytes(hashlib.sha512(f"{name} {version} {architecture}".encode()).digest() * 400)
        control = Path(tree, "DEBIAN")
        control.mkdir(mode=0o755)
        lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Maintainer: Nobody <nobody@example.com>"]
        lines += [f"Depends: {depends}"] if depends else []
        (control / "control").write_text("\n".join([*lines, "Description: stand-in", " for a test.", ""]), encoding="utf-8")
        digest = hashlib.md5(content.read_bytes()).hexdigest()
        (control / "md5sums").write_text(sums.format(digest=digest, path=content.relative_to(tree)), encoding="utf-8")
        subprocess.run(["dpkg-deb", "--nocheck", f"-Z{compression}", "--root-owner-group", "--build", tree, target], check=True, capture_output=True)
    return target


def full_set(folder: Path, version: str) -> None:
    """The packages of one version of BeeGFS 8, each compressed and with digests written in another way, and what nobody asked for."""
    build(folder, "beegfs-mgmtd", version.partition(":")[2] + "-1", "amd64", sums="{digest} *./{path}\n")
    build(folder, "beegfs-meta", version, "amd64", "gzip", sums="{digest}  /{path}\n")
    build(folder, "beegfs-storage", version, "amd64", "zstd", sums="{digest} {path}\n" + "0" * 32 + "  DEBIAN/postinst\n")
    build(folder, "libbeegfs-ib", version, "amd64", "none", sums="{digest}  {path}\n" + "0" * 32 + "  usr/gone\n")
    build(folder, "beegfs-client-dkms", version, "all", depends="dkms, beegfs-tools (>= 8.0)")
    build(folder, "beegfs-tools", version, "amd64")
    build(folder, "beegfs-mon", version, "amd64")


def oddities(folder: Path) -> None:
    """What nothing asks for and what must not be in the way: a page, a link, a damaged package, names that only dpkg accepts."""
    build(folder, "SiteTool", "1:2:3.0", "amd64")
    build(folder, "site_tool", "1.0", "amd64")
    (folder / "page.deb").write_text("<html>Not found</html>", encoding="utf-8")
    (folder / "a copy.deb").symlink_to("page.deb")
    whole = build(folder, "site-data", "1.0", "amd64")
    whole.write_bytes(whole.read_bytes()[:-900])


def index_entry(root: Path, path: Path) -> str:
    """The paragraph of a package in an index."""
    fields = subprocess.run(["dpkg-deb", "--field", path], check=True, capture_output=True, text=True).stdout
    return f"{fields}Filename: {path.relative_to(root)}\nSize: {path.stat().st_size}\nSHA256: {hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def repository(root: Path, home: Path) -> None:
    """A repository with two versions, signed with a key made for the purpose."""
    pool = root / "pool"
    for version in ("20:8.0.1", "20:8.1.0"):
        full_set(pool, version)
    odd = ["no field\n", "Package: site tool\nVersion: 1\nArchitecture: all\n", "Package: site-tool\nVersion: 1\nArchitecture: all\nFilename: x.deb\n"]
    index = "\n".join([*odd, *(index_entry(root, path) for path in sorted(pool.iterdir()))]).encode()
    folder = root / "dists/trixie/non-free/binary-amd64"
    folder.mkdir(parents=True)
    packed = lzma.compress(index)
    (folder / "Packages.xz").write_bytes(packed)
    name = (folder / "Packages.xz").relative_to(root / "dists/trixie")
    release = f"Origin: Test\nSuite: trixie\nSHA256:\n {hashlib.sha256(packed).hexdigest()} {len(packed)} {name}\n"
    (root / "dists/trixie/Release").write_text(release, encoding="utf-8")
    for user in ("publisher", "stranger"):
        gpg(home, "--passphrase", "", "--quick-generate-key", f"{user}@example.com", "ed25519", "sign", "never")
        (root.parent / f"{user}.asc").write_bytes(gpg(home, "--armor", "--export", f"{user}@example.com"))
    (root.parent / "publisher.gpg").write_bytes(gpg(home, "--export", "publisher@example.com"))
    signed = gpg(home, "--local-user", "publisher@example.com", "--clearsign", "--output", "-", str(root / "dists/trixie/Release"))
    (root / "dists/trixie/InRelease").write_bytes(signed)


def gpg(home: Path, *arguments: str) -> bytes:
    """Run gpg with a home of its own."""
    home.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments], check=True, capture_output=True).stdout


def main() -> None:
    root = Path(sys.argv[1])
    full_set(root / "set", "20:8.1.0")
    oddities(root / "set")
    full_set(root / "older", "20:8.0.1")
    full_set(root / "mixed", "20:8.1.0")
    build(root / "mixed", "beegfs-storage", "20:8.0.1", "amd64")
    build(root / "foreign", "beegfs-storage", "20:8.1.0", "arm64")
    build(root / "twice", "beegfs-storage", "20:8.1.0", "amd64").rename(root / "twice/copy.deb")
    build(root / "twice", "beegfs-storage", "20:8.1.0", "amd64", "gzip")
    build(root / "alone", "beegfs-client-dkms", "20:8.1.0", "all", depends="dkms, beegfs-tools (>= 8.0)")
    whole = build(root / "truncated", "beegfs-storage", "20:8.1.0", "amd64", "none")
    whole.write_bytes(whole.read_bytes()[:-9000])
    damaged = build(root / "damaged", "beegfs-storage", "20:8.1.0", "amd64", "none")
    data = bytearray(damaged.read_bytes())
    data[-12000] ^= 1
    damaged.write_bytes(data)
    (root / "linked").mkdir()
    (root / "linked/beegfs-storage_8.1.0_amd64.deb").symlink_to(root / "set/beegfs-storage_8.1.0_amd64.deb")
    (root / "html").mkdir()
    (root / "html/beegfs-storage_8.1.0_amd64.deb").write_text("<html>Not found</html>", encoding="utf-8")
    repository(root / "repository", root / "gpg")


if __name__ == "__main__":
    main()
