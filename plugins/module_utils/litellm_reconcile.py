# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is declared and what a gateway has to what is done, and how that is reported.

A plan is made of everything before anything is written, so that a mistake in the last item does not leave half of them changed.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_api import DECLARATION, Gateway

NONE, CREATED, UPDATED, ROTATED, DELETED = "none", "created", "updated", "rotated", "deleted"


class RefusedError(Exception):
    """A declaration that cannot be right: which item, and what to change."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name


class Step:
    """What happens to one item. `work` returns what the API calls it, if that is news."""

    def __init__(
        self,
        name: str,
        action: str,
        before: t.Any = None,
        after: t.Any = None,
        work: t.Callable[[], dict[str, t.Any] | None] | None = None,
        facts: dict[str, t.Any] | None = None,
        listed: bool = True,
    ) -> None:
        self.name = name
        self.action = action
        self.before = before
        self.after = after
        self.work = work
        self.facts = facts or {}
        self.listed = listed
        self.error: api.ApiError | None = None

    def run(self) -> None:
        if self.work is None:
            return
        try:
            self.facts.update(self.work() or {})
        except api.ApiError as exc:
            self.error = exc


def differences(wanted: dict[str, t.Any], current: dict[str, t.Any]) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The attributes that differ, as they are and as they should be."""
    names = [name for name, value in wanted.items() if current.get(name) != value]
    return {name: current.get(name) for name in names}, {name: wanted[name] for name in names}


def without_nothing(values: dict[str, t.Any]) -> dict[str, t.Any]:
    """For the diff of something new: only what is set."""
    # Not `in`: 0 is a limit, and equals False.
    return {name: value for name, value in values.items() if not (value is None or value is False or value == [] or value == {})}


def unique(items: t.Sequence[dict[str, t.Any]], name_of: t.Callable[[dict[str, t.Any]], str]) -> None:
    seen: set[str] = set()
    for item in items:
        name = name_of(item)
        if name in seen:
            raise RefusedError(name, "it is listed twice")
        seen.add(name)


def not_there_yet(module: AnsibleModule, error: api.ApiError) -> bool:
    """In check mode a gateway that is not deployed yet has nothing."""
    if not module.check_mode or error.layer not in (api.REFUSED, api.DNS):
        return False
    module.warn(f"No gateway answers at {module.params['url']} yet: it is taken to have nothing.")
    return True


def run_steps(gateway: Gateway, steps: t.Sequence[Step]) -> None:
    """Deletions first: they may free a name or a limit that another item takes."""
    for actions in ((DELETED,), (UPDATED, ROTATED), (CREATED,)):
        gateway.each(Step.run, [step for step in steps if step.action in actions])


def finish(module: AnsibleModule, gateway: Gateway | None, kind: str, steps: t.Sequence[Step], **more: t.Any) -> None:
    """Exit with what was done, or fail with what could not be."""
    if gateway:
        gateway.close()
    results = []
    for step in steps:
        if step.listed:
            results.append({"name": step.name, "action": "failed" if step.error else step.action, **step.facts})
    done = [step for step in steps if step.action != NONE and not step.error]
    answer: dict[str, t.Any] = {
        "changed": bool(done),
        kind: results,
        "requests": gateway.requests if gateway else 0,
        "diff": {
            "before": {step.name: step.before for step in done},
            "after": {step.name: step.after for step in done},
        },
        **more,
    }
    errors = [{"name": step.name, **step.error.as_dict()} for step in steps if step.error]
    if errors:
        shown = [f"{error['name']}: {error['message']}" for error in errors[:10]]
        if len(errors) > len(shown):
            shown.append(f"and {len(errors) - len(shown)} more, see errors")
        module.fail_json(msg="; ".join(shown), errors=errors, **answer)
    module.exit_json(**answer)


def fail(module: AnsibleModule, exc: Exception) -> None:
    """Fail before anything was changed."""
    if isinstance(exc, RefusedError):
        error = {"name": exc.name, "layer": DECLARATION, "message": str(exc), "status": None}
    elif isinstance(exc, api.ApiError):
        error = {"name": None, **exc.as_dict()}
    else:
        raise exc
    module.fail_json(msg=error["message"], errors=[error])


def checked(name: str, convert: t.Callable[[t.Any], t.Any], value: t.Any) -> t.Any:
    """A converted value, with the item's name in the message where it cannot be converted."""
    try:
        return convert(value)
    except (TypeError, ValueError) as exc:
        raise RefusedError(name, str(exc)) from exc
