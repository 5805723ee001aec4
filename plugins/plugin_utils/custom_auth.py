# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the handler that asks a backend about keys (roles/litellm_proxy/files/backend_auth.py), and what is wrong with them."""

from __future__ import annotations

import ast
import typing as t
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

BACKEND = "backend"
# What LiteLLM's config.yaml names, in the shipped handler and in one of the operator's own.
FUNCTION = "user_api_key_auth"
LIMITS = ("rpm_limit", "tpm_limit", "max_parallel_requests")


class Offer:
    """The names that a gateway offers. A key that may use a model may use it by its aliases, too."""

    def __init__(self, model_list: t.Sequence[Mapping], aliases: Mapping) -> None:
        models = [str(model["model_name"]) for model in model_list]
        self.aliases = {str(name): str(value["model"] if isinstance(value, t.Mapping) else value) for name, value in aliases.items()}
        self.names = sorted({*models, *self.aliases})
        self._patterns = [name for name in self.names if "*" in name]

    def target(self, name: str) -> str:
        return self.aliases.get(name, name)

    def patterns_of(self, name: str) -> list[str]:
        return [pattern for pattern in self._patterns if fnmatchcase(name, pattern)]

    def has(self, name: str) -> bool:
        return name in self.names or bool(self.patterns_of(name))

    def granted(self, names: t.Iterable[str]) -> list[str]:
        """These and their aliases."""
        listed = set(names)
        return sorted(listed | {alias for alias, target in self.aliases.items() if target in listed})

    def families(self, names: t.Iterable[str]) -> list[str]:
        """Every name of the models that these are names of: who restricts one of them means the model."""
        targets = {self.target(name) for name in names}
        return sorted(targets | {alias for alias, target in self.aliases.items() if target in targets})


def handler_settings(auth: Mapping, model_list: t.Sequence[Mapping], aliases: Mapping) -> dict[str, t.Any]:
    """custom_auth.json. The models of a tier are spelled out: an empty list of a key would be all models to LiteLLM."""
    offer = Offer(model_list, aliases)
    return {
        **{name: auth[name] for name in ("url", "ca_bundle", "timeout", "cache_seconds", "negative_cache_seconds", "key_prefixes")},
        "tiers": {
            name: {**tier, "models": offer.granted(tier["models"]) if tier.get("models") else offer.names}
            for name, tier in auth["tiers"].items()
        },
        "groups": {name: offer.families(models) for name, models in auth["groups"].items()},
    }


def problems(
    auth: Mapping, *, source: str | None, model_list: t.Sequence[Mapping], aliases: Mapping, fallbacks: t.Sequence[Mapping], database: bool
) -> list[str]:
    """What an operator has to change before this can be deployed, each with the variable of the role and the remedy.

    `source` is the text of the handler that is deployed, None where the file was not found.
    """
    kind = auth["custom_auth"]
    if not kind:
        unused = [f"litellm_proxy_auth_{name}" for name in ("url", "key_prefixes", "tiers", "groups") if auth[name]]
        return [f"{', '.join(unused)}: set, but nobody asks the backend. Set litellm_proxy_custom_auth to backend."] if unused else []
    if kind != BACKEND:
        return _own_file(kind, source)
    offer = Offer(model_list, aliases)
    return [
        *_backend(auth),
        *_prefixes(auth["key_prefixes"], database),
        *_tiers(auth["tiers"], offer),
        *_groups(auth["groups"], fallbacks, offer),
    ]


def _own_file(path: str, source: str | None) -> list[str]:
    if not source:
        wrong = f"the control node has no file {path}, or it is empty. Name a Python file, or {BACKEND} for the handler of the role."
        return [f"litellm_proxy_custom_auth: {wrong}"]
    try:
        body = ast.parse(source, path).body
    except (SyntaxError, ValueError) as exc:
        return [f"litellm_proxy_custom_auth: {path} is not valid Python: {exc}. Correct it."]
    for node in body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == FUNCTION:
            return []
    wrong = f"{path} has no `async def {FUNCTION}(request, api_key)` of its own, which LiteLLM would call. docs/custom-auth.md shows one."
    return [f"litellm_proxy_custom_auth: {wrong}"]


