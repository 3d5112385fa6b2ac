# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every role: its arguments are described, its defaults are as described, and its names are its own."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
# Guest roles bake and verify. These run on the build host, or close an image.
OTHER_ROLES = {"base_image", "builder", "image", "seal"}
CUSTOMARY = {"main", "verify", "configure"}
# In two pieces, because the tool that checks licences would take the test itself for a statement.
TAG = "SPDX-License-" + "Identifier"
MOST_LINES = 80


def load(path: Path) -> t.Any:
    """The content of a YAML file, with Ansible's own tags as plain values."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))
    # Rejects a bare 0644, which would silently be a number.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)


def specs(role: Path) -> dict[str, t.Any]:
    """The entry points that a role describes."""
    found: dict[str, t.Any] = load(role / "meta/argument_specs.yml")["argument_specs"]
    return found


def files(role: Path, *patterns: str) -> list[Path]:
    """The YAML files of a role in these places."""
    return sorted(path for pattern in patterns for path in role.glob(pattern))


def walk(node: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """All mappings in a document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def names_of(role: Path) -> t.Iterator[tuple[Path, str]]:
    """The variables that a role uses for itself: registered, of loops, and in vars. Facts that it sets are what it hands out."""
    for path in files(role, "tasks/**/*.yml", "handlers/*.yml"):
        for mapping in walk(load(path) or []):
            if isinstance(mapping.get("register"), str):
                yield path, mapping["register"]
            if isinstance(mapping.get("loop_control"), dict) and "loop_var" in mapping["loop_control"]:
                yield path, mapping["loop_control"]["loop_var"]
    for path in files(role, "vars/*.yml"):
        for name in load(path) or {}:
            yield path, name


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_are_roles() -> None:
    assert len(ROLES) >= 10


def test_defaults_are_as_described(role: Path) -> None:
    """Order included: both files are read by people."""
    described = {name: option["default"] for spec in specs(role).values() for name, option in spec.get("options", {}).items() if "default" in option}
    defaults = (load(role / "defaults/main.yml") or {}) if (role / "defaults/main.yml").is_file() else {}
    assert defaults == described
    assert list(defaults) == list(described)


def test_options_are_described_the_same_way_everywhere(role: Path) -> None:
    seen: dict[str, t.Any] = {}
    for entry_point, spec in specs(role).items():
        assert spec.get("short_description"), f"{entry_point} has no short_description"
        for name, option in spec.get("options", {}).items():
            assert option.get("description"), f"{name} has no description"
            assert option.get("type"), f"{name} has no type"
            assert seen.setdefault(name, option) == option, f"{name} is described in two ways"


def test_every_entry_point_is_described(role: Path) -> None:
    """Entry points are the task files that no other file of the role includes."""
    included = {
        Path(str(value if isinstance(value, str) else value.get("file", ""))).stem
        for path in files(role, "tasks/**/*.yml")
        for mapping in walk(load(path) or [])
        for key, value in mapping.items()
        if key in ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks")
    }
    present = {path.stem for path in files(role, "tasks/*.yml")}
    described = set(specs(role))
    assert described <= present
    unknown = present - included - described
    # A name with a variable in it may mean any file that is no entry point by its name.
    assert unknown == set() or (any("{{" in name for name in included) and unknown.isdisjoint(CUSTOMARY)), f"{unknown} neither described nor included"


def test_guest_roles_bake_and_verify(role: Path) -> None:
    if role.name not in OTHER_ROLES:
        assert {"main", "verify"} <= set(specs(role))


def test_public_names_begin_with_the_name_of_the_role(role: Path) -> None:
    for spec in specs(role).values():
        for name in spec.get("options", {}):
            assert name.startswith(f"{role.name}_")


def test_facts_begin_with_the_name_of_the_role(role: Path) -> None:
    facts = {
        fact
        for path in files(role, "tasks/**/*.yml")
        for mapping in walk(load(path) or [])
        for fact in mapping.get("ansible.builtin.set_fact") or {}
        # Where a delegated task must not see them, the ways to reach a host are facts of that host.
        if fact not in {"cacheable", "ansible_connection", "ansible_python_interpreter"}
    }
    assert {fact for fact in facts if not fact.startswith((f"{role.name}_", f"__{role.name}_"))} == set()


def test_internal_names_begin_with_two_underscores_and_the_name_of_the_role(role: Path) -> None:
    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in names_of(role) if not name.startswith(f"__{role.name}_")] == []


def test_it_has_a_readme_and_metadata(role: Path) -> None:
    assert (role / "README.md").is_file()
    galaxy = load(role / "meta/main.yml")["galaxy_info"]
    assert galaxy["license"] == "GPL-3.0-or-later"
    assert galaxy["min_ansible_version"] == "2.19"
    assert galaxy["description"]
    assert galaxy["platforms"]


def test_task_files_are_short(role: Path) -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files(role, "tasks/**/*.yml")}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_no_task_replaces_a_variable_of_the_role(role: Path) -> None:
    """What one entry point registers outlives it, and would take the place of the variable in the next one."""
    own = {name for path in files(role, "vars/*.yml") for name in load(path) or {}}
    registered = {str(mapping["register"]) for path in files(role, "tasks/**/*.yml") for mapping in walk(load(path) or []) if "register" in mapping}
    assert own & registered == set()


def test_every_file_names_its_licence() -> None:
    suffixes = {".py", ".yml", ".yaml", ".j2", ".md", ".sh", ".toml", ".cfg", ".service", ".conf"}
    skipped = re.compile(r"^(\.|build/|dist/|LICENSES/|CHANGELOG)|/fixtures/|changelogs/changelog\.yaml")
    without = [
        path.relative_to(ROOT).as_posix()
        for folder in ("changelogs", "docs", "extensions", "meta", "playbooks", "plugins", "roles", "scripts", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in suffixes and not skipped.search(path.relative_to(ROOT).as_posix())
        if f"{TAG}: GPL-3.0-or-later" not in path.read_text(encoding="utf-8")[:600]
    ]
    assert without == []


CONDITIONS = ("when", "that", "failed_when", "changed_when", "until")


def expressions(path: Path) -> t.Iterator[str]:
    """The Jinja expressions of a YAML file or a template, without the texts in them."""
    if path.suffix == ".j2":
        texts, conditions = [path.read_text(encoding="utf-8")], []
    else:
        mappings = list(walk(load(path) or []))
        values = [value for mapping in mappings for value in mapping.values()]
        texts = [text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        found = [mapping[key] for mapping in mappings for key in CONDITIONS if key in mapping]
        conditions = [str(one) for value in found for one in (value if isinstance(value, list) else [value])]
    inner = [code for text in texts for code in re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL)]
    for code in [*conditions, *inner]:
        yield re.sub(r"'[^']*'|\"[^\"]*\"", "''", code).strip()


def test_booleans_from_the_command_line_work(role: Path) -> None:
    """``-e name=false`` is text, and text is true."""
    names = {name for spec in specs(role).values() for name, option in spec.get("options", {}).items() if option["type"] == "bool"}
    paths = [path for path in role.rglob("*") if path.suffix in (".yml", ".j2") and path.parent.name not in ("defaults", "meta")]
    bare = [
        f"{path.relative_to(ROOT)}: {code}"
        for path in paths
        for code in expressions(path)
        for name in names
        if code != name and re.search(rf"(?<![\w.]){name}(?!\w)(?! \| bool\b)", code)
    ]
    assert bare == []
