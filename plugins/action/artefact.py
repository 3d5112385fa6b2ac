# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the packages of a third-party component: fetched, verified and locked on the controller, installed on the host, recorded there."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Source, UnavailableError, merge, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, lock_entry, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock_file import lock_first_use
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_offer import Choice, Fetcher, Wish, fetcher_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Record, Settings, is_setting, require_optional, settings_from
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.plugins.plugin_utils._artefact_machine import OnMachine
from ansible_collections.hyperscaler.images.plugins.plugin_utils._project import project_lock

DATA = Path(__file__).resolve().parents[2] / "playbooks" / "vars"

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "component": {"type": "str", "required": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "source": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["present", "fetched"], "default": "present"},
}


class ActionModule(OnMachine):
    """One component on one host."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _unused, arguments = self.validate_argument_spec(ARGUMENTS)
        try:
            return self._ensure(arguments, variables)
        except ImageError as error:
            raise AnsibleActionFail(str(error)) from None

    def _ensure(self, arguments: t.Mapping[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        component = arguments["component"]
        values = {key: self._templar.template(variables[key]) for key in variables if is_setting(key)}
        settings = settings_from(values, project_lock(values, variables))
        catalogue = yaml.safe_load((DATA / "artefacts.yml").read_text(encoding="utf-8"))["artefact_catalogue"]
        if component not in catalogue and not arguments["source"] and component not in settings.sources:
            raise ImageError(
                f"Cannot install {component}: it is in neither the catalogue nor artefact_sources. The catalogue has {', '.join(sorted(catalogue))}."
            )
        asked = {"packages": arguments["packages"]} if arguments["packages"] else {}
        described = merge(catalogue.get(component, {}), settings.sources.get(component, {}), arguments["source"])
        source = source_from(component, merge(described, asked))
        fetcher = fetcher_from(settings, Policy(retries=settings.retries, connect_timeout=settings.connect_timeout))
        wish = Wish(settings.policy == "strict", tuple(described.get("packages") or ()))
        before = self._record(component)
        choice = None
        try:
            choice = fetcher.chosen(source, read_lock(Path(settings.lock)).get(component, {}), wish)
            files = self._bring(fetcher, choice, before)
            choice, files, lines = self._locked(fetcher, choice, files, wish, settings, before)
        except UnavailableError as error:
            promised = choice is not None and any(offer.locked for offer in choice.offers)
            return self._without(before, source, settings.policy, error, variables, promised=promised)
        wanted = Record.of(choice.source, choice.offers)
        locked = {"locked": lines, "changed": True} if lines else {"locked": []}
        if files is None:
            return {**wanted.result(changed=False, needed=False), **locked}
        return {**self._with(wanted, files, arguments["state"], variables), **locked}

    def _bring(self, fetcher: Fetcher, choice: Choice, before: Record | None) -> list[Path] | None:
        """The verified files of the packages; none in check mode, and None when the host has them installed."""
        wanted = Record.of(choice.source, choice.offers)
        if before == wanted and self._is_installed(wanted):
            return None
        return [] if self._task.check_mode else [fetcher.bring(choice.source, offer) for offer in choice.offers]

    def _locked(
        self, fetcher: Fetcher, choice: Choice, files: list[Path] | None, wish: Wish, settings: Settings, before: Record | None
    ) -> tuple[Choice, list[Path] | None, list[str]]:
        """Lock what is used for the first time, and say it. Where another build was quicker, what that one locked is taken."""
        if not choice.fresh:
            return choice, files, []
        source, fresh = choice.source, lock_entry(choice.source.version, choice.fresh)
        if not self._task.check_mode:
            now = lock_first_use(Path(settings.lock), source.component, fresh)
            again = fetcher.chosen(source, {source.version: now}, wish)
            if Record.of(source, again.offers) != Record.of(source, choice.offers):
                choice, files = again, self._bring(fetcher, again, before)
            fresh = Locked(fresh.version, tuple(entry for entry in fresh.packages if entry in now.packages))
        verb = "Would lock" if self._task.check_mode else "Locked"
        lines = [f"{verb} {source.component} {source.version} in {settings.lock}: {line}" for line in fresh.lines()]
        for line in lines:
            self._display.display(line)
        return choice, files, lines

    def _with(self, wanted: Record, files: t.Sequence[Path], state: str, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        if state == "fetched" or self._task.check_mode:
            return wanted.result(changed=state == "present", needed=True)
        self._install(wanted, files, variables)
        self._write(wanted, variables)
        return wanted.result(changed=True, needed=False)

    def _without(
        self, before: Record | None, source: Source, policy: str, error: UnavailableError, variables: dict[str, t.Any], *, promised: bool
    ) -> dict[str, t.Any]:
        """Keep what is installed already; otherwise fail or go on without it, as the policy says. ``promised`` tells whether it is locked."""
        if before and before.state == "installed" and before.has(source.packages) and self._is_installed(before):
            return {**before.result(changed=False, needed=False), "locked": []}
        require_optional(policy, error, promised=promised)
        missing = Record(source.component, "missing", source.version, source.kind, str(error), ())
        changed = before != missing
        if changed and not self._task.check_mode:
            self._write(missing, variables)
        warning = f"{variables.get('inventory_hostname', 'the host')} is made without {source.component}: {error}"
        return {**missing.result(changed=changed, needed=False), "locked": [], "warnings": [warning]}