def _backend(auth: Mapping) -> list[str]:
    found = []
    try:
        url = urlsplit(auth["url"])
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        found.append(
            "litellm_proxy_auth_url must be the http:// or https:// URL that is asked about keys, such as https://keys.example.org/check."
        )
    elif url.username is not None:
        found.append("litellm_proxy_auth_url has a user name in it, which diffs would show. Set litellm_proxy_auth_secret instead.")
    weak = weakness(auth["secret"]) if auth["secret"] else ""
    if weak:
        found.append(f"litellm_proxy_auth_secret: {weak}. Set it in the vault to at least 32 random characters, in the backend too.")
    if auth["timeout"] <= 0:
        found.append("litellm_proxy_auth_timeout must be more than 0 seconds.")
    found += [
        f"litellm_proxy_auth_{name} must be 0 seconds, for no cache, or more."
        for name in ("cache_seconds", "negative_cache_seconds")
        if auth[name] < 0
    ]
    return found


def _prefixes(prefixes: t.Sequence[str], database: bool) -> list[str]:
    if not prefixes:
        return ["litellm_proxy_auth_key_prefixes is empty: say how the keys that the backend knows begin, such as [hc-sk-]."]
    found = [
        f"litellm_proxy_auth_key_prefixes: {prefix!r} must be at least 3 printable ASCII characters without white space."
        for prefix in prefixes
        if len(prefix) < 3 or not all("!" <= character <= "~" for character in prefix)
    ]
    if database and "sk-" in prefixes:
        found.append(
            "litellm_proxy_auth_key_prefixes has sk-, with which LiteLLM's own keys of the database begin: none of them would be valid. "
            "Let the backend's keys begin otherwise, or do without the database."
        )
    return found


def _tiers(tiers: Mapping, offer: Offer) -> list[str]:
    if not tiers:
        return ["litellm_proxy_auth_tiers is empty, so no key could be valid. Declare one, such as {standard: {}} with all models."]
    found = []
    for name, tier in tiers.items():
        where = f"litellm_proxy_auth_tiers: {name}"
        if not isinstance(tier, t.Mapping):
            found.append(f"{where} must be a mapping, {{}} for all models without limits.")
            continue
        unknown = sorted(set(tier) - {"models", *LIMITS})
        if unknown:
            found.append(f"{where} has {', '.join(unknown)}, which does not exist. There are models, {', '.join(LIMITS)}.")
        for limit in LIMITS:
            value = tier.get(limit, 1)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                found.append(f"{where}: {limit} must be a whole number from 1 on. Leave it out for no limit.")
        found += _names(f"{where}: models", tier.get("models", []), offer)
    return found


def _names(where: str, models: t.Any, offer: Offer) -> list[str]:
    if isinstance(models, str) or not isinstance(models, t.Sequence):
        return [f"{where} must be a list of names."]
    unknown = [str(name) for name in models if not offer.has(str(name))]
    return [f"{where}: {', '.join(unknown)} is not offered. There are {', '.join(offer.names)}."] if unknown else []


def _groups(groups: Mapping, fallbacks: t.Sequence[Mapping], offer: Offer) -> list[str]:
    found = []
    # The groups that each restricted name is open to.
    open_to: dict[str, set[str]] = {}
    for group, models in groups.items():
        where = f"litellm_proxy_auth_groups: {group}"
        wrong = _names(where, models, offer) or ([] if models else [f"{where} has no models. List those that only this group may use."])
        found += wrong
        for model in [] if wrong else offer.families(models):
            open_to.setdefault(model, set()).add(group)
    for model in sorted(open_to):
        for pattern in offer.patterns_of(model):
            if pattern not in open_to:
                found.append(
                    f"litellm_proxy_auth_groups: {model} is restricted, but {pattern} offers it to everybody. "
                    f"Put {pattern} into the group, or take it from the models."
                )
    for entry in fallbacks:
        for model, others in entry.items():
            opened = [other for other in others if other in open_to and not (model in open_to and open_to[model] <= open_to[other])]
            if opened:
                found.append(
                    f"litellm_proxy_auth_groups: {', '.join(opened)} is restricted, but a fallback of {model}, which others may use: "
                    "LiteLLM asks nobody before it falls back. Remove the fallback, or restrict both."
                )
    return found
