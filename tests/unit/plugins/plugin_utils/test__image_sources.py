# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what counts as an input of an image: every way in which a role can read something."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.plugin_utils import _source_tree
from ansible_collections.hyperscaler.images.tests.unit.plugins.plugin_utils.image_site import Site

WRITE = "- copy: {{dest: /etc/x, content: '{text}'}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def variables_of(site: Site, *names: str) -> list[str]:
    return sorted(site.sources(*(names or ("web",)))[0].variables)


@pytest.mark.parametrize(
    ("tasks", "files"),
    [
        (WRITE.format(text="{{ site_word }}"), {}),
        ("- debug: {msg: x}\n  when: site_word == 'a'", {}),
        ("- template: {src: x.j2, dest: /etc/x}", {"templates__x.j2": "{% if site_word %}x{% endif %}"}),
        ("- template: {src: x.j2, dest: /etc/x}", {"templates__x.j2": "# {{ site_word }}"}),
        (WRITE.format(text="{{ web_word }}"), {"defaults__main_yml": "web_word: '{{ site_word }}'"}),
        (WRITE.format(text="{{ web_word }}"), {"vars__main_yml": "web_word: '{{ other }}'\nother: '{{ site_word }}'"}),
        (WRITE.format(text="{{ indirect }}"), {}),
        (WRITE.format(text="{{ vars['site_word'] }}"), {}),
        (WRITE.format(text="{{ hostvars[inventory_hostname].site_word }}"), {}),
        ("- debug: {var: site_word}", {}),
    ],
)
def test_a_variable_of_any_name_counts_when_it_is_read(site: Site, tasks: str, files: dict[str, str]) -> None:
    site.variables = {"site_word": "a", "unread": "b", "indirect": "{{ site_word }}!"}
    site.role("web", tasks.replace("'{{ vars['site_word'] }}'", "\"{{ vars['site_word'] }}\""), **files)
    found = variables_of(site)
    assert "site_word" in found
    assert "unread" not in found


@pytest.mark.parametrize(
    "text",
    [
        "{{ lookup('vars', 'site_' ~ which) }}",
        '{{ query("ansible.builtin.varnames", "^site_") }}',
        "{{ vars['site_' ~ which] }}",
        "{{ vars[which] }}",
        "{{ vars.get(which) }}",
        "{{ vars | dict2items }}",
        "{{ vars }}",
        "{{ lookup('dict', vars) }}",
        "{{ lookup('hyperscaler.images.image_variables') }}",
        "{{ hostvars[inventory_hostname][which] }}",
        "{% set own = hostvars[inventory_hostname] %}{{ own['site_' ~ which] }}",
    ],
)
def test_names_that_are_put_together_stand_for_every_variable(site: Site, text: str) -> None:
    site.variables = {"site_word": "a", "unread": "b", "ansible_user": "me", "_own": 1, "image_boot": True}
    site.around = frozenset({"image_boot"})
    site.role("web", "[]")
    site.write("roles/web/templates/x.j2", text)
    assert variables_of(site) == ["site_word", "unread"]


def test_what_acts_around_an_image_counts_when_a_role_itself_names_it(site: Site) -> None:
    site.variables = {"image_ssh_username": "admin", "image_boot_timeout": 5}
    site.around = frozenset(site.variables)
    site.role("web", WRITE.format(text="{{ image_ssh_username }}"))
    assert variables_of(site) == ["image_ssh_username"]


def test_comments_and_results_do_not_count(site: Site) -> None:
    site.variables = {"site_word": "a", "result": {"changed": True, "failed": False, "start": "now"}}
    site.role("web", "# The site_word is not read here.\n- command: x\n  register: result\n")
    assert variables_of(site) == []


def test_a_change_is_seen_and_a_value_never_is(site: Site) -> None:
    site.role("web", WRITE.format(text="{{ site_word }}"))
    seen = set()
    for value in ("a", "b", ["a"], {"a": "b"}, "{{ missing_fact }}", "{{ ansible_facts.cpu }}", "{{ 'a' }}"):
        site.variables = {"site_word": value}
        seen.add(site.sources("web")[0].variables["site_word"])
    assert len(seen) == 6, "the text a and the expression of it are the same value"


