# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Hugging Face Space can and cannot serve, and what its repository says."""

from __future__ import annotations

import ipaddress
import json
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_config import REFUSED_VERSIONS
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z", re.ASCII)
# Names that no public DNS has.
_PRIVATE_SUFFIXES = (".local", ".lan", ".internal", ".intranet", ".home.arpa", ".corp", ".localdomain", ".svc")
# What a container of a Space has of its own, whatever the gateway on a machine is told.
_OF_THE_MACHINE = ("HOST", "PORT", "HOME", "DISABLE_SCHEMA_UPDATE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_DATABASE_PORT = 5432
# Settings that need something that is not in a Space, with the reason. By name of the inventory's variable.
_NOT_HERE = {
    "litellm_proxy_custom_auth": "the handler of custom authentication, and the backend that it asks, are not part of a Space.",
    "litellm_proxy_metrics": "nobody scrapes a Space, which sleeps and starts anew.",
    "litellm_proxy_langfuse_host": "traces to Langfuse are not wired for a Space.",
    "litellm_proxy_otel_endpoint": "traces to a collector are not wired for a Space.",
    "litellm_proxy_ca_bundle": "a Space trusts public certificate authorities only; what it calls must have a certificate of one of them.",
    "litellm_proxy_proxy_url": "a Space reaches the internet directly, and no proxy of yours.",
}


def public_problem(url: str, ports: t.Sequence[int], schemes: t.Mapping[str, int]) -> str:
    """Why a Space cannot reach a URL, or "". `schemes` are those that will do, with their default ports."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "it is no URL"
    if not host:
        return "it is no URL"
    if parts.scheme not in schemes:
        return f"it is not {' or '.join(f'{scheme}://' for scheme in schemes)}: what crosses the internet has to be encrypted"
    try:
        if not ipaddress.ip_address(host).is_global:
            return f"{host} is an address of a private network, which a Space cannot reach"
    except ValueError:
        if "." not in host or host.endswith(_PRIVATE_SUFFIXES):
            return f"{host} is a name of a private network, which a Space cannot reach"
    actual = port or schemes[parts.scheme]
    if ports and actual not in ports:
        return f"the Hub lets a Space connect to the ports {', '.join(map(str, ports))} only, and this is port {actual} (llm_space_ports)"
    return ""


def _model_problems(entry: t.Any, ports: t.Sequence[int]) -> list[str]:
    if not isinstance(entry, t.Mapping):
        return []
    where = f"llm_models ({entry.get('name')})"
    remedy = "Give it a provider:, or servers with a public https:// URL."
    if "ollama" in entry:
        return [f"{where}: it is served by Ollama on hosts of your own network, which a Space cannot reach. {remedy}"]
    urls = []
    if "provider" in entry:
        urls = [("api_base", entry["api_base"])] if entry.get("api_base") else []
    for item in entry.get("servers") or []:
        if isinstance(item, t.Mapping) and "url" not in item:
            return [f"{where}: its servers are hosts of the inventory, which a Space cannot reach. {remedy}"]
        urls.append(("servers", item["url"] if isinstance(item, t.Mapping) else item))
    found = []
    for key, url in urls:
        wrong = public_problem(str(url), ports, {"https": 443})
        if wrong:
            found.append(f"{where}: {key} has {url}, but {wrong}. {remedy}")
    return found


def inventory_problems(models: t.Any, variables: Mapping, ports: t.Sequence[int]) -> list[str]:
    """What of an inventory a Space cannot do, each with the reason and the remedy. `variables` by their names in the inventory."""
    found = []
    if not isinstance(models, t.Sequence) or isinstance(models, str) or not models:
        found.append("llm_models is empty or no list. Declare what the Space is to offer.")
    else:
        found += [problem for entry in models for problem in _model_problems(entry, ports)]
    if variables.get("llm_servers_via") == "tunnel":
        found.append(
            "llm_servers_via is tunnel: SSH tunnels end on gateways of your own, not in a Space. Use public https:// URLs, or lan."
        )
    if variables.get("litellm_proxy_redis_host"):
        found.append(
            "There is a Redis (group store, or llm_redis_host), which a Space cannot share state through: it is one container, and counts "
            "for itself. Use an inventory without it for the Space."
        )
    url = variables.get("litellm_proxy_database_url") or ""
    if url:
        wrong = public_problem(url, ports, {"postgresql": _DATABASE_PORT, "postgres": _DATABASE_PORT})
        # The URL has the password.
        if wrong:
            found.append(f"The database (llm_database_url, or the group store) cannot be used: {wrong}. Name a PostgreSQL on the internet.")
        if variables.get("litellm_proxy_direct_database_url"):
            found.append(
                "llm_direct_database_url is not for a Space, which migrates by llm_database_url. Name the server there, no pooler."
            )
    for name, reason in _NOT_HERE.items():
        if variables.get(name):
            found.append(f"{name} is set, but {reason} Leave it out of the inventory of the Space.")
    return found


def problems(
    repository: str, *, token: str, version: str, master_key: str, files: Mapping, models: t.Sequence[Mapping], secrets: Mapping
) -> list[str]:
    """What an operator has to change before the Space can be published, each with the variable of the role and the remedy."""
    found = []
    if not REPOSITORY.match(repository):
        found.append(f"hf_space_repository must be the owner and the name of the Space, such as somebody/gateway, not {repository!r}.")
    if not token:
        found.append(
            "hf_space_token is empty. Make a token that may write to your Spaces at the Hub's settings, and put it into the vault."
        )
    elif re.search(r"\s", token):
        found.append("hf_space_token contains white space. Copy it once more.")
    if any(refused in version for refused in REFUSED_VERSIONS):
        found.append(f"hf_space_version: {version} was published with malicious code. Choose another version.")
    weak = weakness(master_key)
    if weak:
        found.append(f"hf_space_master_key: {weak}. Set it in the vault to sk- and at least 32 random characters.")
    elif secrets.get("LITELLM_MASTER_KEY") != master_key:
        found.append("hf_space_secrets must have hf_space_master_key as LITELLM_MASTER_KEY.")
    if "config.yaml" not in files:
        found.append("hf_space_files has no config.yaml, without which LiteLLM offers nothing.")
    if not models:
        found.append("hf_space_models is empty: there is nothing to verify.")
    return found


def space_url(repository: str) -> str:
    """Where the Hub serves a Space. It cuts long names otherwise; the module returns the Hub's own answer."""
    return f"https://{re.sub(r'[^a-z0-9]+', '-', repository.lower()).strip('-')}.hf.space"


def environment(of_the_gateway: Mapping, variables: Mapping, port: int, home: str) -> dict[str, str]:
    """The environment that is part of the image: that of a gateway without what belongs to its machine, or is a variable of the Space."""
    kept = {name: str(value) for name, value in of_the_gateway.items() if name not in _OF_THE_MACHINE and name not in variables}
    return {"HOME": home, "HOST": "0.0.0.0", "PORT": str(port), **kept}  # noqa: S104 - the container's own network


def docker_words(values: Mapping) -> str:
    """Values for one ENV of a Dockerfile, each quoted: a dollar or a quote in them is only itself."""

    def quoted(value: t.Any) -> str:
        text = json.dumps(str(value), ensure_ascii=False).replace("$", "\\$")
        if "\\n" in text:
            raise ValueError("the environment of the Space: a value has more than one line")
        return text

    return " \\\n    ".join(f"{name}={quoted(value)}" for name, value in values.items())
