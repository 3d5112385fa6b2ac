# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every module: its documentation is complete, and it is tested."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))
ATTRIBUTES = {"check_mode", "diff_mode", "idempotent"}


@pytest.fixture(params=MODULES, ids=lambda path: path.stem)
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def block(module: Path, name: str) -> t.Any:
    """One of the documentation blocks of a module."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{module.name} has no {name}")


def undescribed(options: t.Mapping[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    """Options or return values that lack a description or a type, at any depth."""
    for name, option in (options or {}).items():
        if not option.get("description") or not option.get("type"):
            yield prefix + name
        if option.get("type") == "list" and not option.get("elements"):
            yield f"{prefix}{name} (elements)"
        for key in ("suboptions", "contains"):
            yield from undescribed(option.get(key, {}), f"{prefix}{name}.")


def test_documentation(module: Path) -> None:
    document = block(module, "DOCUMENTATION")
    assert document["module"] == module.stem
    assert document["version_added"] == "1.0.0"
    assert document["author"]
    assert list(undescribed(document.get("options", {}))) == []
    assert set(document["attributes"]) >= ATTRIBUTES
    for name, attribute in document["attributes"].items():
        assert attribute["support"] != "partial" or attribute.get("details"), f"{name} is partial without details"


def test_return_values(module: Path) -> None:
    values = block(module, "RETURN")
    assert "msg" in values
    assert list(undescribed(values)) == []
    assert [name for name, value in values.items() if not value.get("returned")] == []


def test_examples_use_the_full_name(module: Path) -> None:
    examples = block(module, "EXAMPLES")
    used = {key for task in examples for key in _keys(task)}
    assert f"hyperscaler.images.{module.stem}" in used
    assert [key for key in used if key == module.stem] == []


def _keys(node: t.Any) -> t.Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from _keys(value)


def test_it_has_an_integration_target(module: Path) -> None:
    assert (ROOT / "tests/integration/targets" / module.stem / "tasks/main.yml").is_file()


def test_sizes() -> None:
    """Files that are easy to keep in mind; the documentation blocks do not count."""
    long = []
    for folder, most in (("modules", 120), ("action", 120), ("module_utils", 400), ("plugin_utils", 400)):
        for path in (ROOT / "plugins" / folder).glob("*.py"):
            text = re.sub(r'^(DOCUMENTATION|EXAMPLES|RETURN) = r?""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
            lines = sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))
            if lines > most:
                long.append(f"{path.relative_to(ROOT)}: {lines}")
    assert long == []


def test_private_utilities_say_so() -> None:
    for path in (ROOT / "plugins/module_utils").glob("*.py"):
        assert path.name.startswith("_")
        assert "is private to the hyperscaler.images collection" in path.read_text(encoding="utf-8")[:400]


def test_only_main_ends_a_module(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name != "main"]
    assert [node.name for node in functions if "fail_json" in ast.dump(node)] == []


CONTROLLER = [path for folder in ("action", "connection", "filter", "lookup", "strategy") for path in sorted((ROOT / "plugins" / folder).glob("*.py"))]


@pytest.mark.parametrize("plugin", CONTROLLER, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_errors_of_plugins_have_no_cause(plugin: Path) -> None:
    """Ansible adds the text of the cause to the message of a plugin that runs on the controller."""
    raised = [node for node in ast.walk(ast.parse(plugin.read_text(encoding="utf-8"))) if isinstance(node, ast.Raise) and node.exc and node.cause]
    causes = [ast.unparse(node) for node in raised if ast.unparse(t.cast("ast.expr", node.exc)).startswith("Ansible") and ast.unparse(node.cause) != "None"]
    assert causes == []
