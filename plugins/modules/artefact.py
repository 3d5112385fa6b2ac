#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: artefact
short_description: Install the packages of a component that the release of Debian does not have
version_added: "1.0.0"
description:
  - Installs the Debian packages of a third-party component, such as Apptainer, BeeGFS or Kubernetes.
  - A component comes from files on a server, from a signed package repository, from another suite of Debian, or from a local path.
    The catalogue C(playbooks/vars/artefacts.yml) of this collection says from where; the variable C(artefact_sources) says otherwise.
  - Packages are fetched and verified on the controller, so the host needs no access to the server.
  - What comes from a server and is not locked yet is locked at its first use, in the lock file of the project. Digest and address are shown.
  - A repository must be signed by the key whose fingerprint is pinned. When its packages are locked, exactly those are taken.
  - From another suite of Debian come the named packages, and what they need that the release of the host does not have; nothing else of it.
  - A digest or signature that disagrees always fails.
  - The variable C(artefact_policy) decides what happens otherwise. V(lock), the default, goes on without a component that is not locked and cannot be had,
    warns, and fails when a locked one cannot be had. V(best_effort) goes on without both. V(strict) takes only what is locked, and fails without it.
    What is installed already is kept while a server cannot be reached.
  - What was installed, or why it is missing, is recorded in C(/usr/local/share/hyperscaler/artefacts/) on the host.
  - Packages of the same source that a package depends on are installed with it. Others come from the package lists of the host.
requirements:
  - requests, on the controller, for servers
  - gpgv, on the controller, for repositories
  - apt and debian-archive-keyring, on the controller, for suites of Debian
  - zstd, on the controller, for packages that are compressed with it
extends_documentation_fragment:
  - hyperscaler.images._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    platforms: debian
    support: full
options:
  component:
    description: The name of the component in the catalogue or in C(artefact_sources).
    type: str
    required: true
  packages:
    description:
      - Packages to install. A name that ends in a question mark is installed when the source offers it.
      - When empty, those of the catalogue.
    type: list
    elements: str
    default: []
  source:
    description:
      - Where the component comes from, merged over the catalogue and C(artefact_sources).
      - One of the keys C(path), C(files), C(repository) and C(suite) names the source. C(path) is a package file or a folder of them on the controller.
        C(files) is a list of mappings of C(url) and C(sha256). C(repository) has C(url), C(suite), C(component), C(key) and C(fingerprint).
        C(suite) has C(name), C(system), which is the release that the packages are installed on, and C(component).
      - C(otherwise) is such a mapping, too. It takes the place of a source of which nothing is locked and nothing can be had.
      - C(version) replaces C({version}) in addresses. C(release) is the one version of the packages to take, or a pattern such as V(595.*).
        C(mirror) is an address that takes the place of the server's.
    type: dict
    default: {}
  state:
    description:
      - V(present) installs the packages.
      - V(fetched) only brings them to the controller, and tells whether the host needs them.
    type: str
    choices: [present, fetched]
    default: present
notes:
  - The variables C(artefact_policy), C(artefact_lock), C(artefact_cache), C(artefact_sources), C(artefact_architecture), C(artefact_retries),
    C(artefact_connect_timeout) and C(artefact_debian_mirror) hold for all components.
seealso:
  - module: hyperscaler.images.artefact_lock
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Install Apptainer, where it can be had
  hyperscaler.images.artefact:
    component: apptainer

- name: Install Kubernetes packages from a folder
  hyperscaler.images.artefact:
    component: kubernetes
    packages: [kubelet, kubeadm]
    source:
      path: /srv/packages/kubernetes
"""

RETURN = r"""
available:
  description: Whether the component is installed, or would be.
  returned: success
  type: bool
  sample: true
locked:
  description: What was locked at this first use, or would be, as sentences.
  returned: success
  type: list
  elements: str
  sample: []
needed:
  description: Whether packages are still to be installed, with O(state=fetched) or in check mode.
  returned: success
  type: bool
  sample: false
reason:
  description: Why the component is missing; empty when it is not.
  returned: success
  type: str
  sample: ""
version:
  description: The version of the source.
  returned: success
  type: str
  sample: 1.5.4
source:
  description: The kind of source that was used, V(path), V(files), V(repository) or V(suite).
  returned: success
  type: str
  sample: suite
packages:
  description: The packages.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      sample: apptainer
    version:
      description: The version.
      type: str
      sample: 1.5.4-trixie+
    architecture:
      description: The architecture.
      type: str
      sample: amd64
    sha256:
      description: The digest of the package file.
      type: str
      sample: 8b1a9953c4611296a827abf8c47804d7e6a3ffa2c3f4ff4e0f0f9e1b1f6b6f3a
msg:
  description: The packages, or why there are none.
  returned: always
  type: str
  sample: "apptainer: apptainer 1.5.4-trixie+"
"""
# The action plugin of the same name does the work.