def test_what_configures_or_verifies_a_machine_does_not_shape_its_image(site: Site) -> None:
    site.variables = {"web_secret": "a", "web_port": 80, "web_more": 1}
    site.role("web", "- include_tasks: common.yml", tasks__common_yml=WRITE.format(text="{{ web_port }}"))
    site.write("roles/web/tasks/configure.yml", "- template: {src: key.j2, dest: /etc/key}\n- include_tasks: only_configure.yml\n- include_tasks: common.yml\n")
    site.write("roles/web/tasks/only_configure.yml", WRITE.format(text="{{ web_more }}"))
    site.write("roles/web/templates/key.j2", "{{ web_secret }}")
    assert variables_of(site) == ["web_more", "web_port", "web_secret"]
    site.write("roles/web/meta/argument_specs.yml", "argument_specs: {main: {}, configure: {}}")
    assert variables_of(site) == ["web_port"]
    site.write("roles/web/tasks/configure.yml", "- include_tasks: main.yml")
    assert "web_port" in variables_of(site)
    site.write("roles/web/tasks/configure.yml", "- template: {src: key.j2, dest: /etc/key}\n- include_tasks: only_configure.yml\n")
    site.role("outer", "- include_role: {name: web, tasks_from: configure}")
    assert variables_of(site, "outer") == ["web_more", "web_port", "web_secret"]


def test_facts_of_the_machine_count_for_roles_that_read_them(site: Site) -> None:
    site.variables = {"image_boot_memory": 2048, "image_boot_cpus": 2}
    site.around = frozenset(site.variables)
    site.role("web", WRITE.format(text="{{ ansible_facts.processor_vcpus }}"))
    assert variables_of(site) == ["image_boot_cpus"]
    site.role("web", WRITE.format(text="{{ ansible_memtotal_mb }}"))
    assert variables_of(site) == ["image_boot_memory"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{ hostvars['db'].db_port }}", ["db_port of db"]),
        ("{{ hostvars[groups.data[0]]['db_port'] }}", ["db_port of db"]),
        ("{{ groups[data_group] | map('extract', hostvars, 'db_port') }}", ["data_group", "db_port of db"]),
        ("{{ hostvars['db'][which] }}", ["data_group", "db_name of db", "db_port of db"]),
        ("{% for host in groups['all'] %}{{ hostvars[host].db_port }}{% endfor %}", ["db_port of db", "db_port of far"]),
        ("{% for host in ansible_play_hosts %}{{ hostvars[host].db_port }}{% endfor %}", ["db_port of db", "db_port of far"]),
        ("{% set of = hostvars.db %}{{ of[which] }}", ["data_group", "db_name of db", "db_port of db"]),
        ("{% set of = hostvars['db'] %}{{ of.db_port }}{{ of['db_name'] }}", ["db_name of db", "db_port of db"]),
        ("{{ hostvars[ansible_facts.hostname].db_port }}", ["db_port of db", "db_port of far"]),
        ("{{ hostvars[groups[ansible_facts.domain][0]].db_port }}", ["db_port of db", "db_port of far"]),
        ("{{ 'db_port' }}", []),
    ],
)
def test_variables_of_other_hosts(site: Site, text: str, wanted: list[str]) -> None:
    site.variables = {"data_group": "data"}
    site.groups = {"all": ["node", "db", "far"], "data": ["db"]}
    site.others = {"db": {"db_port": 1, "db_name": "x"}, "far": {"db_port": 1, "db_name": "x"}}
    site.role("web", templates__x="")
    site.write("roles/web/templates/x.j2", text)
    assert variables_of(site) == wanted


def test_members_of_a_group_count_when_a_role_reads_them(site: Site) -> None:
    site.groups = {"all": ["node", "db"], "data": ["db"], "more": ["node"]}
    site.role("web", WRITE.format(text="{{ groups.data }}"))
    before = site.sources("web")[0].groups
    site.groups["data"].append("db2")
    after = site.sources("web")[0].groups
    assert list(before) == list(after) == ["data"]
    assert before != after


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{% for name in groups %}{{ name }}{% endfor %}", ["all", "data"]),
        ("{{ groups | length }}", ["all", "data"]),
        ("{{ groups['da' ~ 'ta'] }}", ["all", "data"]),
        ("{{ 'data' in groups }}", ["data"]),
        ("{{ groups['data'] }}", ["data"]),
        ("{{ groups.get('data') }}", ["data"]),
        ("Users in groups of their own, see vars) and vars, too.", []),
    ],
)
def test_which_groups_count(site: Site, text: str, wanted: list[str]) -> None:
    site.variables = {"site_word": "a"}
    site.groups = {"all": ["node", "db"], "data": ["db"]}
    site.role("web", f"# {text.replace('{', '')}\n[]", templates__x="")
    site.write("roles/web/templates/x.j2", text)
    found = site.sources("web")[0]
    assert list(found.groups) == wanted
    assert found.variables == {}


def test_a_group_that_is_chosen_while_the_image_is_built_can_be_any(site: Site) -> None:
    site.groups = {"all": ["node", "db"], "data": ["db"]}
    site.role("web", WRITE.format(text="{{ groups[ansible_facts.domain] }}"))
    assert list(site.sources("web")[0].groups) == ["all", "data"]


