# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the names, checksum files and manifests of Debian's cloud images."""

from __future__ import annotations

import base64
import json
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _debian_cloud as cloud
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError

SERVER = "https://cloud.debian.org/images/cloud"
VERSION = "20250814-2204"
NAME = f"debian-13-genericcloud-amd64-{VERSION}.qcow2"
# From the manifest of this version, as Debian publishes it.
QCOW2_BASE64 = "12EiyHyUDRq5M09DB8mMAdxC8LSaIM3fJ41ZuS00q2PQWsH0Df/aPS0y44Hwl3Bu7mzL95pZa/ssuz2DxjWuNQ"
RAW_BASE64 = "Y9gZi9VKgcHdByj2TAYU/jurClgNl7i95OkDUY9xTzOCilnJ28yOA1jyVhIU7daESKtoKdd2rpkZklP8UH/Guw"
QCOW2_HEX = "d76122c87c940d1ab9334f4307c98c01dc42f0b49a20cddf278d59b92d34ab63d05ac1f40dffda3d2d32e381f097706eee6ccbf79a596bfb2cbb3d83c635ae35"


def manifest(**changes: t.Any) -> dict[str, t.Any]:
    """The manifest of the version, with the list of packages cut."""
    info = {
        "arch": "amd64",
        "build_id": "cloud-admin-team-master",
        "release": "trixie",
        "release_baseid": "13",
        "release_id": "13",
        "type": "official",
        "vendor": "genericcloud",
        "version": VERSION,
        **changes,
    }
    uploads = [
        {
            "apiVersion": "cloud.debian.org/v1alpha1",
            "data": {"familyRef": None, "provider": "cloud.debian.org", "ref": f"trixie/{VERSION}/debian-13-genericcloud-amd64-{VERSION}.{extension}"},
            "kind": "Upload",
            "metadata": {"annotations": {"cloud.debian.org/digest": f"sha512:{digest}"}, "labels": {"upload.cloud.debian.org/image-format": extension}},
        }
        for extension, digest in (("raw", RAW_BASE64), ("qcow2", QCOW2_BASE64))
    ]
    build = {"kind": "Build", "data": {"info": info, "packages": [{"name": "adduser", "version": "3.152"}]}, "metadata": {"annotations": {}}}
    return {"apiVersion": "v1", "items": [build, *uploads], "kind": "List"}


def as_bytes(document: t.Any) -> bytes:
    return json.dumps(document).encode()


def sums(*entries: tuple[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for digest, name in entries).encode()


def image(**changes: t.Any) -> cloud.CloudImage:
    fields = {"release": "trixie", "version": VERSION, "daily": False, "flavour": "genericcloud", "arch": "amd64", "format": "qcow2", **changes}
    return cloud.CloudImage(**fields)


@pytest.mark.parametrize(
    ("changes", "folder", "name"),
    [
        ({}, f"trixie/{VERSION}", NAME),
        ({"version": "latest"}, "trixie/latest", "debian-13-genericcloud-amd64.qcow2"),
        ({"daily": True}, f"trixie/daily/{VERSION}", f"debian-13-genericcloud-amd64-daily-{VERSION}.qcow2"),
        ({"daily": True, "version": "latest"}, "trixie/daily/latest", "debian-13-genericcloud-amd64-daily.qcow2"),
        (
            {"release": "bookworm", "flavour": "nocloud", "arch": "arm64", "format": "tar.xz"},
            f"bookworm/{VERSION}",
            f"debian-12-nocloud-arm64-{VERSION}.tar.xz",
        ),
        ({"release": "sid", "flavour": "generic", "format": "raw"}, f"sid/{VERSION}", f"debian-sid-generic-amd64-{VERSION}.raw"),
        ({"release": "forky"}, f"forky/{VERSION}", f"debian-14-genericcloud-amd64-{VERSION}.qcow2"),
        ({"release": "bullseye"}, f"bullseye/{VERSION}", f"debian-11-genericcloud-amd64-{VERSION}.qcow2"),
    ],
)
def test_names(changes: dict[str, t.Any], folder: str, name: str) -> None:
    wanted = image(**changes)
    assert (wanted.folder, wanted.file_name()) == (folder, name)


def test_name_with_another_extension() -> None:
    assert image(version="latest").file_name("json") == "debian-13-genericcloud-amd64.json"


@pytest.mark.parametrize("text", ["latest", "20250806-2196", "20260831-1"])
def test_version_is_accepted(text: str) -> None:
    assert cloud.parse_version(text) == text


@pytest.mark.parametrize(
    "text", ["", "20250806", "20250806-", "20251306-1", "20250230-1", "Latest", "../x", "20250806-2196/", "20250806-2196\n", "daily/latest"]
)
def test_version_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match=r'it must be "latest" or a date and a build number like 20250806-2196') as error:
        cloud.parse_version(text)
    assert error.value.details["cause"] == "input"


