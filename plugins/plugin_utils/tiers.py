# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""litellm_tiers, litellm_teams, litellm_users and litellm_keys: what they mean, and what of them cannot work.

Tokens per day: LiteLLM has a limit of that name (tpd_limit), but charges batches against it and nothing else. What it does enforce for
every request is money. So the own models get one price per token (llm_token_price), and tokens per day become a daily budget.
"""

from __future__ import annotations

import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils import litellm_values as values
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Entry = t.Mapping[str, t.Any]

_LIMITS = ("tpm_limit", "rpm_limit")
_COUNTS = (*_LIMITS, "max_parallel_requests", "tokens_per_day")
_COMMON = ("state", "tier", "models", "max_budget", "budget_duration", *_LIMITS, "tokens_per_day", "metadata")

# What the entries of each list may have. `name` is what they are called by.
KINDS: dict[str, dict[str, t.Any]] = {
    "litellm_keys": {
        "name": "key_alias",
        "attributes": {
            *_COMMON,
            "key_alias",
            "key",
            "key_file",
            "allowed_routes",
            "team_id",
            "user_id",
            "budget_limits",
            "max_parallel_requests",
            "expires",
            "duration",
            "blocked",
        },
    },
    "litellm_teams": {
        "name": "team_alias",
        "attributes": {*_COMMON, "team_alias", "team_id", "budget_limits", "blocked", "members"},
    },
    "litellm_users": {
        "name": "user_id",
        "attributes": {*_COMMON, "user_id", "user_email", "user_alias", "user_role"},
    },
}
TIER_ATTRIBUTES = {"models", "max_budget", "budget_duration", "budget_limits", *_LIMITS, "tokens_per_day", "max_parallel_requests"}
# Models on hardware of one's own: LiteLLM knows no price of theirs.
_OWN = ("ollama/", "ollama_chat/")
WEBUI_KEY = "open-webui"


class TiersError(ValueError):
    """A mistake in one of the lists; the message names the entry and the remedy."""


def _daily_budget(tokens: t.Any, token_price: float) -> dict[str, t.Any]:
    return {"budget_duration": "1d", "max_budget": values.money(float(tokens) * float(token_price))}


def _merged(entry: Entry, tiers: Entry) -> dict[str, t.Any]:
    """An entry with what its tier says and itself does not. A tier has no say where the entry has one, also where that is null."""
    tier = tiers.get(entry["tier"]) if entry.get("tier") and entry.get("state") != "absent" else {}
    if tier is None:
        raise TiersError(f"tier {entry['tier']!r} is not in litellm_tiers")
    return {**tier, **{name: value for name, value in entry.items() if name != "tier"}}


def resolve(
    variable: str, entries: t.Any, tiers: t.Any = None, token_price: float = 0.0, open_models: t.Sequence[str] = ()
) -> list[dict[str, t.Any]]:
    """The entries of a list as its module takes them: tiers and tokens per day turned into limits and budgets.

    To LiteLLM an entry without models may use all. Where some models are limited, it gets `open_models`, the others. A key of a team is
    left to its team.
    """
    found = []
    for entry in entries or []:
        name = entry.get(KINDS[variable]["name"]) or entry.get("team_id") or "an entry without a name"
        try:
            item = _merged(entry, tiers or {})
        except TiersError as exc:
            raise TiersError(f"{variable} ({name}): {exc}") from exc
        of_team = variable == "litellm_keys" and item.get("team_id")
        if open_models and not of_team and not item.get("models") and item.get("state") != "absent":
            item["models"] = list(open_models)
        tokens = item.pop("tokens_per_day", None)
        if tokens is not None and item.get("state") != "absent":
            if not token_price:
                raise TiersError(f"{variable} ({name}): tokens_per_day needs llm_token_price, the price of a token")
            budget = _daily_budget(tokens, token_price)
            if variable == "litellm_users":
                # A user has one budget.
                if item.get("max_budget") is not None:
                    raise TiersError(f"{variable} ({name}): LiteLLM has one budget per user: give max_budget or tokens_per_day")
                item.update(budget)
            else:
                item["budget_limits"] = [*(item.get("budget_limits") or []), budget]
        if variable != "litellm_keys":
            item.pop("max_parallel_requests", None)
        if variable == "litellm_users":
            item.pop("budget_limits", None)
        # Explicit nulls are how an entry leaves a limit of its tier out; modules take no null for a list.
        found.append({key: value for key, value in item.items() if value is not None})
    return found


def _items(variable: str) -> t.Callable[..., list[dict[str, t.Any]]]:
    def items(entries: t.Any, tiers: t.Any = None, token_price: float = 0.0, open_models: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
        try:
            return resolve(variable, entries, tiers, float(token_price or 0), open_models)
        except TypeError as exc:
            raise TiersError(str(exc)) from exc

    return items


key_items, team_items, user_items = _items("litellm_keys"), _items("litellm_teams"), _items("litellm_users")


def with_webui_key(entries: t.Any, value: t.Any, models: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
    """litellm_keys with the key of Open WebUI. An entry of that name may set its limits; its value comes from llm_webui_key."""
    if not isinstance(entries or [], list) or not all(isinstance(entry, t.Mapping) for entry in entries or []):
        # key_problems says what is wrong with it.
        return t.cast("list[dict[str, t.Any]]", entries)
    listed = [dict(entry) for entry in entries or []]
    if not value:
        return listed
    for entry in listed:
        if entry.get("key_alias") == WEBUI_KEY and entry.get("state") != "absent":
            entry["key"] = value
            entry.setdefault("models", list(models))
            return listed
    return [{"key_alias": WEBUI_KEY, "key": value, "models": list(models)}, *listed]


def token_priced(model_list: t.Sequence[Entry], token_price: float = 0.0) -> list[dict[str, t.Any]]:
    """LiteLLM's model_list with one price per token for each own model that has none: Ollama's, and those with an address of their own."""
    priced = []
    for entry in model_list:
        params = dict(entry["litellm_params"])
        own = str(params.get("model", "")).startswith(_OWN) or bool(params.get("api_base"))
        known = {**entry.get("model_info", {}), **params}
        has_price = any("cost_per" in name for name in known)
        if token_price and own and not has_price:
            params.update(input_cost_per_token=float(token_price), output_cost_per_token=float(token_price))
        priced.append({**entry, "litellm_params": params})
    return priced


# What cannot work


def _number(value: t.Any, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return number >= 0 and number - number == 0 and (not whole or number.is_integer())


def _limit_problems(where: str, entry: Entry) -> t.Iterator[str]:
    for name in _COUNTS:
        if entry.get(name) is not None and not _number(entry[name], whole=True):
            yield f"{where}: {name} must be a whole number from 0 up, not {entry[name]!r}."
    if entry.get("max_budget") is not None and not _number(entry["max_budget"], whole=False):
        yield f"{where}: max_budget must be a number from 0 up, not {entry['max_budget']!r}."
    for name in ("budget_duration", "duration"):
        if entry.get(name) is not None:
            yield from _refusal(where, name, values.duration, entry[name])
    limits = entry.get("budget_limits") or []
    if not isinstance(limits, list) or not all(isinstance(window, dict) for window in limits):
        yield f"{where}: budget_limits must be a list of mappings with max_budget and budget_duration."
        return
    for window in limits:
        if set(window) != {"max_budget", "budget_duration"} or not _number(window["max_budget"], whole=False):
            yield f"{where}: an entry of budget_limits needs max_budget, a number, and budget_duration, and nothing else."
        else:
            yield from _refusal(where, "budget_limits", values.duration, window["budget_duration"])
    if entry.get("tokens_per_day") is not None and any(values.stored_duration(window.get("budget_duration")) == "1d" for window in limits):
        yield f"{where}: tokens_per_day is a budget of a day, and budget_limits has one, too. Leave one of them out."


def _refusal(where: str, name: str, convert: t.Callable[[t.Any], t.Any], value: t.Any) -> t.Iterator[str]:
    try:
        convert(value)
    except (TypeError, ValueError) as exc:
        yield f"{where}: {name}: {exc}."


def _listed(names: t.Iterable[str]) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "nothing"


def _unknown_attributes(where: str, entry: Entry, known: t.Iterable[str]) -> t.Iterator[str]:
    for name in entry:
        if name not in known:
            hint = " LiteLLM charges only batches against it: use tokens_per_day." if name == "tpd_limit" else ""
            yield f"{where}: {name} is not known.{hint} Correct it, or leave it out. It may have {_listed(known)}."


def _model_problems(where: str, entry: Entry, models: t.Sequence[str]) -> t.Iterator[str]:
    wanted = entry.get("models")
    if wanted is None:
        return
    if not isinstance(wanted, list):
        yield f"{where}: models must be a list of names."
        return
    for name in wanted:
        if models and name not in models and name not in values.SPECIAL_MODELS and "*" not in str(name):
            yield f"{where}: {name!r} is no model of llm_models. Correct models, or declare it (declared: {_listed(models)})."


def _tier_problems(tiers: t.Any, models: t.Sequence[str]) -> t.Iterator[str]:
    if not isinstance(tiers, dict):
        yield "litellm_tiers must be a mapping of names to limits."
        return
    for name, tier in tiers.items():
        where = f"litellm_tiers ({name})"
        if not isinstance(tier, dict):
            yield f"{where} must be a mapping of limits, such as {{rpm_limit: 10, tokens_per_day: 10000}}."
            continue
        yield from _unknown_attributes(where, tier, TIER_ATTRIBUTES)
        yield from _limit_problems(where, tier)
        yield from _model_problems(where, tier, models)


def _value_problems(where: str, entry: Entry, master_key: str) -> t.Iterator[str]:
    value = entry.get("key")
    if value is None:
        return
    if entry.get("key_file"):
        yield f"{where}: it has both key and key_file. Leave one of them out."
    reason = weakness(value)
    if reason:
        yield f"{where}: its key is no secret: {reason}. Make one with `openssl rand -hex 24`, put sk- before it, and keep it in the vault."
    elif not str(value).startswith("sk-"):
        yield f"{where}: its key must begin with sk-: LiteLLM takes no other."
    elif master_key and value == master_key:
        yield f"{where}: its key is the master key. Give it one of its own."


class _Lists:
    """All three lists, for what one says about another."""

    def __init__(self, lists: dict[str, list[Entry]], tiers: Entry, models: t.Sequence[str], token_price: t.Any, master_key: str) -> None:
        self.lists = lists
        self.tiers = tiers
        self.models = models
        self.token_price = token_price
        self.master_key = master_key
        teams = [entry for entry in lists["litellm_teams"] if entry.get("state") != "absent"]
        self.teams = {str(entry[name]) for entry in teams for name in ("team_alias", "team_id") if entry.get(name)}
        self.users = {str(entry.get("user_id")) for entry in lists["litellm_users"] if entry.get("state") != "absent"}
        # LiteLLM makes a member that it does not know.
        self.users |= {str(member.get("user_id")) for entry in teams for member in entry.get("members") or [] if isinstance(member, dict)}

    def problems(self) -> t.Iterator[str]:
        for variable, entries in self.lists.items():
            seen: set[str] = set()
            for position, entry in enumerate(entries, 1):
                name = entry.get(KINDS[variable]["name"]) or (entry.get("team_id") if variable == "litellm_teams" else None)
                if not name or not isinstance(name, str):
                    yield f"{variable}: entry {position} has no {KINDS[variable]['name']}. Give it one, a string."
                    continue
                where = f"{variable} ({name})"
                if name in seen:
                    yield f"{where}: it is listed twice. Take one out."
                seen.add(name)
                yield from self.entry_problems(variable, where, entry)
        yield from self.shared_values()

    def entry_problems(self, variable: str, where: str, entry: Entry) -> t.Iterator[str]:
        yield from _unknown_attributes(where, entry, KINDS[variable]["attributes"])
        if entry.get("state", "present") not in ("present", "absent"):
            yield f"{where}: state must be present or absent, not {entry['state']!r}."
        if entry.get("state") == "absent":
            return
        tier = entry.get("tier")
        if tier is not None and tier not in self.tiers:
            yield f"{where}: {tier!r} is not in litellm_tiers. Correct tier, or declare it (declared: {_listed(self.tiers)})."
            tier = None
        yield from _limit_problems(where, entry)
        yield from _model_problems(where, entry, self.models)
        yield from self.price_problems(variable, where, entry, tier)
        if variable == "litellm_keys":
            yield from self.key_problems(where, entry)
        elif variable == "litellm_teams":
            members = entry.get("members") or []
            if not isinstance(members, list) or not all(isinstance(member, dict) and member.get("user_id") for member in members):
                yield f"{where}: members must be a list of mappings such as {{user_id: alice}}."

    def price_problems(self, variable: str, where: str, entry: Entry, tier: str | None) -> t.Iterator[str]:
        limits = self.tiers.get(tier, {}) if tier else {}
        if not isinstance(limits, dict):
            return
        both = {**limits, **entry}
        if both.get("tokens_per_day") is not None and not (_number(self.token_price, whole=False) and float(self.token_price) > 0):
            yield (
                f"{where}: tokens_per_day needs llm_token_price, the price that each token of your own models gets. "
                "Set it in group_vars/all, such as 0.000001."
            )
        if variable == "litellm_users" and both.get("tokens_per_day") is not None and both.get("max_budget") is not None:
            yield f"{where}: LiteLLM has one budget per user. Give max_budget or tokens_per_day, not both."
        if variable != "litellm_keys" and both.get("max_parallel_requests") is not None:
            what = f"tier {tier}, which has it," if "max_parallel_requests" in limits else "it"
            yield f"{where}: LiteLLM limits max_parallel_requests of keys only. Give {what} to its keys."
        if variable == "litellm_users" and both.get("budget_limits"):
            yield f"{where}: LiteLLM has one budget per user. Leave budget_limits out."

    def key_problems(self, where: str, entry: Entry) -> t.Iterator[str]:
        if entry.get("expires") is not None:
            yield from _refusal(where, "expires", values.moment, entry["expires"])
            if entry.get("duration") is not None:
                yield f"{where}: it has both expires and duration. Leave one of them out."
        team, user = entry.get("team_id"), entry.get("user_id")
        if team is not None and str(team) not in self.teams:
            yield f"{where}: {team!r} is not in litellm_teams. Correct team_id, or declare it (declared: {_listed(self.teams)})."
        if user is not None and str(user) not in self.users:
            yield f"{where}: {user!r} is not in litellm_users. Correct user_id, or declare it (declared: {_listed(self.users)})."
        yield from _value_problems(where, entry, self.master_key)

    def shared_values(self) -> t.Iterator[str]:
        owners: dict[str, str] = {}
        for entry in self.lists["litellm_keys"]:
            value, name = entry.get("key"), str(entry.get("key_alias"))
            if value is not None and entry.get("state") != "absent" and owners.setdefault(str(value), name) != name:
                yield f"litellm_keys ({name}): its key is that of {owners[str(value)]}. Give each key a value of its own."


def problems(
    keys: t.Any,
    teams: t.Any = None,
    users: t.Any = None,
    tiers: t.Any = None,
    models: t.Sequence[str] = (),
    token_price: t.Any = 0.0,
    master_key: str = "",
    database: bool = True,
) -> list[str]:
    """What an operator has to change in the lists before they can be applied, each with its remedy. No value of a key is in it."""
    given = {"litellm_users": users or [], "litellm_teams": teams or [], "litellm_keys": keys or []}
    found = []
    for variable, entries in given.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            found.append(f"{variable} must be a list of mappings.")
    if found:
        return found
    if not database and any(given.values()):
        declared = ", ".join(variable for variable, entries in given.items() if entries)
        found.append(
            f"{declared}: they are stored in a database, and the gateway has none. Add a host to group store, or set llm_database_url, "
            "or for a Compose project litellm_compose_database; or leave them out."
        )
    tiers = {} if tiers is None else tiers
    found += _tier_problems(tiers, models)
    if isinstance(tiers, dict):
        found += _Lists(given, tiers, models, token_price, master_key).problems()
    return found
