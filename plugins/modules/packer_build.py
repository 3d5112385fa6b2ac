#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: packer_build
short_description: Build with Packer, follow it, and say why it failed
version_added: "1.0.0"
description:
  - Runs C(packer init), C(packer validate) and C(packer build) for the template in one folder, with a live line in the terminal for each thing that happens.
  - Packer runs in folders of its own for configuration, cache and temporary files, without telemetry. Nothing of the user's Packer is read or changed.
  - The machine-readable output is read completely. A build that ends without an artifact has failed, whatever its exit code.
  - The result is made in a folder beside O(output) and takes its place in one step. A failed or interrupted build leaves the former result untouched.
  - A failure names its kind, the lines that show it and what to do. While a virtual machine boots, its serial console is followed.
  - Packer, its virtual machines and its provisioners end when the module ends, however that happens, also when the playbook is interrupted or killed.
  - In check mode, V(build) only validates.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
    details: The template is validated and nothing is built.
  diff_mode:
    support: N/A
    details: What changes is the content of a disk image.
  idempotent:
    support: partial
    details: With O(output), nothing is built while the inputs are those of the result that is there.
requirements:
  - Packer from 1.6.6 up to, but not including, 2. Debian 12 has 1.6.6.
  - From Packer 1.7 on, the plugins that the template asks for.
options:
  command:
    description:
      - V(build) fetches plugins if O(init), and builds. V(validate) fetches them and validates.
      - V(init) fetches plugins. Packer older than 1.7 has them built in, and nothing is done.
      - V(format) checks that the files are written as C(packer fmt) writes them. It changes nothing.
    type: str
    choices: [build, validate, init, format]
    default: build
  template:
    description:
      - The folder with the files C(*.pkr.hcl) and C(*.pkr.json) of the template.
      - The block C(required_plugins) is left out for Packer older than 1.7, which does not know it. The rest of its file is used.
    type: path
    required: true
  var_files:
    description: Variable files, the later ones win.
    type: list
    elements: path
    default: []
  vars:
    description:
      - Variables that win over those in O(var_files). Variables without a value are left out.
      - They are handed over in a file that only its owner can read.
    type: dict
    default: {}
  only:
    description: The builds to run, such as C(qemu.image). Shell patterns are understood.
    type: list
    elements: str
    default: []
  except:
    description: The builds not to run.
    type: list
    elements: str
    default: []
  inputs:
    description: Further files that shape the result. A change of one makes it out of date.
    type: list
    elements: path
    default: []
  output:
    description:
      - The folder that is the result. Packer makes it under another name, which it gets as O(output_variable).
      - Without it, the template decides where the result goes, and it is built every time.
    type: path
  output_variable:
    description: The variable of the template that names the folder for the result.
    type: str
    default: output_directory
  force:
    description: Build even if O(output) is up to date, and let Packer replace a folder that is in its way.
    type: bool
    default: false
  on_error:
    description:
      - V(cleanup) ends the virtual machine and removes what was made.
      - V(abort) ends the virtual machine and leaves the files.
      - V(keep) leaves the virtual machine running and the files in place; the message says how to log in and how to end it.
    type: str
    choices: [cleanup, abort, keep]
    default: cleanup
  parallel_builds:
    description: How many builds of the template run at a time. V(0) is no limit.
    type: int
    default: 0
  timeout:
    description: Seconds after which Packer is ended. V(0) is no limit.
    type: int
    default: 0
  init:
    description: Fetch missing plugins. Plugins that O(plugin_folder) has are not fetched.
    type: bool
    default: true
  plugin_folder:
    description:
      - The folder with plugins in Packer's own layout, to which missing ones are added. With a complete one no network is needed.
      - Without it they are fetched for this run only.
    type: path
  executable:
    description: The name or path of Packer.
    type: str
    default: packer
  log:
    description: A file for everything that Packer and its provisioners say, with times.
    type: path
  debug:
    description:
      - Keep Packer's own log beside O(log), with the ending C(.debug). It can hold secrets; only its owner can read it.
      - The environment variable E(PACKER_LOG) does the same.
    type: bool
    default: false
  serial_log:
    description: The file that the template lets the virtual machine write its serial console to.
    type: path
  monitor_variable:
    description:
      - The variable of the template that names the socket at which QEMU's monitor listens (QMP), or is empty.
      - With it, what firmware and boot loader write on the screen is followed like the serial console.
    type: str
    default: ""
  ssh_username:
    description: Who logs in to the virtual machine; only for the message about one that was kept.
    type: str
    default: ""
  ssh_private_key_file:
    description: The key to log in with; only for the message about a virtual machine that was kept.
    type: path
  progress_file:
    description: A file or named pipe that gets a line for each thing that happens. The action plugin of the same name fills it in.
    type: path
notes:
  - Lines are shown live when the module runs on the controller itself. On another build host they are in O(log).
seealso:
  - module: hyperscaler.images.image_inspect
  - module: hyperscaler.images.qemu_accelerator_info
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Build an image
  hyperscaler.images.packer_build:
    template: /srv/templates/node
    var_files: [/srv/templates/node.pkrvars.hcl]
    vars:
      cpus: 4
    output: /srv/images/node
    log: /srv/images/node.log
    timeout: 7200