def test_server_is_checked() -> None:
    assert cloud.parse_server(SERVER + "/") == SERVER
    assert cloud.parse_server("/srv/what?/#1") == "/srv/what?/#1"
    for text in (SERVER + "?a=b", SERVER + "#here"):
        with pytest.raises(ImageError, match="a query or a fragment"):
            cloud.parse_server(text)
    with pytest.raises(ImageError, match="neither an https, http or file URL"):
        cloud.parse_server("mirror")


@pytest.mark.parametrize("text", [QCOW2_HEX, QCOW2_HEX.upper(), f"sha512:{QCOW2_HEX}", f" SHA512:{QCOW2_HEX}\n"])
def test_digest_is_accepted(text: str) -> None:
    assert cloud.parse_digest(text, "expected") == QCOW2_HEX


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "it is empty"), ("sha512:", "it is empty"), (QCOW2_HEX[1:], "it has 127 characters"), (QCOW2_HEX + "0", "129"), ("g" * 128, "128 hex digits")],
)
def test_digest_is_refused(text: str, says: str) -> None:
    with pytest.raises(ImageError, match=f"given in expected: .*{says}"):
        cloud.parse_digest(text, "expected")


def test_sums() -> None:
    data = sums(("AB" * 64, "a.qcow2"), ("cd" * 64, "debian-13_x+y~z.tar.xz")) + b"ef" * 64 + b" *binary.raw\n"
    assert cloud.parse_sums(data, "S") == {"a.qcow2": "ab" * 64, "debian-13_x+y~z.tar.xz": "cd" * 64, "binary.raw": "ef" * 64}


GOOD = sums(("ab" * 64, "a.qcow2"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"<!DOCTYPE html><html>login</html>\n", "it is an HTML page instead of a list of checksums"),
        (b"\n  <HTML>\n", "it is an HTML page instead of a list of checksums"),
        (b"\xff\xfe\x00" + GOOD, "it is not text"),
        (GOOD[:-1], "it ends in the middle of line 1. It was cut off"),
        (GOOD + GOOD[:50], "it ends in the middle of line 2"),
        (GOOD + GOOD, "line 2 lists a.qcow2 a second time"),
        (GOOD + sums(("cd" * 64, "a.qcow2")), "line 2 lists a.qcow2 a second time"),
        (GOOD.replace(b"\n", b"\r\n"), "line 1 ends with CR LF"),
        (GOOD + b"\n" + GOOD.replace(b"a.q", b"b.q"), "line 2 is not"),
        (b"404 page not found\n", "line 1 is not"),
        (sums(("ab" * 63 + "a", "a.qcow2")), "line 1 has a checksum of 127 hex digits, a SHA-512 has 128"),
        (sums(("ab" * 32, "a.qcow2")), "line 1 has a checksum of 64 hex digits"),
        (sums(("xy" * 64, "a.qcow2")), "line 1 has a checksum with characters that are no hex digits"),
        (b"SHA512 (a.qcow2) = " + b"ab" * 64 + b"\n", "line 1 is not"),
        (b"ab" * 64 + b"\n", "line 1 is not"),
        (b"ab" * 64 + b" a.qcow2\n", "line 1 is not"),
        (sums(("ab" * 64, "../a.qcow2")), "line 1 names '../a.qcow2', which is not a plain file name"),
        (sums(("ab" * 64, "./a.qcow2")), "which is not a plain file name"),
        (sums(("ab" * 64, "sub/a.qcow2")), "which is not a plain file name"),
        (sums(("ab" * 64, "/a.qcow2")), "which is not a plain file name"),
        (sums(("ab" * 64, "..")), "which is not a plain file name"),
        (sums(("ab" * 64, ".hidden")), "which is not a plain file name"),
        (sums(("ab" * 64, "a b")), "which is not a plain file name"),
        (sums(("ab" * 64, "a\\b")), "which is not a plain file name"),
        (sums(("ab" * 64, "a\x1b[2J")), "which is not a plain file name"),
    ],
)
def test_damaged_sums(data: bytes, says: str) -> None:
    with pytest.raises(IntegrityError) as error:
        cloud.parse_sums(data, "https://server/SHA512SUMS")
    assert str(error.value).startswith("Cannot use https://server/SHA512SUMS: ")
    assert says in str(error.value)
    assert error.value.details["cause"] == "integrity"


