# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`llm_models`, the one list of what the service offers: its shape, its errors, and the deployments that follow from it.

Pure functions on plain data. The names of LiteLLM's options are those of its config.yaml (model_list, router_settings).
"""

from __future__ import annotations

import fnmatch
import re
import typing as t
from urllib.parse import urlsplit

MODES = ("chat", "completion", "embedding", "rerank", "image_generation", "audio_transcription", "audio_speech")
SOURCES = ("ollama", "servers", "provider")
LISTED = ("all", "aliases")
# The OpenAI client insists on a key; a server without authentication ignores it.
UNUSED_KEY = "unused"

_COMMON_KEYS = {
    "name": str,
    "aliases": list,
    "listed": str,
    "access_groups": list,
    "mode": str,
    "fallbacks": list,
    "timeout": (int, float),
    "stream_timeout": (int, float),
    "rpm": int,
    "tpm": int,
    "max_parallel_requests": int,
    "max_budget": (int, float),
    "budget_duration": str,
    "params": dict,
    "info": dict,
}
_SOURCE_KEYS: dict[str, dict[str, t.Any]] = {
    "ollama": {"ollama": dict},
    "servers": {"servers": list, "model": str, "api_key": str},
    "provider": {"provider": str, "api_base": str, "api_key": str},
}
_OLLAMA_KEYS = {
    "model": str,
    "hosts": str,
    "from": str,
    "system": str,
    "template": str,
    "parameters": dict,
    "license": (str, list),
    "messages": list,
    "preload": bool,
    "keep_alive": (str, int),
    "insecure": bool,
}
_SERVER_KEYS = {"url": str, "name": str, "model": str, "api_key": str, "rpm": int, "tpm": int, "max_parallel_requests": int}
_LIMITS = ("timeout", "stream_timeout", "rpm", "tpm", "max_parallel_requests", "max_budget", "budget_duration")


class ModelsError(ValueError):
    """A mistake in llm_models. The message names the entry, the key and the remedy."""


class Deployment(t.NamedTuple):
    """One model at one place. `id` is what LiteLLM reports as x-litellm-model-id; `secret` the name and value of an API key."""

    id: str
    params: dict[str, t.Any]
    secret: tuple[str, str] | None


# As YAML's users call them.
_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a mapping"}


def kind_of(value: t.Any) -> str:
    """What a value is, in words. Ansible's own types are those that they are made of."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return _KINDS[kind]
    if value is None:
        return "nothing"
    return _KINDS[dict if isinstance(value, t.Mapping) else list]