@pytest.mark.parametrize(
    ("tasks", "file"),
    [
        ("- copy: {src: motd, dest: /etc/}", "files/motd"),
        ("- ansible.builtin.copy: src=motd dest=/etc/", "files/motd"),
        ("- copy: {src: '{{ name }}', dest: /etc/}\n  vars: {name: motd}", "files/motd"),
        ("- copy: {src: '{{ item.from }}', dest: /etc/}\n  loop: [{from: motd}]", "files/motd"),
        ("- copy: {src: '{{ site_files }}/motd', dest: /etc/}", "far/motd"),
        ("- copy: {src: '{{ site_files }}/{{ ansible_facts.arch }}/motd', dest: /etc/}", "far"),
        ("- copy: {src: '{{ ansible_facts.arch }}', dest: /etc/}", "files"),
        ("- copy: {src: '{{ item }}', dest: /etc/}\n  with_fileglob: ['*.conf']", "files/a.conf"),
        ("- copy: {content: '{{ item }}', dest: /etc/x}\n  with_file: [motd]", "files/motd"),
        ("- debug: {msg: '{{ item }}'}\n  with_ansible.builtin.fileglob: '*.conf'", "files/a.conf"),
        ("- template: {src: page.j2, dest: /etc/x}", "templates/page.j2"),
        ("- unarchive: {src: motd, dest: /srv}", "files/motd"),
        ("- script: motd --now", "files/motd"),
        ("- script: {cmd: motd --now}", "files/motd"),
        ("- assemble: {src: parts, dest: /etc/x, remote_src: false}", "files/parts"),
        ("- hyperscaler.images.artefact: {component: x, source: {path: '{{ site_files }}/motd'}}", "far/motd"),
        ("- include_vars: site.yml", "vars/site.yml"),
        ("- include_vars: {file: site.yml}", "vars/site.yml"),
        ("- include_vars: '{{ item }}'\n  with_first_found: [none.yml, site.yml]", "vars/site.yml"),
        ("- include_tasks: shared.yml", "tasks/shared.yml"),
        ("- import_tasks: {file: '../../../tasks/shared.yml'}", "tasks/shared.yml"),
        ("- debug: {msg: \"{{ lookup('file', 'motd') }}\"}", "files/motd"),
        ("- debug: {msg: \"{{ lookup('ansible.builtin.file', site_files ~ '/motd', rstrip=true) }}\"}", "far/motd"),
        ("- debug: {msg: \"{{ query('fileglob', '*.conf') }}\"}", "files/a.conf"),
        ("- debug: {msg: \"{{ lookup('template', 'page.j2') }}\"}", "templates/page.j2"),
        ("- debug: {msg: \"{{ lookup('first_found', ['none', 'motd']) }}\"}", "files/motd"),
        ("- debug: {msg: \"{{ lookup('csvfile', 'key', file='motd', delimiter=',') }}\"}", "files/motd"),
    ],
)
def test_files_of_the_controller_that_tasks_read(site: Site, tasks: str, file: str) -> None:
    names = ("files/motd", "far/motd", "far/amd64/motd", "files/a.conf", "templates/page.j2", "files/parts/a", "vars/site.yml", "tasks/shared.yml", "unread")
    for name in names:
        site.write(name, "[]")
    site.variables = {"site_files": str(site.base / "far")}
    site.role("web", tasks)
    assert [Path(path).relative_to(site.base).as_posix() for path in site.sources("web")[0].controller_files] == [file]


@pytest.mark.parametrize("tasks", ["- copy: {src: /etc/hostname, dest: /x, remote_src: true}", "- file: {src: /etc/hostname, dest: /x, state: link}"])
def test_files_of_the_image_do_not_count(site: Site, tasks: str) -> None:
    site.role("web", tasks)
    assert site.sources("web")[0].controller_files == {}


def test_a_large_folder_is_not_read_each_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source_tree, "MOST_BYTES", 10)
    site.role("web", "- copy: {src: '{{ ansible_facts.arch }}', dest: /etc/}")
    path = site.write("files/data", "x" * 20)
    before = site.sources("web")[0].controller_files
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read") if path.name == "data" else path.open("rb").read())
    assert site.sources("web")[0].controller_files == before
    path.write_text("y" * 21, encoding="utf-8")
    assert site.sources("web")[0].controller_files != before


def test_a_file_of_the_role_comes_first(site: Site) -> None:
    site.write("files/motd")
    site.role("web", "- copy: {src: motd, dest: /etc/}", files__motd="x")
    assert site.sources("web")[0].controller_files == {}