def test_manifest() -> None:
    found = cloud.parse_manifest(as_bytes(manifest()), "M")
    assert found.version == VERSION
    assert found.info["vendor"] == "genericcloud"
    assert found.digests[NAME] == QCOW2_HEX
    assert set(found.digests) == {NAME, NAME.replace("qcow2", "raw")}


@pytest.mark.parametrize("padding", ["", "=="])
def test_manifest_digest_with_and_without_padding(padding: str) -> None:
    assert cloud.parse_manifest_digest(f"sha512:{QCOW2_BASE64}{padding}", "M") == QCOW2_HEX


@pytest.mark.parametrize(
    "text", ["", None, "sha512:", QCOW2_BASE64, f"sha256:{QCOW2_BASE64}", f"sha512:{QCOW2_BASE64[:-4]}", f"sha512:{QCOW2_BASE64[:-1]}!", f"sha512:{QCOW2_HEX}"]
)
def test_damaged_manifest_digest(text: t.Any) -> None:
    with pytest.raises(IntegrityError, match="is not a SHA-512 in base64"):
        cloud.parse_manifest_digest(text, "M")


def changed_manifest(change: t.Callable[[dict[str, t.Any]], t.Any]) -> bytes:
    document = manifest()
    change(document)
    return as_bytes(document)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"<html>\n", "it is an HTML page instead of a manifest"),
        (b'{"items": [', "it is not JSON"),
        (as_bytes(manifest())[:-5], "it is not JSON"),
        (b"[]", "it is not a manifest of Debian's cloud images"),
        (b"{}", "it is not a manifest of Debian's cloud images"),
        (b'{"items": [null]}', "it is not a manifest of Debian's cloud images"),
        (b'{"items": []}', "it is not a manifest of Debian's cloud images"),
        (changed_manifest(lambda document: document["items"].append(document["items"][0])), "it describes 2 builds"),
        (changed_manifest(lambda document: document["items"].append(document["items"][1])), f"it lists {NAME.replace('qcow2', 'raw')} a second time"),
        (changed_manifest(lambda document: document["items"][0]["data"]["info"].pop("version")), "it is not a manifest"),
        (changed_manifest(lambda document: document["items"][1]["metadata"].pop("annotations")), "it is not a manifest"),
        (as_bytes(manifest(version="latest")), "its version 'latest' is not a date"),
        (as_bytes(manifest(version="../../x")), "its version '../../x' is not a date"),
    ],
)
def test_damaged_manifest(data: bytes, says: str) -> None:
    with pytest.raises(IntegrityError) as error:
        cloud.parse_manifest(data, "M")
    assert str(error.value).startswith("Cannot use M: ")
    assert says in str(error.value)


def fetcher(pages: dict[str, bytes], asked: list[str]) -> cloud.Fetch:
    def fetch(source: str, limit: int) -> bytes:
        asked.append(source)
        assert limit in (cloud.SUMS_LIMIT, cloud.MANIFEST_LIMIT)
        return pages[source]

    return fetch


SUMS_URL = f"{SERVER}/trixie/{VERSION}/SHA512SUMS"
MANIFEST_URL = f"{SERVER}/trixie/latest/debian-13-genericcloud-amd64.json"


