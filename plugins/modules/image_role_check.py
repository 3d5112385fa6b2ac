#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_role_check
short_description: Check that roles can be applied in an opened image
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Reads roles on the controller, with the roles that they depend on or include, and fails when a task would not mean in an image what it means on a machine.
  - Fails as well with C(--tags) and C(--start-at-task), because a part of the tasks makes no image.
  - Says which roles need a running init. A role that needs none declares C(init) as V(none) in its file C(meta/image.yml).
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Changes nothing.
  idempotent:
    support: full
options:
  roles:
    description: The names of the roles.
    type: list
    elements: str
    default: []
notes:
  - This is an action plugin. It runs on the controller only.
seealso:
  - plugin: hyperscaler.images.per_image
    plugin_type: strategy
"""

EXAMPLES = r"""
- name: Check the roles before the image is opened
  hyperscaler.images.image_role_check:
    roles: [site.base, site.storage]
  register: checked
"""

RETURN = r"""
needs_init:
  description: Those of O(roles) that do not declare that they need no running init.
  returned: success
  type: list
  elements: str
  sample: [site.storage]
msg:
  description: What was found, or what is refused, why and what to do.
  returned: always
  type: str
"""