@pytest.mark.parametrize(
    ("variables", "defaults"),
    [
        ({"web_packages": "BASE/debs"}, "web_packages: ''"),
        ({"web_packages": ["BASE/debs/a.deb"]}, "web_packages: []"),
        ({"web_packages": {"client": {"path": "BASE/debs"}}}, "web_packages: {}"),
        ({"site_root": "BASE"}, "web_packages: '{{ site_root }}/debs'"),
    ],
)
def test_package_files_and_their_folders_count_by_content(site: Site, variables: dict[str, t.Any], defaults: str) -> None:
    def placed(value: t.Any) -> t.Any:
        if isinstance(value, dict):
            return {key: placed(entry) for key, entry in value.items()}
        return [placed(entry) for entry in value] if isinstance(value, list) else value.replace("BASE", str(site.base))

    site.variables = placed(variables)
    site.role("web", "- web.tools.install: {packages: '{{ web_packages }}'}", defaults__main_yml=defaults)
    path = site.write("debs/a.deb", "one")
    site.write("debs/README", "no package")
    before = site.sources("web")[0].controller_files
    path.write_text("two", encoding="utf-8")
    after = site.sources("web")[0].controller_files
    assert list(before) == list(after) == [str(path)]
    assert before != after


@pytest.mark.parametrize(
    ("role", "variable", "is_folder"),
    [
        ("beegfs", "beegfs_packages_dir", True),
        ("slurm_compute", "slurm_compute_package_files", False),
        ("slurm_controller", "slurm_controller_package_files", False),
    ],
)
def test_local_packages_of_shipped_roles_count_by_content(site: Site, role: str, variable: str, is_folder: bool) -> None:
    path = site.write("debs/a.deb", "one")
    site.variables = {variable: str(path.parent) if is_folder else [str(path)]}
    shipped = str(Path(__file__).resolve().parents[4] / "roles" / role)
    before = site.sources(shipped)[0].controller_files
    path.write_text("two", encoding="utf-8")
    after = site.sources(shipped)[0].controller_files
    assert list(before) == [str(path)]
    assert before != after
    more = site.write("debs/b.deb", "three")
    assert (str(more) in site.sources(shipped)[0].controller_files) == is_folder


def test_plugins_beside_the_playbook_count(site: Site) -> None:
    site.role("web")
    assert site.sources("web")[0].controller_files == {}
    site.write("filter_plugins/own.py", "site_word")
    site.variables = {"site_word": "a"}
    found = site.sources("web")[0]
    assert list(found.controller_files) == [str(site.base / "filter_plugins")]
    assert list(found.variables) == ["site_word"]


def test_collections_that_roles_name_count(site: Site) -> None:
    site.write("collections/ansible_collections/my/tools/plugins/modules/x.py", "one")
    site.write("collections/ansible_collections/my/other/plugins/modules/x.py", "one")
    site.role("web", "- my.tools.x: {}")
    before = site.sources("web")[0].collections
    site.write("collections/ansible_collections/my/tools/plugins/modules/x.py", "two")
    after = site.sources("web")[0].collections
    site.write("collections/ansible_collections/my/tools/MANIFEST.json", "{}")
    installed = site.sources("web")[0].collections
    assert list(before) == list(after) == list(installed) == ["my.tools"]
    assert len({tuple(found.values()) for found in (before, after, installed)}) == 3


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("files/deep/new", True),
        ("library/own.py", True),
        ("README.md", False),
        ("tests/test.yml", False),
        ("molecule/default/converge.yml", False),
        (".git/HEAD", False),
        ("meta/argument_specs.yml", False),
        ("files/tests/new", True),
        ("templates/README.md.j2", True),
    ],
)
def test_files_of_a_role(site: Site, file: str, counts: bool) -> None:
    site.role("web")
    before = site.sources("web")[0].roles
    site.write(f"roles/web/{file}", "new: 1")
    assert (site.sources("web")[0].roles != before) == counts


def test_a_linked_folder_of_a_role_counts(site: Site) -> None:
    site.role("web")
    path = site.write("shared/x")
    (site.base / "roles/web/files").symlink_to(site.base / "shared")
    before = site.sources("web")[0].roles
    path.write_text("changed", encoding="utf-8")
    assert site.sources("web")[0].roles != before


def test_what_counts_only_by_a_guess_is_named(site: Site) -> None:
    site.variables = {"site_word": "a", "web_word": "b"}
    site.role("web", WRITE.format(text="{{ web_word }}") + "- include_role: {name: '{{ found_inside }}'}")
    site.role("other", WRITE.format(text="{{ site_word }}") + "- copy: {src: motd, dest: /etc/}")
    site.write("files/motd")
    found, guessed = site.sources("web")
    assert sorted(found.variables) == ["site_word", "web_word"]
    assert guessed["roles"] == ["other"]
    assert guessed["variables"] == ["site_word"]
    assert guessed["controller_files"] == [str(site.base / "files/motd")]
    assert site.sources("web", recorded=["web"])[1] == {}
