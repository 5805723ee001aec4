# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway as a Compose project: its services, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from urllib.parse import urlsplit

from ansible_collections.selfhosted.llm.plugins.plugin_utils.litellm_config import REFUSED_VERSIONS
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Mapping = t.Mapping[str, t.Any]

PROXY, DATABASE, MIGRATION = "litellm-proxy", "litellm-db", "litellm-migrate"
# Where a container has what, as start.py and the configuration expect it.
CONFIG_DIR = "/etc/litellm"
PORT = 4000
# By this label a deploy knows whether a container is that of the declared state. The hash that Compose keeps does not see into files.
REVISION = "selfhosted-llm.revision"

_REMOVED = ("HOME",)
# What only a server minds. A change of it is none for the migration, which would run again.
_SERVING = (
    "DISABLE_SCHEMA_UPDATE",
    *("HOST", "PORT", "NUM_WORKERS", "LITELLM_LOG", "NO_DOCS", "NO_REDOC", "DISABLE_ADMIN_UI", "UI_USERNAME", "FORWARDED_ALLOW_IPS"),
    "LITELLM_DONT_SHOW_FEEDBACK_BOX",
)
_LOGGING = {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}}
_LIVELINESS = (
    f"import urllib.request as r; r.build_opener(r.ProxyHandler({{}})).open('http://127.0.0.1:{PORT}/health/liveliness', timeout=5).close()"
)
# Packages whose candidate may be Compose 2, in the order of preference: Docker's own, Ubuntu's, Debian's.
PACKAGES = ("docker-compose-plugin", "docker-compose-v2", "docker-compose")


def image_reference(image: str, digest: str) -> str:
    """The image as Compose takes it. With a digest the tag only says to people what it is."""
    return f"{image}@{digest}" if digest else image


def _revision(service: Mapping, *contents: t.Any) -> str:
    """A short name for a service and what is in its files."""
    return hashlib.sha256(json.dumps([service, contents], sort_keys=True).encode()).hexdigest()[:16]


def _limits(settings: Mapping, prefix: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"pids_limit": 512}
    if settings[f"{prefix}memory"]:
        found["mem_limit"] = settings[f"{prefix}memory"]
    if settings[f"{prefix}cpus"]:
        found["cpus"] = float(settings[f"{prefix}cpus"])
    return found


def _guarded(user: str, tmpfs: t.Sequence[str]) -> dict[str, t.Any]:
    """What every container of the project has: no root, no capabilities, nothing to write to but these."""
    return {
        "user": user,
        "read_only": True,
        "tmpfs": list(tmpfs),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": _LOGGING,
    }


def _owned(path: str, user: str, size: str, mode: str) -> str:
    uid, _colon, gid = user.partition(":")
    return f"{path}:size={size},uid={uid},gid={gid or uid},mode={mode}"


def _gateway(settings: Mapping) -> dict[str, t.Any]:
    """What the serving container and the one that migrates have in common."""
    return {
        "image": image_reference(settings["image"], settings["digest"]),
        **_guarded(settings["user"], [_owned("/tmp", settings["user"], "256m", "0700")]),  # noqa: S108 - inside the container
        "entrypoint": ["python3", f"{CONFIG_DIR}/start.py"],
        "volumes": [f"./gateway:{CONFIG_DIR}:ro", *(f"{path}:{path}:ro" for path in dict.fromkeys(settings["ca_bundles"]) if path)],
        "secrets": ["litellm"],
        **_limits(settings, ""),
    }


