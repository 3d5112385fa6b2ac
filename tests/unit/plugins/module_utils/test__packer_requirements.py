# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of templates without the block required_plugins: only that goes, and lines keep their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_requirements import (
    cut_files,
    view_of,
    without_json_requirements,
    without_requirements,
)

BLOCK = """packer {
  required_version = ">= 1.6.6"
  required_plugins {
    qemu = {
      version = ">= 1.0.0" # a comment with }
      source  = "github.com/hashicorp/qemu"
    }
  }
}
"""
SOURCE = 'source "null" "site" {\n  communicator = "none"\n}\n\nbuild {\n  sources = ["source.null.site"]\n}\n'


def test_only_the_block_goes_and_lines_keep_their_numbers() -> None:
    text = without_requirements(BLOCK + SOURCE)
    assert "required_plugins" not in text
    assert "github.com" not in text
    assert 'required_version = ">= 1.6.6"' in text
    assert text.splitlines()[9:] == SOURCE.splitlines()
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    "text",
    [
        "# required_plugins { }\n",
        "// required_plugins {\nbuild {}\n",
        "/* required_plugins {\n} */\nbuild {}\n",
        'variable "text" {\n  default = "required_plugins { }"\n}\n',
        'variable "text" {\n  default = "${join("}", ["required_plugins {"])}"\n}\n',
        'variable "text" {\n  default = <<EOT\nrequired_plugins {\nEOT\n}\n',
        'variable "required_plugins" {\n  default = "a"\n}\n',
        "locals {\n  required_plugins = {}\n}\n",
    ],
)
def test_what_only_looks_like_the_block_stays(text: str) -> None:
    assert without_requirements(text) == text


@pytest.mark.parametrize(
    "inside",
    [
        'a = { source = "x}" }',
        'a = { source = "\\"}" }',
        'a = { source = "${upper("}")}" }',
        'a = { source = "$${" }',
        "a = { source = <<-EOT\n    }}\n    EOT\n  }",
        "/* } */ a = {}",
        "a = {} // }",
    ],
)
def test_braces_in_strings_and_comments_do_not_end_the_block(inside: str) -> None:
    text = f"packer {{\n  required_plugins {{\n  {inside}\n  }}\n}}\n"
    assert without_requirements(text + SOURCE).split() == ["packer", "{", "}", *SOURCE.split()]


def test_json() -> None:
    template = {"packer": {"required_plugins": {"qemu": {}}}, "build": [{"sources": ["null.a"]}]}
    assert json.loads(without_json_requirements(json.dumps(template))) == {"build": [{"sources": ["null.a"]}]}
    template["packer"] = [{"required_version": ">= 1"}, {"required_plugins": {"qemu": {}}}]  # type: ignore[assignment]
    assert json.loads(without_json_requirements(json.dumps(template)))["packer"] == [{"required_version": ">= 1"}, {}]
    for text in ("{", "[]", '{"packer": null}', '{"variable": {"required_plugins": {}}}'):
        assert without_json_requirements(text) == text


def test_the_only_file_is_cut_and_used(tmp_path: Path) -> None:
    folder, view = tmp_path / "template", tmp_path / "view"
    (folder / "files").mkdir(parents=True)
    (folder / "site.pkr.hcl").write_text(BLOCK + SOURCE, encoding="utf-8")
    assert view_of(folder, view) == view
    assert 'source "null" "site"' in (view / "site.pkr.hcl").read_text(encoding="utf-8")
    assert (view / "files").resolve() == folder / "files"
    assert "required_plugins" in (folder / "site.pkr.hcl").read_text(encoding="utf-8")


def test_a_file_with_nothing_else_is_left_out_unless_it_is_all(tmp_path: Path) -> None:
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "plugins.pkr.hcl").write_text("# Copyright\npacker {\n  required_plugins {}\n}\n", encoding="utf-8")
    assert cut_files(folder) == {"plugins.pkr.hcl": ""}
    assert [path.name for path in view_of(folder, tmp_path / "alone").iterdir()] == ["plugins.pkr.hcl"]
    (folder / "site.pkr.hcl").write_text(SOURCE, encoding="utf-8")
    assert [path.name for path in view_of(folder, tmp_path / "view").iterdir()] == ["site.pkr.hcl"]


def test_a_template_without_the_block_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "site.pkr.hcl").write_text(SOURCE, encoding="utf-8")
    assert view_of(tmp_path, tmp_path / "view") == tmp_path