def test_resolve_pinned_version() -> None:
    asked: list[str] = []
    found = cloud.resolve(image(), SERVER, None, fetcher({SUMS_URL: sums((QCOW2_HEX, NAME))}, asked))
    assert found == cloud.CloudFile(f"{SERVER}/trixie/{VERSION}/{NAME}", NAME, VERSION, QCOW2_HEX)
    assert asked == [SUMS_URL]


@pytest.mark.parametrize(("extension", "digest"), [("qcow2", QCOW2_HEX), ("json", "12" * 64)])
def test_resolve_latest(extension: str, digest: str) -> None:
    asked: list[str] = []
    name = NAME.replace("qcow2", extension)
    pages = {MANIFEST_URL: as_bytes(manifest()), SUMS_URL: sums((digest, name))}
    found = cloud.resolve(image(version="latest", format=extension), SERVER, digest, fetcher(pages, asked))
    assert found == cloud.CloudFile(f"{SERVER}/trixie/{VERSION}/{name}", name, VERSION, digest)
    assert asked == [MANIFEST_URL, SUMS_URL]


def test_resolve_latest_daily() -> None:
    document = manifest()
    document["items"][2]["data"]["ref"] = f"trixie/daily/{VERSION}/debian-13-genericcloud-amd64-daily-{VERSION}.qcow2"
    name = f"debian-13-genericcloud-amd64-daily-{VERSION}.qcow2"
    pages = {
        f"{SERVER}/trixie/daily/latest/debian-13-genericcloud-amd64-daily.json": as_bytes(document),
        f"{SERVER}/trixie/daily/{VERSION}/SHA512SUMS": sums((QCOW2_HEX, name)),
    }
    found = cloud.resolve(image(version="latest", daily=True), SERVER, None, fetcher(pages, []))
    assert found.url == f"{SERVER}/trixie/daily/{VERSION}/{name}"


def test_resolve_missing_line() -> None:
    with pytest.raises(DownloadError, match=f"Cannot find the checksum of {NAME}: none of the 1 lines") as error:
        cloud.resolve(image(), SERVER, None, fetcher({SUMS_URL: sums((QCOW2_HEX, "other.qcow2"))}, []))
    assert error.value.details["cause"] == "missing"


def test_resolve_disagreement_of_manifest_and_sums() -> None:
    pages = {MANIFEST_URL: as_bytes(manifest()), SUMS_URL: sums(("ab" * 64, NAME))}
    with pytest.raises(IntegrityError, match=f"the manifest of the latest release says sha512 {QCOW2_HEX}, .* says {'ab' * 64}"):
        cloud.resolve(image(version="latest"), SERVER, None, fetcher(pages, []))


@pytest.mark.parametrize(("key", "value"), [("release", "bookworm"), ("vendor", "generic"), ("arch", "arm64")])
def test_resolve_manifest_of_something_else(key: str, value: str) -> None:
    pages = {MANIFEST_URL: as_bytes(manifest(**{key: value})), SUMS_URL: sums((QCOW2_HEX, NAME))}
    with pytest.raises(IntegrityError, match=f"it is for {key} '{value}' instead of"):
        cloud.resolve(image(version="latest"), SERVER, None, fetcher(pages, []))


def test_resolve_format_that_the_manifest_lacks() -> None:
    with pytest.raises(DownloadError, match=f"has version {VERSION} but not this file") as error:
        cloud.resolve(image(version="latest", format="tar.xz"), SERVER, None, fetcher({MANIFEST_URL: as_bytes(manifest())}, []))
    assert error.value.details["cause"] == "missing"


def test_resolve_pinned_digest_that_disagrees() -> None:
    with pytest.raises(IntegrityError, match=f"lists sha512 {QCOW2_HEX}, but {'ab' * 64} is expected") as error:
        cloud.resolve(image(), SERVER, "ab" * 64, fetcher({SUMS_URL: sums((QCOW2_HEX, NAME))}, []))
    assert error.value.details == {"cause": "integrity", "expected": "ab" * 64, "listed": QCOW2_HEX}


def test_captured_digest_is_consistent() -> None:
    assert base64.b64decode(QCOW2_BASE64 + "==").hex() == QCOW2_HEX
