# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module image_inspect: arguments, results and failures."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.hyperscaler.images.plugins.module_utils import _inspect as inspect
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Expectations, Finding
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_image import Inspection
from ansible_collections.hyperscaler.images.plugins.modules import image_inspect
from ansible_collections.hyperscaler.images.tests.unit.conftest import ModuleRunner

HOSTNAME = inspect.error("identity.hostname", "Truncate it.").at("/etc/hostname", "names 'x'.")
LOG = inspect.warning("log.content", "Remove it.").at("/var/log/a.log", "is a log.")


class FakeInspection:
    """Stands for the inspection of an image."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.error: BusyError | None = None
        self.calls: list[tuple[Path, Expectations]] = []

    def __call__(self, path: Path, expectations: Expectations) -> Inspection:
        self.calls.append((path, expectations))
        if self.error:
            raise self.error  # pylint: disable=raising-bad-type
        return Inspection(self.findings, ({"partition": 1},), {"disk": 0.1}, (), 12, 345, {"id": "debian"})


@pytest.fixture
def inspection(monkeypatch: pytest.MonkeyPatch) -> FakeInspection:
    fake = FakeInspection()
    monkeypatch.setattr(image_inspect, "inspect_image", fake)
    return fake


@pytest.mark.usefixtures("inspection")
def test_a_clean_image(run_module: ModuleRunner) -> None:
    result = run_module(image_inspect.main, path="/srv/a.raw")
    del result["invocation"]
    assert result == {
        "changed": False,
        "msg": "/srv/a.raw was inspected: 0 errors, 0 warnings, 0 info.",
        "findings": [],
        "waived": [],
        "counts": {"error": 0, "warning": 0, "info": 0, "waived": 0},
        "kernels": [],
        "packages": 12,
        "files": 345,
        "os": {"id": "debian"},
        "file_systems": [{"partition": 1}],
        "seconds": {"disk": 0.1},
    }


@pytest.mark.parametrize(
    ("option", "value", "field", "expected"),
    [
        ("kernel_modules", ["nvidia"], "kernel_modules", ("nvidia",)),
        ("forbidden_hosts", ["mirror.a.org"], "forbidden_hosts", ("mirror.a.org",)),
        ("archive_domains", ["a.org"], "archive_domains", ("a.org",)),
        ("require_record", True, "require_record", True),
        ("session_settings", [{"key": "vm.swappiness", "value": "7"}], "session_settings", (("vm.swappiness", "7"),)),
        ("fail_on", "never", "archive_domains", ("debian.org", "ubuntu.com", "nvidia.com", "nvidia.github.io", "beegfs.io", "pkgs.k8s.io")),
    ],
)
def test_options_reach_the_inspection(option: str, value: t.Any, field: str, expected: t.Any, run_module: ModuleRunner, inspection: FakeInspection) -> None:
    run_module(image_inspect.main, path="/srv/a.raw", **{option: value})
    ((path, expectations),) = inspection.calls
    assert path == Path("/srv/a.raw")
    assert getattr(expectations, field) == expected


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_error_fails_with_everything_that_was_found(check_mode: bool, run_module: ModuleRunner, inspection: FakeInspection) -> None:
    inspection.findings = (LOG, HOSTNAME)
    result = run_module(image_inspect.main, path="/srv/a.raw", check_mode=check_mode)
    assert result["failed"] is True
    assert result["changed"] is False
    assert result["msg"] == (
        "Cannot pass /srv/a.raw: 1 problem must be solved or allowed first. (1) /etc/hostname: names 'x'. Truncate it. "
        'To allow it for this image: {rule: identity.hostname, path: "/etc/hostname", reason: …}. '
        "Entries that allow a finding, with a reason, belong in image_inspect_allowed (option allowed of image_inspect). "
        "/srv/a.raw was inspected: 1 error, 1 warning, 0 info."
    )
    assert result["findings"] == [HOSTNAME.as_result(), LOG.as_result()]
    assert result["packages"] == 12


@pytest.mark.parametrize(("fail_on", "failed"), [("error", False), ("warning", True), ("never", False)])
def test_the_severity_that_fails(fail_on: str, failed: bool, run_module: ModuleRunner, inspection: FakeInspection) -> None:
    inspection.findings = (LOG,)
    assert run_module(image_inspect.main, path="/srv/a.raw", fail_on=fail_on).get("failed", False) is failed


def test_allowed_findings_do_not_fail(run_module: ModuleRunner, inspection: FakeInspection) -> None:
    inspection.findings = (HOSTNAME,)
    result = run_module(image_inspect.main, path="/srv/a.raw", allowed=[{"rule": "identity.hostname", "path": "/etc/*", "reason": "one machine"}])
    assert "failed" not in result
    assert result["waived"] == [{**HOSTNAME.as_result(), "reason": "one machine"}]
    assert result["counts"]["waived"] == 1


def test_an_unknown_rule_is_refused_before_anything_is_opened(run_module: ModuleRunner, inspection: FakeInspection) -> None:
    result = run_module(image_inspect.main, path="/srv/a.raw", allowed=[{"rule": "identity.nothing", "path": "*", "reason": "x"}])
    assert result["msg"].startswith("Cannot allow identity.nothing at *: there is no such rule. Choose one of: identity.address, identity.cloud_init, ")
    assert inspection.calls == []


def test_an_open_image_fails_with_details(run_module: ModuleRunner, inspection: FakeInspection) -> None:
    inspection.error = BusyError("Cannot inspect /srv/a.raw: it is open.", devices=["/dev/loop1"])
    result = run_module(image_inspect.main, path="/srv/a.raw")
    assert (result["msg"], result["devices"]) == ("Cannot inspect /srv/a.raw: it is open.", ["/dev/loop1"])


def test_the_documentation_lists_the_options_with_their_defaults() -> None:
    options = yaml.safe_load(image_inspect.DOCUMENTATION)["options"]
    documented = {name: (option["type"], option.get("default")) for name, option in options.items()}
    assert documented == {name: (option["type"], option.get("default")) for name, option in image_inspect.ARGUMENTS.items()}


@pytest.mark.usefixtures("inspection")
def test_the_documentation_describes_every_result(run_module: ModuleRunner) -> None:
    result = run_module(image_inspect.main, path="/srv/a.raw")
    assert set(yaml.safe_load(image_inspect.RETURN)) == set(result) - {"changed", "invocation"}
