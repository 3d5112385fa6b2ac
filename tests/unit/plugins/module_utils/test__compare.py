# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the comparison of two images."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._compare import ALLOWED, NORMALIZE, Allowance, Comparison, compare, report, verdict
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree
from ansible_collections.hyperscaler.images.plugins.module_utils._snapshot import Snapshot, take_snapshot

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n",
    "etc/shadow": "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n",
    "etc/group": "root:x:0:\nsudo:x:27:\n",
    "etc/gshadow": "root:*::\nsudo:*::\n",
    "etc/hyperscaler-image.json": "{}",
    "etc/motd": "hello\n",
    "boot/grub/grub.cfg": "# made by hand\nset timeout=0\n",
    "var/lib/dpkg/status": (
        "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: b\nStatus: install ok installed\nArchitecture: all\nVersion: 2\n\n"
    ),
    "usr/bin/tool": "#!/bin/sh\n",
}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/ssh.service": "/usr/lib/systemd/system/ssh.service",
    "etc/systemd/system/sshd.service": "/usr/lib/systemd/system/ssh.service",
    "etc/systemd/system/swap.target": "/dev/null",
}
Change = t.Callable[[Path], object]


def make(root: Path) -> Path:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
    for name, target in LINKS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    return root


def look(root: Path) -> Snapshot:
    return take_snapshot(Tree(root), NORMALIZE)


@pytest.fixture
def compared(tmp_path: Path) -> t.Callable[..., Comparison]:
    """Compare an image with one that is the same but for one change."""

    def run(change: Change | None = None, allowed: t.Sequence[Allowance] = ALLOWED) -> Comparison:
        first, second = make(tmp_path / "first"), make(tmp_path / "second")
        if change is not None:
            change(second)
        return compare(look(first), look(second), allowed)

    return run


def write(name: str, text: str) -> Change:
    return lambda root: (root / name).write_text(text, encoding="utf-8")


def relink(root: Path) -> None:
    (root / "etc/systemd/system/sshd.service").unlink()
    (root / "etc/systemd/system/sshd.service").symlink_to("/usr/lib/systemd/system/other.service")


def sentences(comparison: Comparison) -> list[str]:
    return [difference.sentence() for difference in comparison.differences]


def test_equal_images(compared: t.Callable[..., Comparison]) -> None:
    found = compared()
    assert found.equal
    assert found.counts == {"packages": (2, 2), "units": (2, 2), "users": (2, 2), "groups": (2, 2), "files": (23, 23)}
    message = "a and b are equal: 2 packages, 2 units, 2 users, 2 groups, 23 files; 0 allowed differences."
    assert verdict("a", "b", found) == message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (write("etc/motd", "bye\n"), "files: /etc/motd: content is "),
        (lambda root: (root / "etc/motd").chmod(0o600), "files: /etc/motd: mode is 0644 in the first image and 0600 in the second"),
        (lambda root: (root / "etc/motd").unlink(), "files: /etc/motd is only in the first image"),
        (lambda root: (root / "srv").mkdir(), "files: /srv is only in the second image"),
        (relink, "files: /etc/systemd/system/sshd.service: content is "),
        (lambda root: (root / "etc/systemd/system/swap.target").unlink(), "units: swap.target (system) is only in the first image"),
        (relink, "units: other.service (system) is only in the second image"),
        (
            lambda root: (root / "etc/systemd/system/multi-user.target.wants/ssh.service").unlink(),
            "units: ssh.service (system): in multi-user.target.wants is yes in the first image and missing in the second",
        ),
        (write("etc/passwd", FILES["etc/passwd"] + "admin:x:1000:1000::/home/admin:/bin/sh\n"), "users: admin is only in the second image"),
        (
            write("etc/passwd", FILES["etc/passwd"].replace("/bin/bash", "/bin/sh")),
            "users: root: shell is /bin/bash in the first image and /bin/sh in the second",
        ),
        (
            write("etc/shadow", FILES["etc/shadow"].replace("root:*", "root:$y$x")),
            "users: root: password is *:0:99999:7::: in the first image and $y$x:0:99999:7::: in the second",
        ),
        (
            write("etc/group", FILES["etc/group"].replace("sudo:x:27:", "sudo:x:27:admin")),
            "groups: sudo: members is empty in the first image and admin in the second",
        ),
        (
            write("var/lib/dpkg/status", FILES["var/lib/dpkg/status"].replace("Version: 2", "Version: 3")),
            "packages: b:all: version is 2 in the first image and 3 in the second",
        ),
        (
            write(
                "var/lib/dpkg/status", FILES["var/lib/dpkg/status"].replace("install ok installed\nArchitecture: all", "hold ok installed\nArchitecture: all")
            ),
            "packages: b:all: state is install ok installed in the first image and hold ok installed in the second",
        ),
    ],
)
def test_each_difference_is_found(compared: t.Callable[..., Comparison], change: Change, expected: str) -> None:
    found = compared(change)
    assert not found.equal
    assert any(sentence.startswith(expected) for sentence in sentences(found)), sentences(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and set capabilities")
def test_owners_and_capabilities(compared: t.Callable[..., Comparison]) -> None:
    def change(root: Path) -> None:
        os.chown(root / "etc/motd", 0, 27)
        os.setxattr(root / "usr/bin/tool", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))

    assert sentences(compared(change)) == [
        "files: /etc/motd: owner is 0:0 in the first image and 0:27 in the second",
        "files: /usr/bin/tool: capabilities is empty in the first image and 0100000200040000000000000000000000000000 in the second",
    ]


