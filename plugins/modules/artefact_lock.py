#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: artefact_lock
short_description: Write down which packages of third-party components are trusted
version_added: "1.0.0"
description:
  - Asks the sources of third-party components for their packages, and writes names, versions and digests into a lock file.
  - Files on servers are read to learn their digests. Of signed repositories the signature is verified and the digests are taken from the index.
  - A package that is locked already and has another digest now is refused. Remove its entry when the change is right.
  - Components that are not asked for, those whose server cannot be reached, and other versions and architectures stay as they are.
  - Builds that run at once lose nothing of the file, and it is never half written.
requirements:
  - requests, for servers
  - gpgv, for repositories
  - apt and debian-archive-keyring, for suites of Debian
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description:
      - The lock file. Its folder must exist.
      - When it is not given, the variable C(artefact_lock) names it; without that it is C(artefacts.lock.json) beside the playbook, or in the folder that
        Ansible was started in for a playbook of this collection.
    type: path
  catalogue:
    description: Where each component comes from, by name.
    type: dict
    required: true
  sources:
    description: What differs from the catalogue, by name of the component.
    type: dict
    default: {}
  components:
    description: Which components to lock. When empty, all.
    type: list
    elements: str
    default: []
  cache:
    description: A folder that keeps fetched files.
    type: path
    required: true
  policy:
    description:
      - V(lock) and V(best_effort) warn when a server cannot be reached.
      - V(strict) fails then, and writes nothing.
    type: str
    choices: [lock, best_effort, strict]
    default: lock
  architecture:
    description: The architecture of the packages, by Debian's name.
    type: str
    default: amd64
  retries:
    description: How often a broken transfer is tried again.
    type: int
    default: 2
  debian_mirror:
    description:
      - The address of Debian's package archive, for components that come from another suite of Debian.
      - When empty, the one that apt of this machine uses.
    type: str
    default: ""
  debian_keyring:
    description: The keys that sign it.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
seealso:
  - module: hyperscaler.images.artefact
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Lock Apptainer
  hyperscaler.images.artefact_lock:
    path: artefacts.lock.json
    catalogue: "{{ artefact_catalogue }}"
    components: [apptainer]
    cache: /var/cache/hyperscaler/artefacts
"""

RETURN = r"""
locked:
  description: The components that were read, with their packages as C(name version).
  returned: success
  type: dict
  sample:
    apptainer: [apptainer 1.5.4-trixie+]
unavailable:
  description: The components that could not be read, with the reason.
  returned: success
  type: dict
  sample: {}
path:
  description: The lock file.
  returned: success
  type: str
  sample: /home/me/site/artefacts.lock.json
msg:
  description: What changed.
  returned: always
  type: str
  sample: "Locked apptainer in /home/me/site/artefacts.lock.json; the lock file changed."
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import KEYRING
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Source, UnavailableError, choose, merge, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Lock, Locked, lock_entry, lock_text, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock_file import update_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_offer import Fetcher
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import POLICIES
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_suite import DebianSuites
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy

ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "path"},
    "catalogue": {"type": "dict", "required": True},
    "sources": {"type": "dict", "default": {}},
    "components": {"type": "list", "elements": "str", "default": []},
    "cache": {"type": "path", "required": True},
    "policy": {"type": "str", "choices": list(POLICIES), "default": POLICIES[0]},
    "architecture": {"type": "str", "default": "amd64"},
    "retries": {"type": "int", "default": 2},
    "debian_mirror": {"type": "str", "default": ""},
    "debian_keyring": {"type": "path", "default": str(KEYRING)},
}


def learn(fetcher: Fetcher, source: Source, architecture: str, before: t.Mapping[str, Locked]) -> Locked:
    """What a component offers now; raises IntegrityError when a locked package has another digest."""
    try:
        chosen = choose(fetcher.newest(source), source.packages, source, architecture)
    except UnavailableError:
        if source.otherwise is None or source.version in before:
            raise
        return learn(fetcher, source.otherwise, architecture, before)
    known = before.get(source.version)
    for offer in chosen:
        if known:
            known.require_same(offer.package, offer.sha256, offer.location)
    return lock_entry(source.version, chosen)


def renewed(lock: Lock, learned: t.Mapping[str, Locked], architecture: str) -> Lock:
    """The lock with what was learned in the place of the same versions, as far as it is for this architecture."""
    changed = dict(lock)
    for component, entry in learned.items():
        versions = lock.get(component, {})
        before = versions.get(entry.version, Locked(entry.version, ()))
        known = {(old.package, old.sha256): old for old in before.packages}
        # The address is that where a package was seen first.
        packages = tuple(known.get((new.package, new.sha256), new) for new in entry.packages)
        others = Locked(entry.version, tuple(old for old in before.packages if old.package.architecture not in (architecture, "all")))
        changed[component] = {**versions, entry.version: Locked(entry.version, packages).extended(others)}
    return changed


def ensure(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the lock file up to date, or predict it."""
    if not params["path"]:
        raise ImageError("Cannot lock anything: there is no path. Name the lock file.")
    path = Path(params["path"])
    known = {**params["catalogue"], **params["sources"]}
    unknown = [component for component in params["components"] if component not in known]
    if unknown:
        raise ImageError(f"Cannot lock {', '.join(unknown)}: the catalogue has {', '.join(sorted(known)) or 'nothing'}. Correct the names.")
    before = read_lock(path)
    learned: dict[str, Locked] = {}
    unavailable = {}
    cache, architecture = Path(params["cache"]), params["architecture"]
    debian = DebianSuites(cache, params["debian_mirror"], Path(params["debian_keyring"]), architecture)
    fetcher = Fetcher(cache, Policy(retries=params["retries"], connect_timeout=10), debian, architecture)
    for component in sorted(params["components"] or known):
        try:
            source = source_from(component, merge(params["catalogue"].get(component, {}), params["sources"].get(component, {})))
            learned[component] = learn(fetcher, source, architecture, before.get(component, {}))
        except UnavailableError as error:
            if params["policy"] == "strict":
                raise
            unavailable[component] = str(error)
    old, new = lock_text(before), lock_text(renewed(before, learned, architecture))
    if old != new and not check_mode:
        new = lock_text(update_lock(path, lambda lock: renewed(lock, learned, architecture)))
    said = f"Locked {', '.join(sorted(learned))} in {path}" if learned else "Nothing could be locked"
    return {
        "changed": old != new,
        "path": str(path),
        "locked": {name: [f"{entry.package.name} {entry.package.version}" for entry in found.packages] for name, found in learned.items()},
        "unavailable": unavailable,
        "msg": f"{said}; {'the lock file changed' if old != new else 'nothing changed'}.",
        "diff": {"before": old, "after": new},
    }


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = ensure(module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    for component, reason in result["unavailable"].items():
        module.warn(f"{component} was not locked: {reason}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
