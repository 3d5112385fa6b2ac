# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the reading of cloud-init's configuration."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import parse
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_cloud import data_sources


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("datasource_list: [NoCloud, None]\n", ["NoCloud"]),
        ("datasource_list: [ 'NoCloud', \"Ec2\", None ] # the site\n", ["NoCloud", "Ec2"]),
        ("datasource_list: [ NoCloud,\n  # not here: Azure\n  Ec2 ]\nssh_pwauth: false\n", ["NoCloud", "Ec2"]),
        ("a: 1\ndatasource_list:\n  - Ec2\n  - GCE # here\nb: [x]\n", ["Ec2", "GCE"]),
        ("datasource_list:\n- Ec2\n- null\n", ["Ec2"]),
        ("datasource_list: NoCloud, Ec2\n", ["NoCloud", "Ec2"]),
        ("datasource_list: []\n", []),
        ("a: 1\n", []),
    ],
)
def test_data_sources(text: str, names: list[str]) -> None:
    data, _problem = parse(text)
    assert data_sources((data or {}).get("datasource_list")) == names
