# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what ties an image to the disks and cards of the machine that it was built on."""

from __future__ import annotations

import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Severity, Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._pins import PINS, Pin


def _rule(pin: Pin) -> Rule:
    return Rule(pin.rule, Severity(pin.severity), pin.remedy)


def check_pins(subject: Subject) -> t.Iterator[Finding]:
    """No file of the table is there with what pins a machine."""
    for pin in PINS:
        for entry in subject.tree.files(*(f"/{pattern}" for pattern in pin.patterns)):
            if pin.content is None or pin.content.search(subject.tree.text(entry.path)):
                yield _rule(pin).at(entry.path, pin.message)


RULES = tuple({pin.rule: _rule(pin) for pin in PINS}.values())
GROUPS = (Group("pins", RULES, check_pins),)