- name: Keep the virtual machine when a task fails in it
  hyperscaler.images.packer_build:
    template: /srv/templates/node
    on_error: keep

- name: Validate without a network
  hyperscaler.images.packer_build:
    command: validate
    template: /srv/templates/node
    plugin_folder: /srv/packer-plugins
"""

RETURN = r"""
msg:
  description: What was done, or why it failed with the evidence and what to do.
  returned: always
  type: str
version:
  description: The version of Packer.
  returned: success
  type: str
  sample: 1.6.6
init:
  description: What became of the plugins.
  returned: success, unless O(command=format)
  type: str
artifacts:
  description: What was built, with C(build), C(builder_id), C(id), C(description) and C(files).
  returned: success and O(command=build)
  type: list
  elements: dict
  sample:
    - build: qemu.image
      builder_id: transcend.qemu
      id: VM
      description: "VM files in directory: /srv/images/node"
      files: [/srv/images/node/node.qcow2]
stages:
  description: Seconds that each stage took.
  returned: when something was built
  type: dict
  sample: {"boot": 41, "provision": 96, "shutdown": 12}
seconds:
  description: Seconds that Packer took.
  returned: when something was built
  type: float
warnings_of_packer:
  description: What Packer warns of in the template.
  returned: success and O(command=build) or O(command=validate)
  type: list
  elements: str
kind:
  description:
    - The kind of failure. Of the virtual machine it is one of the kinds of M(hyperscaler.images.qemu_guest), or V(no_accelerator), V(disk_full), V(dpkg_lock).
    - Otherwise it is one of V(output_exists), V(init_failed), V(plugin_missing), V(variable_not_set), V(template_error), V(qemu_failed),
      V(shutdown_timeout), V(base_image), V(provisioner_failed), V(no_artifact), V(not_formatted), V(timeout), V(interrupted) and V(packer_failed).
  returned: failure of Packer
  type: str
evidence:
  description: The lines that show it.
  returned: failure of Packer
  type: list
  elements: str
advice:
  description: What to do.
  returned: failure of Packer
  type: str
stage:
  description: The stage in which it failed.
  returned: failure of Packer
  type: str
errors:
  description: The error of each build.
  returned: failure of Packer
  type: dict
serial_tail:
  description: The last lines of the serial console.
  returned: failure of Packer
  type: list
  elements: str
kept:
  description: How to log in to the virtual machine that was kept, and how to end it.
  returned: failure with O(on_error=keep)
  type: list
  elements: str
"""

import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_watch import playbook_pid
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_job import Job, Work
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import line_writer

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "command": {"type": "str", "choices": ["build", "validate", "init", "format"], "default": "build"},
    "template": {"type": "path", "required": True},
    "var_files": {"type": "list", "elements": "path", "default": []},
    "vars": {"type": "dict", "default": {}},
    "only": {"type": "list", "elements": "str", "default": []},
    "except": {"type": "list", "elements": "str", "default": []},
    "inputs": {"type": "list", "elements": "path", "default": []},
    "output": {"type": "path"},
    "output_variable": {"type": "str", "default": "output_directory"},
    "force": {"type": "bool", "default": False},
    "on_error": {"type": "str", "choices": ["cleanup", "abort", "keep"], "default": "cleanup"},
    "parallel_builds": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 0},
    "init": {"type": "bool", "default": True},
    "plugin_folder": {"type": "path"},
    "executable": {"type": "str", "default": "packer"},
    "log": {"type": "path"},
    "debug": {"type": "bool", "default": False},
    "serial_log": {"type": "path"},
    "monitor_variable": {"type": "str", "default": ""},
    "ssh_username": {"type": "str", "default": ""},
    "ssh_private_key_file": {"type": "path"},
    "progress_file": {"type": "path"},
}


def job_from(params: t.Mapping[str, t.Any], *, check_mode: bool) -> Job:
    """What the options ask for, with absolute paths."""

    def path(name: str) -> Path | None:
        return Path(params[name]).absolute() if params[name] else None

    return Job(
        command="validate" if check_mode and params["command"] == "build" else params["command"],
        template=Path(params["template"]).absolute(),
        var_files=tuple(Path(name).absolute() for name in params["var_files"]),
        inputs=tuple(Path(name).absolute() for name in params["inputs"]),
        variables=params["vars"],
        only=tuple(params["only"]),
        excluded=tuple(params["except"]),
        output=path("output"),
        plugin_folder=path("plugin_folder"),
        log=path("log"),
        serial_log=path("serial_log"),
        debug=params["debug"] or os.environ.get("PACKER_LOG", "") not in ("", "0"),
        ssh_private_key_file=params["ssh_private_key_file"] or "",
        monitor_variable=params["monitor_variable"],
        **{key: params[key] for key in ("executable", "output_variable", "force", "on_error", "parallel_builds", "timeout", "init", "ssh_username")},
    )


def main() -> t.NoReturn:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        job = job_from(module.params, check_mode=module.check_mode)
        result = Work(job, line_writer(module.params["progress_file"]), playbook_pid()).do()
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        attempt = f"{module.params['command']} {module.params['template']} with Packer"
        module.fail_json(msg=f"Cannot {attempt}: {error.strerror}{place}. Check the permissions and the free space there.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
