# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the whole module against a mirror in a local folder."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t
from pathlib import Path

import pytest
import requests
import yaml
from ansible_collections.hyperscaler.images.plugins.module_utils._download import Download
from ansible_collections.hyperscaler.images.plugins.modules import debian_cloud_checksum as module

VERSION = "20250806-2196"
NAME = f"debian-13-genericcloud-amd64-{VERSION}.qcow2"
DATA = b"an image" * 1000
SHA512 = hashlib.sha512(DATA).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with one release."""
    root = tmp_path / "mirror"
    folder = root / "trixie" / VERSION
    folder.mkdir(parents=True)
    (root / "trixie" / "latest").mkdir()
    (folder / NAME).write_bytes(DATA)
    (folder / "SHA512SUMS").write_text(f"{SHA512}  {NAME}\n", encoding="utf-8")
    info = {"arch": "amd64", "release": "trixie", "vendor": "genericcloud", "version": VERSION}
    digest = "sha512:" + base64.b64encode(bytes.fromhex(SHA512)).decode().rstrip("=")
    upload = {"kind": "Upload", "data": {"ref": f"trixie/{VERSION}/{NAME}"}, "metadata": {"annotations": {"cloud.debian.org/digest": digest}}}
    document = {"items": [{"kind": "Build", "data": {"info": info}}, upload]}
    (root / "trixie" / "latest" / "debian-13-genericcloud-amd64.json").write_text(json.dumps(document), encoding="utf-8")
    return root


@pytest.fixture
def run(run_module: t.Callable[..., dict[str, t.Any]], mirror: Path) -> t.Callable[..., dict[str, t.Any]]:
    """Run the module with the mirror, unless another server is given."""

    def start(**arguments: t.Any) -> dict[str, t.Any]:
        return run_module(module.main, **{"server": str(mirror), "version": VERSION, **arguments})

    return start


Run = t.Callable[..., "dict[str, t.Any]"]


def test_checksum_only(run: Run, mirror: Path) -> None:
    result = run()
    assert not result["changed"]
    assert result["url"] == f"{mirror}/trixie/{VERSION}/{NAME}"
    assert (result["file_name"], result["version"], result["sha512"]) == (NAME, VERSION, SHA512)
    assert result["msg"] == f"{NAME} has the SHA-512 {SHA512}."
    assert "dest" not in result


def test_check_download_and_again(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    predicted = run(dest=f"{out}/", check_mode=True)
    assert predicted["changed"]
    assert predicted["msg"] == f"{predicted['url']} would be downloaded: {out / NAME} does not exist."
    assert predicted["diff"]["before"] == {"path": str(out / NAME), "state": "absent"}
    assert predicted["diff"]["after"] == {"path": str(out / NAME), "state": "verified", "sha512": SHA512}
    assert list(out.iterdir()) == []

    done = run(dest=str(out))
    assert done["changed"]
    assert (done["dest"], done["size"], done["received"], done["resumed"]) == (str(out / NAME), len(DATA), len(DATA), False)
    assert done["msg"] == f"{done['url']} was downloaded: {out / NAME} does not exist."
    assert done["diff"]["after"]["size"] == len(DATA)
    assert "seconds" in done
    assert (out / NAME).read_bytes() == DATA

    for check_mode in (True, False):
        again = run(dest=str(out), check_mode=check_mode)
        assert not again["changed"]
        assert (again["dest"], again["size"], again["received"], again["resumed"]) == (str(out / NAME), len(DATA), 0, False)
        assert again["msg"] == f"{out / NAME} has the SHA-512 that the server lists."
        assert again["diff"]["before"] == again["diff"]["after"]


def test_other_content_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"other")
    predicted = run(dest=str(tmp_path / "image"), check_mode=True)
    assert predicted["diff"]["before"] == {"path": str(tmp_path / "image"), "state": "other content", "size": 5}
    assert f"{tmp_path}/image does not have the SHA-512 of {NAME}" in predicted["msg"]
    assert (tmp_path / "image").read_bytes() == b"other"
    assert run(dest=str(tmp_path / "image"))["changed"]
    assert (tmp_path / "image").read_bytes() == DATA


def test_pinned_file_needs_no_server(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise requests.exceptions.ConnectTimeout

    monkeypatch.setattr(requests.Session, "get", refuse)
    (tmp_path / "image").write_bytes(DATA)
    result = run(server="https://server/images/", dest=str(tmp_path / "image"), expected=f"sha512:{SHA512.upper()}")
    assert not result["changed"]
    assert result["msg"] == f"{tmp_path}/image has the pinned SHA-512; the server was not asked."
    assert result["url"] == f"https://server/images/trixie/{VERSION}/{NAME}"
    failed = run(server="https://server/images/", dest=str(tmp_path / "image"), expected=SHA512, version="latest", retries=0)
    assert failed["failed"]
    assert failed["cause"] == "unreachable"


def test_latest(run: Run, tmp_path: Path) -> None:
    result = run(version="latest", dest=str(tmp_path), expected=SHA512)
    assert (result["version"], result["dest"]) == (VERSION, str(tmp_path / NAME))
    assert (tmp_path / NAME).read_bytes() == DATA


def test_pinned_digest_that_disagrees(run: Run, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"other")
    result = run(dest=str(tmp_path / "image"), expected="ab" * 64)
    assert result["failed"]
    assert (result["cause"], result["expected"], result["listed"]) == ("integrity", "ab" * 64, SHA512)
    assert (tmp_path / "image").read_bytes() == b"other"


def test_damaged_image(run: Run, mirror: Path, tmp_path: Path) -> None:
    (mirror / "trixie" / VERSION / NAME).write_bytes(DATA[:-1])
    result = run(dest=str(tmp_path / "image"))
    assert result["failed"]
    assert result["cause"] == "integrity"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mirror"]


def test_file_that_another_process_brought(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "download", lambda _url, dest, _digest, **_options: Download(dest, len(DATA), 0, False, False, 1.0))
    result = run(dest=str(tmp_path / "image"))
    assert not result["changed"]
    assert "was downloaded by another process" in result["msg"]


def test_progress_file(run: Run, tmp_path: Path) -> None:
    run(dest=str(tmp_path / "image"), progress_file=str(tmp_path / "progress"))
    assert (tmp_path / "progress").read_text(encoding="utf-8").startswith(f"{NAME}: 0 of 0 MiB (100 %), ")


@pytest.mark.parametrize(
    ("arguments", "cause", "says"),
    [
        ({"version": "yesterday"}, "input", "Cannot use 'yesterday' as a version"),
        ({"expected": ""}, "input", "Cannot use the checksum given in expected: it is empty"),
        ({"server": "ftp://server/"}, "input", "neither an https, http or file URL nor an absolute path"),
        ({"server": "/nonexistent"}, "missing", f"Cannot read /nonexistent/trixie/{VERSION}/SHA512SUMS: there is no such file"),
        ({"flavour": "generic"}, "missing", "Cannot find the checksum of debian-13-generic-amd64"),
        ({"retries": -1}, "input", "Cannot use the limits"),
        ({"connect_timeout": 0}, "input", "Cannot use the limits"),
        ({"stall_timeout": 0}, "input", "Cannot use the limits"),
        ({"dest": "/nonexistent/image"}, "local", "the folder /nonexistent does not exist"),
        ({"dest": "/nonexistent/image", "expected": "ab" * 64}, "local", "the folder /nonexistent does not exist"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_failures(run: Run, arguments: dict[str, t.Any], cause: str, says: str, check_mode: bool) -> None:
    result = run(check_mode=check_mode, **arguments)
    assert result["failed"]
    assert result["cause"] == cause
    assert says in result["msg"]


def test_limits_reach_the_transport() -> None:
    params = {"retries": 3, "connect_timeout": 1.5, "stall_timeout": 2.5, "ca_path": "/etc/ca"}
    policy = module._policy(params)
    assert (policy.retries, policy.connect_timeout, policy.stall_timeout, policy.ca_path) == (3, 1.5, 2.5, "/etc/ca")


def test_documentation_matches_the_arguments() -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert list(options) == list(module.ARGUMENTS)
    for name, option in options.items():
        argument = module.ARGUMENTS[name]
        assert {key: option.get(key) for key in ("type", "default", "choices", "required")} == {
            key: argument.get(key) for key in ("type", "default", "choices", "required")
        }


def test_every_returned_value_is_documented(run: Run, tmp_path: Path) -> None:
    result = run(dest=str(tmp_path / "image"))
    documented = set(yaml.safe_load(module.RETURN))
    common = {"changed", "diff", "invocation", "warnings", "deprecations", "gid", "uid", "group", "owner", "mode", "state", "secontext"}
    assert set(result) - common <= documented