def compose_project(settings: Mapping, files: t.Mapping[str, str], environment: Mapping, secrets: t.Mapping[str, str]) -> dict[str, t.Any]:
    """compose.yaml as a mapping. `files` are those of the gateway by name; `environment` and `secrets` are LiteLLM's."""
    variables = {name: str(value) for name, value in environment.items() if name not in _REMOVED}
    shared = _gateway(settings)
    arguments = ["--config", f"{CONFIG_DIR}/config.yaml"]
    networks = ["default", *(["database"] if settings["own_database"] else []), *settings["networks"]]
    proxy = {
        **shared,
        "command": [*arguments, "--host", "0.0.0.0", "--port", str(PORT), "--num_workers", str(settings["workers"])],  # noqa: S104
        "environment": variables,
        "ports": [f"{_bracketed(settings['host'])}:{settings['port']}:{PORT}"],
        "networks": networks,
        "extra_hosts": ["host.docker.internal:host-gateway"],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _LIVELINESS],
            "interval": "15s",
            "timeout": "10s",
            "retries": 4,
            "start_period": f"{settings['start_timeout']}s",
        },
        "restart": "unless-stopped",
        "stop_grace_period": f"{settings['stop_timeout']}s",
    }
    services: dict[str, dict[str, t.Any]] = {PROXY: proxy}
    project: dict[str, t.Any] = {"name": settings["project"], "services": services, "networks": {"default": {}}}
    project["networks"].update({name: {"external": True} for name in settings["networks"]})
    project["secrets"] = {"litellm": {"file": "./secrets/litellm.json"}}
    if settings["database"]:
        migrating = {name: value for name, value in variables.items() if name not in _SERVING}
        services[MIGRATION] = {
            **shared,
            "command": [*arguments, "--skip_server_startup"],
            "environment": {**migrating, "LITELLM_MIGRATION_DIR": "/tmp/migrations"},  # noqa: S108 - inside the container
            "networks": networks,
            "extra_hosts": proxy["extra_hosts"],
            "restart": "no",
        }
        proxy["depends_on"] = {MIGRATION: {"condition": "service_completed_successfully"}}
    if settings["own_database"]:
        services[DATABASE] = _database(settings)
        for name in (PROXY, MIGRATION):
            services[name].setdefault("depends_on", {})[DATABASE] = {"condition": "service_healthy"}
        project["networks"]["database"] = {"internal": True}
        project["volumes"] = {"database": {}}
        project["secrets"]["database_password"] = {"file": "./secrets/database_password"}
    # Another configuration has nothing to migrate.
    database = [secrets.get(name) for name in ("DATABASE_URL", "DIRECT_URL", "LITELLM_SALT_KEY")]
    contents: dict[str, list[t.Any]] = {PROXY: [files, secrets], MIGRATION: [files["start.py"], database], DATABASE: []}
    for name, service in services.items():
        service["labels"] = {REVISION: _revision(service, *contents[name])}
    return t.cast("dict[str, t.Any]", _literal(project))


def compose_revisions(project: Mapping) -> dict[str, str]:
    """The revision of each service."""
    return {name: service["labels"][REVISION] for name, service in project["services"].items()}