@pytest.mark.parametrize(
    "change",
    [
        write("etc/shadow", FILES["etc/shadow"].replace("20000", "20001")),
        write("boot/grub/grub.cfg", "# made by another hand\nset timeout=0\n"),
        write("var/lib/dpkg/status", "\n\n".join(reversed(FILES["var/lib/dpkg/status"].strip().split("\n\n"))) + "\n\n"),
        lambda root: os.utime(root / "etc/motd", (1, 1)),
    ],
)
def test_what_does_not_count(compared: t.Callable[..., Comparison], change: Change) -> None:
    found = compared(change)
    assert found.equal, sentences(found)
    assert found.allowed == ()


def test_allowed_differences_are_told_with_their_reason(compared: t.Callable[..., Comparison]) -> None:
    found = compared(write("etc/hyperscaler-image.json", '{"inputs": "x"}'))
    assert found.equal
    assert [(difference.name, reason) for difference, reason in found.allowed] == [
        ("/etc/hyperscaler-image.json", "names the digest of the inputs, and the backend is an input")
    ]


def test_an_allowance_is_for_one_section(compared: t.Callable[..., Comparison]) -> None:
    change = write("etc/passwd", FILES["etc/passwd"] + "admin:x:1000:1000::/home/admin:/bin/sh\n")
    allowed = [Allowance("admin", "made by hand", "users"), Allowance("/etc/pass*", "the same")]
    assert sentences(compared(change, allowed[:1])) != []
    assert compared(change, allowed[:1]).differences[0].name == "/etc/passwd"


def test_what_allows_without_need_is_refused(compared: t.Callable[..., Comparison]) -> None:
    with pytest.raises(ImageError, match="has no reason"):
        compared(allowed=[Allowance("/etc/motd", " ")])
    with pytest.raises(ImageError, match="The sections are packages, units"):
        compared(allowed=[Allowance("/etc/motd", "x", "fils")])


def test_report(compared: t.Callable[..., Comparison]) -> None:
    found = compared(write("etc/motd", "bye\n"))
    page = report("one.raw", "two.raw", found)
    assert "**1 differences that are not allowed:**" in page
    assert "- `files: /etc/motd: content is" in page
    assert "| files | 23 | 23 |" in page
    equal = dataclasses.replace(found, differences=(), allowed=((found.differences[0], "it greets"),))
    assert "**Equal.**" in report("a", "b", equal)
    assert ": it greets" in report("a", "b", equal)


def test_a_long_list_is_cut(compared: t.Callable[..., Comparison]) -> None:
    def change(root: Path) -> None:
        for number in range(60):
            (root / f"etc/{number:02}").touch()

    text = verdict("a", "b", compared(change))
    assert text.startswith("a (23 files) and b (83 files) differ in 60 places:\n  files: /etc/00 is only in the second image\n")
    assert "\n  and 20 more\nRemove the cause" in text