def _check_keys(where: str, entry: t.Mapping[str, t.Any], allowed: t.Mapping[str, t.Any]) -> None:
    for key, value in entry.items():
        if key not in allowed:
            raise ModelsError(f"{where}: unknown key {key!r}. Known are: {', '.join(sorted(allowed))}")
        kinds = allowed[key] if isinstance(allowed[key], tuple) else (allowed[key],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(_KINDS[kind] for kind in kinds if not (kind is int and float in kinds))
            # A wrong value may be a key in the wrong shape: it is not repeated.
            raise ModelsError(f"{where}: {key} must be {wanted}, not {kind_of(value)}")


def _check_url(where: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ModelsError(
            f"{where}: url must be one such as http://gpu-1:8080/v1 or http://[2001:db8::20]:8080/v1, with a port up to 65535, not {url!r}"
        )


def _servers(where: str, entry: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    servers = []
    for item in entry["servers"]:
        server = {"url": item} if isinstance(item, str) else item
        if not isinstance(server, t.Mapping):
            raise ModelsError(f"{where}: an entry of servers must be a URL or a mapping with url, not {kind_of(item)}")
        _check_keys(f"{where}.servers", server, _SERVER_KEYS)
        if "url" not in server:
            raise ModelsError(
                f"{where}.servers: url is missing beside {', '.join(server) or 'nothing'}. Give the base URL, such as http://gpu-1:8080/v1"
            )
        _check_url(f"{where}.servers", server["url"])
        servers.append(dict(server))
    if not servers:
        raise ModelsError(f"{where}: servers is empty. List at least one URL, or remove the model")
    return servers


def _check_entry(entry: t.Any, position: int) -> None:
    if not isinstance(entry, t.Mapping):
        raise ModelsError(f"llm_models[{position}] must be a mapping with a name, not {kind_of(entry)}")
    name = entry.get("name")
    if not isinstance(name, str) or not re.match(r"[A-Za-z0-9][\w.:/-]*\Z", name):
        raise ModelsError(f"llm_models[{position}].name must be a name such as phi3-3.8b, not {name!r}")
    where = f"llm_models ({name})"
    present = [source for source in SOURCES if source in entry]
    if len(present) != 1:
        got = " and ".join(present) or "none of them"
        raise ModelsError(f"{where}: exactly one of {', '.join(SOURCES)} must say where the model is served, found {got}")
    _check_keys(where, entry, {**_COMMON_KEYS, **_SOURCE_KEYS[present[0]]})
    for key in ("aliases", "fallbacks", "access_groups"):
        for item in entry.get(key, []):
            if not isinstance(item, str) or not item:
                raise ModelsError(f"{where}: {key} must be a list of names, {item!r} is none")
    if entry.get("mode", "chat") not in MODES:
        raise ModelsError(f"{where}: mode {entry['mode']!r} is unknown. Known are: {', '.join(MODES)}")
    if entry.get("listed", "all") not in LISTED:
        raise ModelsError(f"{where}: listed must be all or aliases, not {entry['listed']!r}")
    if not public_names(entry):
        raise ModelsError(f"{where}: only aliases are listed, and it has none. Give it aliases, or leave listed out")
    if "ollama" in entry:
        _check_keys(f"{where}.ollama", entry["ollama"], _OLLAMA_KEYS)
        if not entry["ollama"].get("model"):
            raise ModelsError(f"{where}: ollama.model is missing, the name to pull, such as phi3:3.8b")
    elif "servers" in entry:
        _servers(where, entry)
    elif "/" not in entry["provider"]:
        raise ModelsError(f"{where}: provider must be LiteLLM's provider/model, such as huggingface/org/model, not {entry['provider']!r}")


def check_models(models: t.Any) -> list[dict[str, t.Any]]:
    """The list itself where it is sound, else ModelsError."""
    if not models:
        raise ModelsError("llm_models must be a list with at least one model. Declare it in the inventory's group_vars/all")
    if not isinstance(models, t.Sequence) or isinstance(models, str):
        raise ModelsError(f"llm_models must be a list of models, each beginning with `- name:`, not {kind_of(models)}")
    for position, entry in enumerate(models):
        _check_entry(entry, position)
    seen: dict[str, t.Mapping[str, t.Any]] = {}
    for entry in models:
        for name in [entry["name"], *entry.get("aliases", [])]:
            if name in seen:
                raise ModelsError(
                    f"llm_models ({entry['name']}): the name {name!r} is already taken by {seen[name]['name']}. Rename one of them"
                )
            seen[name] = entry
    for entry in models:
        for fallback in entry.get("fallbacks", []):
            _check_fallback(entry, fallback, seen)
    _check_groups(models, seen)
    return list(models)


def _check_fallback(entry: t.Mapping[str, t.Any], fallback: str, seen: t.Mapping[str, t.Mapping[str, t.Any]]) -> None:
    where = f"llm_models ({entry['name']})"
    if fallback not in seen:
        raise ModelsError(f"{where}: the fallback {fallback!r} is not the name of a declared model. Declare it, or correct fallbacks")
    target = seen[fallback]
    if target is entry:
        raise ModelsError(f"{where}: a model cannot be its own fallback. Take {fallback!r} out of fallbacks")
    # LiteLLM asks whether a key may use the model that was asked for, not the one that answers.
    limits, own = set(target.get("access_groups", [])), set(entry.get("access_groups", []))
    if limits and not (own and own <= limits):
        raise ModelsError(
            f"{where}: its fallback {fallback!r} is limited to some keys (access_groups), and would answer those that may use "
            f"{entry['name']} as well. Take it out of fallbacks, or limit both to the same access_groups"
        )


def _check_groups(models: t.Sequence[t.Mapping[str, t.Any]], seen: t.Mapping[str, t.Any]) -> None:
    for entry in models:
        for group in entry.get("access_groups", []):
            if group in seen:
                raise ModelsError(
                    f"llm_models ({entry['name']}): the access group {group!r} is also the name of a model, and a key could mean either. "
                    "Rename the group"
                )


def public_names(entry: t.Mapping[str, t.Any]) -> list[str]:
    """What clients can ask for. LiteLLM knows the model by the first of them: a name that is not listed is in no request and no answer."""
    own = [] if entry.get("listed") == "aliases" else [entry["name"]]
    return [*own, *entry.get("aliases", [])]


def matching_hosts(pattern: str, groups: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    """The hosts of an Ansible pattern: names, groups, wildcards, joined by `:` or `,`, with `!` and `&`."""
    every = list(groups.get("all", []))
    terms = [term.strip() for term in re.split(r"[,:]", pattern) if term.strip()]

    def resolve(term: str) -> list[str]:
        if term in groups:
            return list(groups[term])
        named = [host for name in sorted(groups) if fnmatch.fnmatchcase(name, term) for host in groups[name]]
        return [host for host in every if host in named or fnmatch.fnmatchcase(host, term)]

    hosts: list[str] = []
    for term in [term for term in terms if term[0] not in "!&"] or ["all"]:
        hosts += [host for host in resolve(term) if host not in hosts]
    for term in terms:
        if term[0] == "!":
            hosts = [host for host in hosts if host not in resolve(term[1:])]
        elif term[0] == "&":
            hosts = [host for host in hosts if host in resolve(term[1:])]
    return hosts


def serving_hosts(entry: t.Mapping[str, t.Any], groups: t.Mapping[str, t.Sequence[str]], ollama_urls: t.Mapping[str, str]) -> list[str]:
    """The Ollama hosts of a model, in the order of the inventory."""
    pattern = entry["ollama"].get("hosts", "llm")
    matching = matching_hosts(pattern, groups)
    hosts = [host for host in ollama_urls if host in matching]
    if not hosts:
        raise ModelsError(
            f"llm_models ({entry['name']}): no host of group llm matches the pattern {pattern!r}. "
            "Add hosts to the group, or correct ollama.hosts"
        )
    return hosts


def _secret_name(identity: str) -> str:
    return "LLM_KEY_" + re.sub(r"[^A-Z0-9]+", "_", identity.upper()).strip("_")


def _with_key(identity: str, params: dict[str, t.Any], key: str | None) -> Deployment:
    if not key:
        return Deployment(identity, params, None)
    name = _secret_name(identity)
    return Deployment(identity, {**params, "api_key": f"os.environ/{name}"}, (name, key))


def _ollama_params(mode: str, model: str, url: str) -> dict[str, t.Any]:
    """Embeddings go through Ollama's OpenAI-compatible API: of its native one LiteLLM does not count the requests in flight."""
    if mode == "embedding":
        return {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": UNUSED_KEY}
    return {"model": f"{'ollama_chat' if mode == 'chat' else 'ollama'}/{model}", "api_base": url}


def _ollama_deployments(entry: t.Mapping[str, t.Any], hosts: t.Sequence[str], urls: t.Mapping[str, str]) -> list[Deployment]:
    mode, model = entry.get("mode", "chat"), entry["ollama"]["model"]
    return [Deployment(f"{entry['name']}@{host}", _ollama_params(mode, model, urls[host]), None) for host in hosts]


def _server_deployments(entry: t.Mapping[str, t.Any]) -> list[Deployment]:
    deployments = []
    for server in _servers(f"llm_models ({entry['name']})", entry):
        upstream = server.get("model") or entry.get("model") or entry["name"]
        identity = f"{entry['name']}@{server.get('name') or urlsplit(server['url']).netloc.rpartition('@')[2]}"
        params: dict[str, t.Any] = {"model": f"openai/{upstream}", "api_base": server["url"].rstrip("/"), "api_key": UNUSED_KEY}
        if server["url"].startswith("http://"):
            # llama.cpp closes a connection after a stream without saying so, others one that was idle. Used once more it fails, and LiteLLM
            # takes that for a failure of the server.
            params["extra_headers"] = {"Connection": "close"}
        params.update({key: server[key] for key in _LIMITS if key in server})
        deployments.append(_with_key(identity, params, server.get("api_key") or entry.get("api_key")))
    return deployments


def deployments(
    entry: t.Mapping[str, t.Any],
    position: int,
    groups: t.Mapping[str, t.Sequence[str]],
    ollama_urls: t.Mapping[str, str],
) -> list[Deployment]:
    """The deployments of one model, from its home host on.

    Least-busy breaks ties by position, so the first one gets the light traffic: homes rotate over the hosts by the model's position
    among those of its kind.
    """
    if "ollama" in entry:
        hosts = serving_hosts(entry, groups, ollama_urls)
        found = _ollama_deployments(entry, hosts, ollama_urls)
    elif "servers" in entry:
        found = _server_deployments(entry)
    else:
        params = {"model": entry["provider"]}
        if entry.get("api_base"):
            params["api_base"] = entry["api_base"]
        found = [_with_key(f"{entry['name']}@{entry['provider'].split('/')[0]}", params, entry.get("api_key"))]
    identities = [deployment.id for deployment in found]
    for identity in identities:
        if identities.count(identity) > 1:
            raise ModelsError(
                f"llm_models ({entry['name']}): two servers have the same place {identity!r}. Give each a name of its own in servers"
            )
    home = position % len(found)
    return found[home:] + found[:home]


def _positions(models: t.Sequence[t.Mapping[str, t.Any]]) -> list[int]:
    """The position of each model among those of the same source: models of other sources must not make two share a home."""
    sources = [next(source for source in SOURCES if source in entry) for entry in models]
    return [sources[:index].count(source) for index, source in enumerate(sources)]


class Catalogue:
    """A sound llm_models together with where things are. Every consumer takes its part from here."""

    def __init__(
        self, models: t.Any, groups: t.Mapping[str, t.Sequence[str]] | None = None, ollama_urls: t.Mapping[str, str] | None = None
    ) -> None:
        self.models = check_models(models)
        self._groups = groups or {}
        self._urls = ollama_urls or {}
        positions = _positions(self.models)
        self._by_model = [
            deployments(entry, position, self._groups, self._urls) for entry, position in zip(self.models, positions, strict=True)
        ]

    def model_list(self) -> list[dict[str, t.Any]]:
        """LiteLLM's model_list."""
        result = []
        for entry, found in zip(self.models, self._by_model, strict=True):
            limits = {key: entry[key] for key in _LIMITS if key in entry}
            for deployment in found:
                access = {"access_groups": list(entry["access_groups"])} if entry.get("access_groups") else {}
                result.append(
                    {
                        "model_name": public_names(entry)[0],
                        "litellm_params": {**limits, **deployment.params, **entry.get("params", {})},
                        "model_info": {"id": deployment.id, "mode": entry.get("mode", "chat"), **access, **entry.get("info", {})},
                    }
                )
        return result

    def secrets(self) -> dict[str, str]:
        """Provider and server keys by the name of the environment variable that model_list refers to."""
        found: dict[str, str] = {}
        for deployment in (item for group in self._by_model for item in group):
            if deployment.secret is None:
                continue
            name, value = deployment.secret
            if found.get(name, value) != value:
                raise ModelsError(
                    f"llm_models ({deployment.id}): its api_key would be called {name}, as is another one with another value. "
                    "Rename the model or its server"
                )
            found[name] = value
        return found

    def aliases(self) -> dict[str, str]:
        """LiteLLM's router_settings.model_group_alias."""
        return {alias: first for entry in self.models for first, *others in [public_names(entry)] for alias in others}

    def fallbacks(self) -> list[dict[str, list[str]]]:
        """LiteLLM's router_settings.fallbacks: each deployment of the model by its id, the home last, then the declared ones.

        Retries alone can all go to a dead host: it has nothing in flight, refused connections cause no cooldown, and LiteLLM's counters
        of the others may be too high after time-outs. Aliases are listed too, LiteLLM looks up the name that was asked for.
        """
        # By the name that LiteLLM knows each by.
        known = {name: public_names(entry)[0] for entry in self.models for name in [entry["name"], *public_names(entry)]}
        found = []
        for entry, deployments_of in zip(self.models, self._by_model, strict=True):
            ids = [deployment.id for deployment in deployments_of[1:] + deployments_of[:1]] if len(deployments_of) > 1 else []
            targets = ids + [known[fallback] for fallback in entry.get("fallbacks", [])]
            if targets:
                found += [{public: targets} for public in public_names(entry)]
        return found

    def expected(self) -> list[dict[str, t.Any]]:
        """What a verification has to find: of each model its names, its mode and the ids of its deployments."""
        return [
            {
                "name": public_names(entry)[0],
                "mode": entry.get("mode", "chat"),
                "aliases": public_names(entry)[1:],
                "backends": sorted(deployment.id for deployment in found),
            }
            for entry, found in zip(self.models, self._by_model, strict=True)
        ]

    def names(self, mode: str | None = None) -> list[str]:
        """All public names, or those of one mode."""
        return [public for entry in self.models if mode in (None, entry.get("mode", "chat")) for public in public_names(entry)]

    def open_names(self) -> list[str]:
        """The public names of models that every key may use, or nothing where all may be used by all."""
        if not self.access_groups():
            return []
        return [public for entry in self.models if not entry.get("access_groups") for public in public_names(entry)]

    def access_groups(self) -> dict[str, list[str]]:
        """The groups by which keys get models that are limited to some, with the public names of those models."""
        found: dict[str, list[str]] = {}
        for entry in self.models:
            for group in entry.get("access_groups", []):
                found.setdefault(group, []).extend(public_names(entry))
        return found

    def ollama_models(self, host: str) -> list[dict[str, t.Any]]:
        """What one Ollama host must hold, as the options of the module ollama_model."""
        wanted: dict[str, dict[str, t.Any]] = {}
        for entry in self.models:
            if "ollama" not in entry or host not in serving_hosts(entry, self._groups, self._urls):
                continue
            options = {key: value for key, value in entry["ollama"].items() if key not in ("model", "hosts")}
            model = {"name": entry["ollama"]["model"], **options}
            if wanted.setdefault(model["name"], model) != model:
                raise ModelsError(
                    f"llm_models ({entry['name']}): the Ollama model {model['name']!r} is declared twice with different options. "
                    "Give both the same ones under ollama"
                )
        return list(wanted.values())