def _literal(value: t.Any) -> t.Any:
    """Compose takes a dollar sign for the beginning of a variable, unless there are two."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, t.Mapping):
        return {key: _literal(inner) for key, inner in value.items()}
    return [_literal(inner) for inner in value] if isinstance(value, list) else value


def _database(settings: Mapping) -> dict[str, t.Any]:
    user = settings["database_user"]
    return {
        "image": image_reference(settings["database_image"], settings["database_digest"]),
        **_guarded(user, [_owned("/tmp", user, "64m", "0700"), _owned("/run/postgresql", user, "1m", "0755")]),  # noqa: S108
        "environment": {
            "POSTGRES_USER": "litellm",
            "POSTGRES_DB": "litellm",
            "POSTGRES_PASSWORD_FILE": "/run/secrets/database_password",
            "PGDATA": "/var/lib/postgresql/data",
        },
        "secrets": ["database_password"],
        "volumes": ["database:/var/lib/postgresql/data"],
        "networks": ["database"],
        "healthcheck": {
            # By TCP: the server that only prepares a new database has a socket alone.
            "test": ["CMD", "pg_isready", "--quiet", "--host=127.0.0.1", "--username=litellm"],
            "interval": "5s",
            "timeout": "5s",
            "retries": 12,
            "start_period": "60s",
        },
        "restart": "unless-stopped",
        "stop_signal": "SIGINT",
        "stop_grace_period": "60s",
        "shm_size": "128m",
        **_limits(settings, "database_"),
    }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _image_problems(name: str, image: str, digest: str) -> t.Iterator[str]:
    tag = image.rpartition("/")[2].partition(":")[2]
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        yield f"litellm_compose_{name}digest must be sha256: and 64 hexadecimal digits, not {digest!r}."
    elif "@" in image:
        yield f"litellm_compose_{name}image has a digest. Put that into litellm_compose_{name}digest."
    elif not digest and (not tag or re.search(r"(^|[-_])(latest|stable|nightly|dev)$", tag)):
        yield (
            f"litellm_compose_{name}image {image!r} is another image tomorrow. Name a version as its tag, or set "
            f"litellm_compose_{name}digest."
        )
    if any(re.search(rf"(^|v){re.escape(version)}\b", tag) for version in REFUSED_VERSIONS):
        yield f"litellm_compose_{name}image {image!r} was published with malicious code. Choose another version."


def _loopback(host: str | None) -> bool:
    return host is not None and (host == "localhost" or host == "::1" or bool(re.match(r"127\.", host)))


def compose_problems(
    settings: Mapping, *, model_list: t.Sequence[Mapping], database_password: str, database_url: str, hosts: int, redis_host: str
) -> list[str]:
    """What an operator has to change before this can be a Compose project, each with the variable of the role and the remedy."""
    found = [*_image_problems("", settings["image"], settings["digest"])]
    for name in ("user", *(["database_user"] if settings["own_database"] else [])):
        if not re.fullmatch(r"[1-9]\d*:\d+", settings[name]):
            found.append(f"litellm_compose_{name} must be two numbers that are not root's, such as 65534:65534, not {settings[name]!r}.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", settings["project"]):
        found.append(f"litellm_compose_project may have small letters, digits, - and _ only, not {settings['project']!r}.")
    if not re.fullmatch(r"/[^/]+/.*[^/]", settings["directory"]):
        found.append(f"litellm_compose_directory must be a folder of its own, such as /opt/litellm-compose, not {settings['directory']!r}.")
    places = {"database": database_url, "redis": redis_host and f"redis://{_bracketed(redis_host)}"}
    for name, url in places.items():
        if url and _loopback(urlsplit(url).hostname):
            found.append(f"The {name} is said to be on this host's loopback, which a container has one of its own of. {_REMEDY}")
    for deployment in model_list:
        url = deployment["litellm_params"].get("api_base") or ""
        if _loopback(urlsplit(url).hostname):
            found.append(
                f"llm_models ({deployment['model_name']}): {url} is the container itself. {_REMEDY} "
                "Servers behind tunnels (llm_servers_via: tunnel) need a gateway of the group litellm."
            )
    if settings["own_database"]:
        found += _image_problems("database_", settings["database_image"], settings["database_digest"])
        weak = weakness(database_password)
        if weak:
            found.append(f"litellm_compose_database_password: {weak}. Set it in the vault to at least 32 random characters.")
        if hosts > 1:
            found.append(
                f"{hosts} hosts would each have a database of their own, and a key of one would be unknown to the others. "
                "Set llm_database_url to one for all, leave one host in the group compose, or set litellm_compose_database to false."
            )
    return found


_REMEDY = "Let it listen on an address of the host, and name that or host.docker.internal."


def compose_package(policy: str) -> str:
    """The first package that brings Compose 2, from what `apt-cache policy` says of PACKAGES, or "" where none does."""
    candidates = dict(re.findall(r"^(\S+):\n(?:.*\n)*?\s+Candidate: (?:\d+:)?(\S+)", policy, flags=re.MULTILINE))
    for name in PACKAGES:
        major = re.match(r"(\d+)\.", candidates.get(name, ""))
        if major and int(major[1]) >= 2:
            return name
    return ""
