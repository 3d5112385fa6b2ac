#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: beegfs_stage
short_description: Stage the BeeGFS packages that an image needs
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Chooses the Debian packages of BeeGFS that a set of components needs, and copies them to a folder from which images are built.
  - The packages come from a folder, from a list of URLs, or from a signed package repository.
  - Reads the control fields of each package, and each package to its end, so that damaged or truncated files are found here and not in the image.
  - Refuses packages of different versions, of another architecture, or that are there twice, and files that are not regular files.
  - Packages get the name that Debian's convention gives them, for instance C(beegfs-meta_8.1.0_amd64.deb).
  - All packages are fetched and read before the first one is put in place.
  - Removes packages of other versions that it staged itself. Packages of the same version for other components stay.
  - What it staged is recorded in C(staged.json) in the folder.
  - For the client it takes C(beegfs-client-dkms), which builds the kernel module when it is installed.
requirements:
  - requests, for URLs and repositories on servers
  - gpgv, for repositories
  - zstd, for packages that are compressed with it
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
  dest:
    description:
      - The folder to stage the packages in.
      - It is created when needed.
      - It may be O(folder) itself. Then the packages are checked and stay where they are.
    type: path
    required: true
  components:
    description:
      - The components of BeeGFS that are to be installed.
    type: list
    elements: str
    choices: [mgmtd, meta, storage, client]
    required: true
  folder:
    description:
      - A folder with package files. Files that do not end in C(.deb) are not looked at.
      - Exactly one of O(folder), O(urls) and O(repository) is needed.
    type: path
  checksums:
    description:
      - The sha256 of each package file in O(folder), by file name.
      - When it is given, every package file must be listed, and every listed file must be there.
    type: dict
    default: {}
  urls:
    description:
      - Package files to choose from.
      - A file is fetched to look into it only once. Later runs know it by its checksum.
    type: list
    elements: dict
    suboptions:
      url:
        description:
          - The address of the file, with C(https), C(http) or C(file).
        type: str
        required: true
      sha256:
        description:
          - The checksum of the file.
        type: str
        required: true
  repository:
    description:
      - A package repository to choose from. Its C(InRelease) file must be signed.
      - The newest version of BeeGFS in it is taken unless O(version) is given.
    type: dict
    suboptions:
      url:
        description:
          - The address that holds the folder C(dists).
        type: str
        required: true
      suite:
        description:
          - The suite, for BeeGFS the code name of the Debian release.
        type: str
        required: true
      component:
        description:
          - The component of the suite.
        type: str
        default: non-free
      key:
        description:
          - The file with the public key that signs the repository, binary or armoured.
        type: path
        required: true
  version:
    description:
      - The version of BeeGFS to take, without epoch and Debian revision, for instance V(8.1.0).
      - Without it O(folder) and O(urls) must offer packages of one version only.
    type: str
  architecture:
    description:
      - The architecture of the image, by Debian's name.
    type: str
    default: amd64
  retries:
    description:
      - How often a broken transfer is tried again.
    type: int
    default: 5
  stall_timeout:
    description:
      - After so many seconds without data a transfer is broken off and tried again.
    type: float
    default: 60
notes:
  - The server packages of BeeGFS are under a licence of their own. Whether images that hold them may be passed on is for you to find out.
seealso:
  - name: BeeGFS documentation
    description: Components and packages of BeeGFS.
    link: https://doc.beegfs.io/
"""

EXAMPLES = r"""
- name: Stage the client from packages that were built before
  hyperscaler.images.beegfs_stage:
    folder: /srv/beegfs
    dest: build/packages/beegfs
    components: [client]

- name: Stage all components from the publisher's repository
  hyperscaler.images.beegfs_stage:
    repository:
      url: https://www.beegfs.io/release/beegfs_8.4
      suite: trixie
      key: files/GPG-KEY-beegfs
    dest: build/packages/beegfs
    components: [mgmtd, meta, storage, client]

- name: Stage one package from a server
  hyperscaler.images.beegfs_stage:
    urls:
      - url: https://mirror.example.com/beegfs-storage_8.1.0_amd64.deb
        sha256: 8b1a9953c4611296a827abf8c47804d7e6a3ffa2c3f4ff4e0f0f9e1b1f6b6f3a
    dest: build/packages/beegfs
    components: [storage]
"""

RETURN = r"""
version:
  description: The version of BeeGFS that is staged, without epoch and Debian revision.
  returned: success
  type: str
  sample: 8.1.0
packages:
  description: The packages that the components need, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the package.
      type: str
      sample: beegfs-client-dkms
    version:
      description: Its version.
      type: str
      sample: 20:8.1.0
    architecture:
      description: Its architecture.
      type: str
      sample: all
    path:
      description: The staged file.
      type: str
      sample: build/packages/beegfs/beegfs-client-dkms_8.1.0_all.deb
    sha256:
      description: The checksum of the file.
      type: str
      sample: 8b1a9953c4611296a827abf8c47804d7e6a3ffa2c3f4ff4e0f0f9e1b1f6b6f3a
    origin:
      description: The file or address that it comes from.
      type: str
      sample: /srv/beegfs/beegfs-client-dkms_8.1.0_all.deb
    reason:
      description: Why it was chosen.
      type: str
      sample: the component client uses it
    staged:
      description: Whether it was brought by this run.
      type: bool
      sample: true
