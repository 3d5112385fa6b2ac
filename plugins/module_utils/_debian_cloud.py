# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Debian's cloud image releases: names, addresses, checksum files and manifests. Nothing here touches a network or a disk."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import json
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import check_source

# The number that stands for a release in file names.
RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14", "sid": "sid"}
FLAVOURS = ("genericcloud", "generic", "nocloud")
ARCHES = ("amd64", "arm64")
FORMATS = ("qcow2", "raw", "tar.xz", "json")
LATEST = "latest"
SUMS_NAME = "SHA512SUMS"
SUMS_LIMIT = 1 << 20
MANIFEST_LIMIT = 8 << 20
SHA512_DIGITS = 128

Fetch = t.Callable[[str, int], bytes]


@dataclasses.dataclass(frozen=True)
class CloudImage:
    """One file of a release; ``version`` is ``latest`` until it is resolved."""

    release: str
    version: str
    daily: bool
    flavour: str
    arch: str
    format: str

    @property
    def folder(self) -> str:
        """The folder of the version, relative to the server."""
        return "/".join([self.release, *(["daily"] if self.daily else []), self.version])

    def file_name(self, extension: str | None = None) -> str:
        """The name of the file in its folder; the files of ``latest`` carry no version."""
        parts = ["debian", RELEASES[self.release], self.flavour, self.arch]
        if self.daily:
            parts.append("daily")
        if self.version != LATEST:
            parts.append(self.version)
        return "-".join(parts) + "." + (extension or self.format)

    def at(self, version: str) -> CloudImage:
        """The same file of another version."""
        return dataclasses.replace(self, version=version)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What the JSON manifest of a release says: its version, what it was built as, and the sha512 of each file by name."""

    version: str
    info: t.Mapping[str, str]
    digests: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class CloudFile:
    """A file whose version and digest are known."""

    url: str
    file_name: str
    version: str
    sha512: str


def parse_version(text: str) -> str:
    """Check a version: ``latest``, or the date and build number of a release."""
    wrong = ImageError(f'Cannot use {text!r} as a version: it must be "latest" or a date and a build number like 20250806-2196.', cause="input")
    if text == LATEST:
        return text
    found = re.fullmatch(r"([0-9]{8})-[0-9]{1,9}", text)
    if found is None:
        raise wrong
    try:
        datetime.datetime.strptime(found.group(1), "%Y%m%d")
    except ValueError as error:
        raise wrong from error
    return text


def parse_server(text: str) -> str:
    """Check the address below which the folders of the releases are, and return it without a slash at the end."""
    if "://" in text and re.search("[?#]", text):
        raise ImageError(f"Cannot use the server {text!r}: its address has a query or a fragment. Give the address of the folder.", cause="input")
    return check_source(text)


def parse_digest(text: str, where: str) -> str:
    """Check a sha512, with or without the prefix ``sha512:``, and return it in lower case."""
    digits = text.strip().lower()
    digits = digits[len("sha512:") :] if digits.startswith("sha512:") else digits
    if not re.fullmatch(f"[0-9a-f]{{{SHA512_DIGITS}}}", digits):
        shown = f"it has {len(digits)} characters" if digits else "it is empty"
        raise ImageError(
            f"Cannot use the checksum given in {where}: {shown}, a SHA-512 has {SHA512_DIGITS} hex digits. Copy it again from {SUMS_NAME} or leave it out.",
            cause="input",
        )
    return digits


def parse_sums(data: bytes, source: str) -> dict[str, str]:
    """Read a ``SHA512SUMS`` file: the sha512 of each file by name. Any line that is not as it should be refuses the whole file."""
    text = _text(data, source, "list of checksums")
    if not text.endswith("\n"):
        raise _damaged(source, f"it ends in the middle of line {text.count(chr(10)) + 1}", "It was cut off; fetch it again or use another server")
    found: dict[str, str] = {}
    for number, line in enumerate(text[:-1].split("\n"), 1):
        digest, name = _parse_sums_line(line, f"line {number}", source)
        if name in found:
            raise _damaged(source, f"line {number} lists {name} a second time")
        found[name] = digest
    return found


def parse_manifest(data: bytes, source: str) -> Manifest:
    """Read the JSON manifest of a release."""
    text = _text(data, source, "manifest")
    try:
        document = json.loads(text)
        items = document["items"]
        builds = [item["data"]["info"] for item in items if item["kind"] == "Build"]
        uploads = [(item["data"]["ref"], item["metadata"]["annotations"]["cloud.debian.org/digest"]) for item in items if item["kind"] == "Upload"]
        info = {str(key): str(value) for key, value in builds[0].items()}
        version = info["version"]
    except ValueError as error:
        raise _damaged(source, "it is not JSON") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _damaged(source, "it is not a manifest of Debian's cloud images") from error
    if len(builds) > 1:
        raise _damaged(source, f"it describes {len(builds)} builds instead of one")
    if version == LATEST or not re.fullmatch(r"[0-9]{8}-[0-9]{1,9}", version):
        raise _damaged(source, f"its version {version!r} is not a date and a build number")
    return Manifest(version, info, _manifest_digests(uploads, source))


def parse_manifest_digest(text: t.Any, source: str) -> str:
    """Turn ``sha512:<base64 without padding>`` into hex digits."""
    algorithm, _separator, encoded = str(text).partition(":")
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if algorithm != "sha512" or len(raw) * 2 != SHA512_DIGITS:
        raise _damaged(source, f"its digest {str(text)[:40]!r} is not a SHA-512 in base64")
    return raw.hex()


def resolve(image: CloudImage, server: str, expected: str | None, fetch: Fetch) -> CloudFile:
    """Find the version and the sha512 of an image.

    ``fetch`` reads a small file, given its address and the most bytes that it may have. ``expected`` is a digest that must agree.
    """
    promised: str | None = None
    if image.version == LATEST:
        source = f"{server}/{image.folder}/{image.file_name('json')}"
        manifest = parse_manifest(fetch(source, MANIFEST_LIMIT), source)
        _check_info(image, manifest, source)
        image = image.at(manifest.version)
        promised = _promised_digest(image, manifest, source)
    source = f"{server}/{image.folder}/{SUMS_NAME}"
    sums = parse_sums(fetch(source, SUMS_LIMIT), source)
    name = image.file_name()
    if name not in sums:
        raise DownloadError(
            f"Cannot find the checksum of {name}: none of the {len(sums)} lines of {source} is for it. Check flavour, arch and format, or use another version.",
            cause="missing",
        )
    if promised is not None and promised != sums[name]:
        raise IntegrityError(
            f"Cannot trust {name}: the manifest of the latest release says sha512 {promised}, {source} says {sums[name]}. "
            "The server changes at this moment or was tampered with; try again later or pin a version and its digest.",
            cause="integrity",
        )
    check_expected(name, source, sums[name], expected)
    return CloudFile(f"{server}/{image.folder}/{name}", name, image.version, sums[name])


def check_expected(name: str, source: str, listed: str, expected: str | None) -> None:
    """Raise IntegrityError when the pinned digest is not the listed one."""
    if expected is not None and expected != listed:
        raise IntegrityError(
            f"Cannot use {name}: {source} lists sha512 {listed}, but {expected} is expected. "
            "Either the pinned digest belongs to another file or version, or the server's file was changed: find out which before changing the pin.",
            cause="integrity",
            expected=expected,
            listed=listed,
        )


def _parse_sums_line(line: str, where: str, source: str) -> tuple[str, str]:
    if line.endswith("\r"):
        raise _damaged(source, f"{where} ends with CR LF", "It was changed on the way (a text-mode copy?); fetch it again in binary mode")
    found = re.fullmatch(r"([^ ]+) [ *](.+)", line)
    if found is None:
        raise _damaged(source, f'{where} is not "<{SHA512_DIGITS} hex digits>  <name>" but {line[:60]!r}')
    digest, name = found.group(1).lower(), found.group(2)
    if not re.fullmatch("[0-9a-f]+", digest):
        raise _damaged(source, f"{where} has a checksum with characters that are no hex digits")
    if len(digest) != SHA512_DIGITS:
        raise _damaged(source, f"{where} has a checksum of {len(digest)} hex digits, a SHA-512 has {SHA512_DIGITS}")
    if not re.fullmatch(r"[A-Za-z0-9_+~][A-Za-z0-9._+~-]*", name):
        raise _damaged(source, f"{where} names {name[:60]!r}, which is not a plain file name")
    return digest, name


def _manifest_digests(uploads: t.Iterable[tuple[t.Any, t.Any]], source: str) -> dict[str, str]:
    digests: dict[str, str] = {}
    for reference, digest in uploads:
        name = str(reference).rpartition("/")[2]
        if name in digests:
            raise _damaged(source, f"it lists {name} a second time")
        digests[name] = parse_manifest_digest(digest, source)
    return digests


def _check_info(image: CloudImage, manifest: Manifest, source: str) -> None:
    for key, wanted in (("release", image.release), ("vendor", image.flavour), ("arch", image.arch)):
        if manifest.info.get(key, wanted) != wanted:
            raise _damaged(source, f"it is for {key} {manifest.info[key]!r} instead of {wanted!r}", "The server has wrong files; use another one")


def _promised_digest(image: CloudImage, manifest: Manifest, source: str) -> str | None:
    if image.format == "json":
        return None
    name = image.file_name()
    if name not in manifest.digests:
        raise DownloadError(
            f"Cannot find {name}: the manifest {source} has version {manifest.version} but not this file. Use another format or pin an older version.",
            cause="missing",
        )
    return manifest.digests[name]


def _text(data: bytes, source: str, noun: str) -> str:
    if not data.strip():
        raise _damaged(source, "it is empty")
    if re.match(rb"\s*<(!doctype|html|head|body|\?xml)", data[:256], re.IGNORECASE):
        raise _damaged(
            source, f"it is an HTML page instead of a {noun}", "A proxy, a login page or a wrong server address answers; open the address in a browser"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(source, "it is not text") from error


def _damaged(source: str, why: str, remedy: str = "Fetch it again or use another server") -> IntegrityError:
    return IntegrityError(f"Cannot use {source}: {why}. {remedy}.", cause="integrity")
