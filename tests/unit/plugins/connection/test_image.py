# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the connection to an opened image."""

from __future__ import annotations

import json
import shlex
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible_collections.hyperscaler.images.plugins.connection import image

STATE = {"path": "/srv/build/disk.raw", "enter": "/srv/build/enter.sock", "environment": {"SYSTEMD_OFFLINE": "1"}}


class FakeHost:
    """Stands for the connection to the build host: remembers what it was asked to run and answers by the first word."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], bytes | None]] = []
        self.answers: dict[str, tuple[int, bytes, bytes]] = {
            "id": (0, b"0\n", b""),
            "cat": (0, json.dumps(STATE).encode(), b""),
            "/usr/bin/python3": (0, b"out", b""),
        }
        self.variables: dict[str, t.Any] = {}
        self.closed = False

    def set_options(self, *, var_options: dict[str, t.Any]) -> None:
        self.variables = var_options

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        assert not sudoable
        argv = shlex.split(cmd)
        self.calls.append((argv, in_data))
        return self.answers[next(word for word in argv if word not in ("sudo", "-n", "-k", "-S", "-p", ""))]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost()
    monkeypatch.setattr(image.connection_loader, "get", lambda *_: fake)
    return fake


@pytest.fixture
def options(tmp_path: Path) -> dict[str, t.Any]:
    state = tmp_path / "root.json"
    state.write_text(json.dumps(STATE), encoding="utf-8")
    return {
        "state_file": str(state),
        "build_host_connection": "local",
        "build_host_variables": {"ansible_port": 2222},
        "delegate_to": None,
        "become_password": None,
    }


@pytest.fixture
def connection(host: FakeHost, options: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> image.Connection:
    del host
    monkeypatch.setattr(image.os, "geteuid", lambda: 0)
    plugin = image.Connection(PlayContext())
    plugin.get_option = options.__getitem__  # type: ignore[method-assign]  # the options that Ansible would have set
    return plugin


class FakeImage:
    """Stands for the process that has entered the image."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer = (0, b"out", b"")
        self.closed = False

    def run(self, socket: str, command: str, environment: dict[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
        self.calls.append((socket, command, environment, stdin))
        if self.closed:
            raise FileNotFoundError(2, "No such file or directory", socket)
        return self.answer


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> FakeImage:
    fake = FakeImage()
    monkeypatch.setattr(image._enter, "run", fake.run)
    return fake


def test_root_on_this_machine_starts_no_process_of_its_own(connection: image.Connection, host: FakeHost, inside: FakeImage) -> None:
    assert connection.exec_command("echo 'a b'", in_data=b"x") == (0, b"out", b"")
    assert host.calls == []
    ((socket, command, environment, stdin),) = inside.calls
    assert (socket, command, stdin) == ("/srv/build/enter.sock", "echo 'a b'", b"x")
    assert environment["SYSTEMD_OFFLINE"] == "1"
    assert environment["APT_CONFIG"] == "/run/hyperscaler/apt.conf"
    assert host.variables == {}


def test_others_use_sudo(connection: image.Connection, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image.os, "geteuid", lambda: 1000)
    host.answers["id"] = (0, b"1000\n", b"")
    connection.exec_command("true")
    cat, entry = (argv for argv, _stdin in host.calls[1:])
    assert cat[:4] == ["sudo", "-n", "cat", "--"]
    assert entry[:7] == ["sudo", "-n", "/usr/bin/python3", "-I", "-S", "/srv/build/enter.py", "/srv/build/enter.sock"]
    assert json.loads(entry[7])["SYSTEMD_OFFLINE"] == "1"
    assert entry[8] == "true"


SUDO = ["sudo", "-k", "-S", "-p", ""]


def without_root(host: FakeHost, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """The build is run by a user whose sudo asks for a password unless ``free`` is 0."""
    monkeypatch.setattr(image.os, "geteuid", lambda: 1000)
    host.answers["id"] = (0, b"1000\n", b"")
    host.answers["true"] = (free, b"", b"")


@pytest.mark.parametrize("way", ["variable", "prompt"])
def test_a_password_goes_to_sudo_before_what_the_command_reads(
    connection: image.Connection, host: FakeHost, options: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    without_root(host, monkeypatch, 1)
    if way == "variable":
        options["become_password"] = "pass word"
    else:
        connection._play_context.become_pass = "pass word"
    connection.exec_command("cat", in_data=b"data")
    connection.exec_command("true")
    asked, read, *entered = host.calls[1:]
    assert asked == (["sudo", "-k", "-n", "true"], None)
    assert (read[0][:7], read[1]) == ([*SUDO, "cat", "--"], b"pass word\n")
    assert [(argv[:6], stdin) for argv, stdin in entered] == [([*SUDO, "/usr/bin/python3"], b"pass word\ndata"), ([*SUDO, "/usr/bin/python3"], b"pass word\n")]


def test_a_password_that_sudo_does_not_ask_for_is_not_handed_to_the_command(
    connection: image.Connection, host: FakeHost, options: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_root(host, monkeypatch, 0)
    options["become_password"] = "pass word"
    connection.exec_command("cat", in_data=b"data")
    assert [stdin for _argv, stdin in host.calls] == [None, None, None, b"data"]
    assert host.calls[-1][0][:3] == ["sudo", "-n", "/usr/bin/python3"]


@pytest.mark.parametrize(
    "said", [b"sudo: a password is required\n", b"Sorry, try again.\nsudo: 1 incorrect password attempt\n", b"ops is not in the sudoers file.\n"]
)
def test_sudo_that_refuses_is_no_image_that_is_not_open(connection: image.Connection, host: FakeHost, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    without_root(host, monkeypatch, 1)
    host.answers["cat"] = (1, b"", said)
    with pytest.raises(AnsibleConnectionFailure, match=r"sudo did not make the user of the build root \(.*--ask-become-pass.*nothing was run") as raised:
        connection.exec_command("true")
    assert said.decode().splitlines()[-1] in str(raised.value)


def test_another_machine_is_asked_over_ssh(connection: image.Connection, host: FakeHost, options: dict[str, t.Any]) -> None:
    options["build_host_connection"] = "ssh"
    connection.exec_command("true")
    assert [argv[0] for argv, _stdin in host.calls] == ["id", "cat", "/usr/bin/python3"]
    assert host.variables == {"ansible_port": 2222}


@pytest.mark.parametrize("kind", ["local", "ssh"])
def test_nothing_runs_when_the_image_is_not_open(connection: image.Connection, host: FakeHost, options: dict[str, t.Any], kind: str) -> None:
    options["build_host_connection"] = kind
    options["state_file"] += ".gone"
    host.answers["cat"] = (1, b"", b"cat: No such file or directory\n")
    with pytest.raises(AnsibleConnectionFailure, match=r"root\.json\.gone: the image is not open \((?:cat: )?No such file or directory\).*nothing was run"):
        connection.exec_command("true")
    assert all(argv[0] != "/usr/bin/python3" for argv, _stdin in host.calls)


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_runs_when_the_image_was_closed_meanwhile(connection: image.Connection, inside: FakeImage, closed: bool) -> None:
    inside.answer, inside.closed = (97, b"", b""), closed
    with pytest.raises(AnsibleConnectionFailure, match=r"/srv/build/disk\.raw: the image was closed meanwhile"):
        connection.exec_command("true")


def test_files_travel_through_commands(connection: image.Connection, host: FakeHost, inside: FakeImage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    connection.put_file(str(source), "/in side")
    assert inside.calls[0][1] == "cat > '/in side'"
    assert inside.calls[0][3] == b"content"
    connection.fetch_file("/etc/passwd", str(tmp_path / "fetched"))
    assert (tmp_path / "fetched").read_bytes() == b"out"
    connection.close()
    assert host.closed


def test_files_that_cannot_be_moved(connection: image.Connection, inside: FakeImage, tmp_path: Path) -> None:
    with pytest.raises(AnsibleFileNotFound, match="there is no such file"):
        connection.put_file(str(tmp_path / "gone"), "/x")
    inside.answer = (1, b"", b"disk full\n")
    with pytest.raises(AnsibleConnectionFailure, match=r"Cannot fetch /x from /srv/build/disk\.raw: disk full"):
        connection.fetch_file("/x", str(tmp_path / "y"))
    with pytest.raises(AnsibleConnectionFailure, match=r"to /x inside /srv/build/disk\.raw: disk full"):
        connection.put_file(__file__, "/x")


def test_a_task_delegated_to_the_controller_does_not_run_inside(connection: image.Connection, options: dict[str, t.Any]) -> None:
    options["delegate_to"] = "localhost"
    with pytest.raises(AnsibleConnectionFailure, match=r"delegated to localhost.*nothing was run"):
        connection.exec_command("id")
    options["delegate_to"] = "another_image"
    connection._connect()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "the image is not open (No such file or directory)"),
        ("/", "the image is not open (Is a directory)"),
        ("", "that file does not describe an open image"),
        ("hello", "that file does not describe an open image"),
        ("[]", "that file does not describe an open image"),
        ("{}", "that file does not describe an open image"),
        ("\udcff", "that file does not describe an open image"),
    ],
)
def test_a_state_that_is_none(connection: image.Connection, options: dict[str, t.Any], content: str | None, why: str) -> None:
    state = Path(options["state_file"])
    state.unlink()
    if content == "/":
        state.mkdir()
    elif content is not None:
        state.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(AnsibleConnectionFailure) as caught:
        connection.exec_command("true")
    expected = f"Cannot run a task inside the image of {state}: {why}. Open it with hyperscaler.images.image_root first; nothing was run."
    assert str(caught.value) == expected
    # Ansible adds the text of a cause to the message.
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("inside")
def test_files_of_the_controller_that_cannot_be_used(connection: image.Connection, tmp_path: Path) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=r"Cannot copy .* into the image: Is a directory\. Correct"):
        connection.put_file(str(tmp_path), "/x")
    with pytest.raises(AnsibleConnectionFailure, match=r"Cannot write what was fetched to .*: Is a directory\. Choose"):
        connection.fetch_file("/x", str(tmp_path))