ignored:
  description: The packages that were offered and not chosen. Of a repository only those of the chosen version are listed.
  returned: success
  type: list
  elements: dict
  contains:
    origin:
      description: The file or address.
      type: str
      sample: /srv/beegfs/beegfs-mon_8.1.0_amd64.deb
    reason:
      description: Why it was not chosen.
      type: str
      sample: none of the components client uses it
removed:
  description: The files of other versions that were removed.
  returned: success
  type: list
  elements: str
  sample: [beegfs-client-dkms_8.0.1_all.deb]
msg:
  description: What was done, and why.
  returned: always
  type: str
  sample: "2 packages of BeeGFS 8.1.0 for client are staged: beegfs-client-dkms and beegfs-utils were brought."
"""

import tempfile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._beegfs import COMPONENTS, Candidate, Selection, Wanted, select
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Repository
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._package_source import folder_candidates, repository_candidates, url_candidates
from ansible_collections.hyperscaler.images.plugins.module_utils._package_stage import Plan, Stage
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy

ARGUMENTS: dict[str, t.Any] = {
    "dest": {"type": "path", "required": True},
    "components": {"type": "list", "elements": "str", "choices": list(COMPONENTS), "required": True},
    "folder": {"type": "path"},
    "checksums": {"type": "dict", "default": {}},
    "urls": {"type": "list", "elements": "dict", "options": {"url": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}}},
    "repository": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "suite": {"type": "str", "required": True},
            "component": {"type": "str", "default": "non-free"},
            "key": {"type": "path", "required": True, "no_log": False},
        },
    },
    "version": {"type": "str"},
    "architecture": {"type": "str", "default": "amd64"},
    "retries": {"type": "int", "default": 5},
    "stall_timeout": {"type": "float", "default": 60},
}


def candidates_of(params: t.Mapping[str, t.Any], stage: Stage, incoming: Path, policy: Policy) -> list[Candidate]:
    """What the chosen source offers."""
    if params["checksums"] and not params["folder"]:
        raise ImageError("Cannot use checksums: they belong to folder. Give the sha256 of each entry of urls; a repository has its own.")
    if params["folder"]:
        return folder_candidates(Path(params["folder"]).absolute(), {name: str(digest) for name, digest in params["checksums"].items()})
    if params["repository"]:
        asked = params["repository"]
        return repository_candidates(Repository(asked["url"], asked["suite"], asked["component"], Path(asked["key"])), params["architecture"], policy)
    return url_candidates(params["urls"], {entry.sha256: entry.package for entry in stage.record()}, incoming, policy)


def result_of(params: t.Mapping[str, t.Any], selection: Selection, plan: Plan, names: t.Mapping[str, str]) -> dict[str, t.Any]:
    """The return values."""
    brought = {candidate.sha256 for candidate in plan.bring}
    packages = [
        {
            "name": choice.candidate.package.name,
            "version": choice.candidate.package.version,
            "architecture": choice.candidate.package.architecture,
            "path": str(Path(params["dest"], names[choice.candidate.sha256])),
            "sha256": choice.candidate.sha256,
            "origin": choice.candidate.origin,
            "reason": choice.reason,
            "staged": choice.candidate.sha256 in brought,
        }
        for choice in selection.chosen
    ]
    removed = [staged.file for staged in plan.remove]
    steps = [f"{candidate.package.name} was brought" for candidate in plan.bring] + [f"{name} was removed" for name in removed]
    return {
        "changed": plan.changed,
        "msg": f"{len(packages)} packages of BeeGFS {selection.release} for {', '.join(params['components'])}: {', '.join(steps) or 'all are staged already'}.",
        "version": selection.release,
        "packages": packages,
        "ignored": [
            {"origin": choice.candidate.origin, "reason": choice.reason}
            for choice in selection.ignored
            if not params["repository"] or choice.candidate.package.release == selection.release
        ],
        "removed": removed,
        "diff": {
            "before": {"packages": sorted([*(names[candidate.sha256] for candidate in plan.keep), *removed])},
            "after": {"packages": sorted(names.values())},
        },
    }


def ensure(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Stage the packages, or predict it."""
    stage = Stage(Path(params["dest"]))
    policy = Policy(retries=params["retries"], stall_timeout=params["stall_timeout"])
    wanted = Wanted(tuple(dict.fromkeys(params["components"])), params["architecture"], params["version"], newest=bool(params["repository"]))
    if not check_mode:
        stage.create()
    with stage.locked(), tempfile.TemporaryDirectory(prefix="hyperscaler-beegfs-") as incoming:
        selection = select(candidates_of(params, stage, Path(incoming), policy), wanted)
        plan = stage.plan(selection)
        names = {choice.candidate.sha256: stage.name_of(choice.candidate) for choice in selection.chosen}
        if not check_mode:
            stage.apply(plan, policy)
    return result_of(params, selection, plan, names)


def main() -> t.NoReturn:
    sources = ["folder", "urls", "repository"]
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, mutually_exclusive=[sources], required_one_of=[sources])
    try:
        result = ensure(module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
