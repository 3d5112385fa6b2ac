# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This document fragment is private to the hyperscaler.images collection.
"""Attribute texts shared by the documentation of the modules."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return a prediction without changing anything.
  diff_mode:
    description: Returns what has changed, or would change in check mode, as C(diff).
  idempotent:
    description: Running the same task again right after a success changes nothing.
  platform:
    description: The operating systems that the module runs on.
"""

    LINUX = r"""
options: {}
attributes:
  platform:
    platforms: linux
    support: full
"""
