# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why apt could not fetch."""

from __future__ import annotations

import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import explain

UNKNOWN = {
    "cause": "its package archives cannot be reached or do not verify",
    "advice": "Check the network, the proxy and the package sources of the build host",
}


def apt_failure(output: str) -> dict[str, str]:
    """``cause`` and ``advice``, without full stops, from what apt printed."""
    failure = explain(str(output))
    return {"cause": failure.cause, "advice": failure.advice} if failure else dict(UNKNOWN)


class FilterModule:
    """The filter ``apt_failure``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filters of this file."""
        return {"apt_failure": apt_failure}
