# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.compose import (
    compose_package,
    compose_problems,
    compose_project,
    compose_revisions,
)

SETTINGS: dict[str, t.Any] = {
    "project": "llm",
    "directory": "/opt/litellm-compose",
    "image": "registry.example:5000/litellm:v1.2.3",
    "digest": "",
    "user": "65534:65534",
    "memory": "2g",
    "cpus": 0,
    "host": "0.0.0.0",
    "port": 4001,
    "networks": [],
    "database": True,
    "own_database": True,
    "database_image": "postgres:16.1",
    "database_digest": "",
    "database_user": "999:999",
    "database_memory": "",
    "database_cpus": 1.5,
    "workers": 1,
    "ca_bundles": ["", ""],
    "start_timeout": 120,
    "stop_timeout": 60,
}
FILES = {"config.yaml": "model_list: []", "start.py": "pass"}
ENVIRONMENT = {"HOME": "/var/lib/litellm", "NUM_WORKERS": 1, "DISABLE_SCHEMA_UPDATE": "true", "PLAIN": "a$b"}
SECRETS = {"LITELLM_MASTER_KEY": "sk-secret-of-secrets", "DATABASE_URL": "postgresql://u:hidden@db/litellm", "LITELLM_SALT_KEY": "salt"}
GOOD: dict[str, t.Any] = {
    "model_list": [{"model_name": "a", "litellm_params": {"api_base": "http://gpu-1:8080/v1"}}],
    "database_password": "Hw5rT8yUq2LpX9vBn3KdZs7McJ4gFe6A",
    "database_url": "",
    "hosts": 1,
    "redis_host": "",
}


def project(**changes: t.Any) -> dict[str, t.Any]:
    return compose_project({**SETTINGS, **changes}, FILES, ENVIRONMENT, SECRETS)


def test_the_services() -> None:
    made = project()
    assert list(made["services"]) == ["litellm-proxy", "litellm-migrate", "litellm-db"]
    proxy, migrate, database = made["services"].values()
    assert proxy["depends_on"] == {
        "litellm-migrate": {"condition": "service_completed_successfully"},
        "litellm-db": {"condition": "service_healthy"},
    }
    assert proxy["ports"] == ["0.0.0.0:4001:4000"]
    assert proxy["environment"]["DISABLE_SCHEMA_UPDATE"] == "true"
    assert "DISABLE_SCHEMA_UPDATE" not in migrate["environment"]
    assert "ports" not in migrate
    assert migrate["command"][-1] == "--skip_server_startup"
    assert migrate["restart"] == "no"
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/database_password"
    assert database["networks"] == ["database"]
    assert made["networks"]["database"] == {"internal": True}


@pytest.mark.parametrize("name", ["litellm-proxy", "litellm-migrate", "litellm-db"])
def test_every_container_is_guarded(name: str) -> None:
    service = project()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert service["pids_limit"] > 0


def test_no_secret_is_in_it() -> None:
    text = str(project())
    assert not [value for value in SECRETS.values() if value in text]


def test_values_are_literal_and_those_of_another_host_are_left_out() -> None:
    environment = project()["services"]["litellm-proxy"]["environment"]
    assert environment["PLAIN"] == "a$$b"
    assert environment["NUM_WORKERS"] == "1"
    assert "HOME" not in environment


def test_without_a_database() -> None:
    made = project(database=False, own_database=False)
    assert list(made["services"]) == ["litellm-proxy"]
    assert "depends_on" not in made["services"]["litellm-proxy"]
    assert "volumes" not in made
    assert list(made["secrets"]) == ["litellm"]


def test_with_a_database_elsewhere() -> None:
    made = project(own_database=False)
    assert list(made["services"]) == ["litellm-proxy", "litellm-migrate"]
    assert "depends_on" not in made["services"]["litellm-migrate"]
    assert "database" not in made["networks"]


def test_digests_networks_and_bundles() -> None:
    made = project(digest="sha256:" + "a" * 64, networks=["edge"], ca_bundles=["/ca.pem", "/ca.pem"], host="::1", memory="", cpus=2)
    proxy = made["services"]["litellm-proxy"]
    assert proxy["image"] == "registry.example:5000/litellm:v1.2.3@sha256:" + "a" * 64
    assert proxy["networks"] == ["default", "database", "edge"]
    assert made["networks"]["edge"] == {"external": True}
    assert proxy["volumes"] == ["./gateway:/etc/litellm:ro", "/ca.pem:/ca.pem:ro"]
    assert proxy["ports"] == ["[::1]:4001:4000"]
    assert proxy["cpus"] == 2.0
    assert "mem_limit" not in proxy


def test_a_revision_tells_what_is_another() -> None:
    before = compose_revisions(project())
    assert compose_revisions(project()) == before

    def changed(files: dict[str, str], secrets: dict[str, str], environment: t.Any = ENVIRONMENT, **settings: t.Any) -> set[str]:
        after = compose_revisions(compose_project({**SETTINGS, **settings}, files, environment, secrets))
        return {name for name in before if before[name] != after[name]}

    assert changed({**FILES, "config.yaml": "other"}, SECRETS) == {"litellm-proxy"}
    assert changed(FILES, {**SECRETS, "LITELLM_MASTER_KEY": "other"}) == {"litellm-proxy"}
    assert changed(FILES, {**SECRETS, "DATABASE_URL": "other"}) == {"litellm-proxy", "litellm-migrate"}
    assert changed(FILES, SECRETS, image="x:1") == {"litellm-proxy", "litellm-migrate"}
    assert changed(FILES, SECRETS, database_image="postgres:16.2") == {"litellm-db"}
    assert changed(FILES, SECRETS, port=1) == {"litellm-proxy"}
    assert changed(FILES, SECRETS, {**ENVIRONMENT, "LITELLM_LOG": "INFO", "NUM_WORKERS": 2}, workers=2) == {"litellm-proxy"}
    assert changed(FILES, SECRETS, {**ENVIRONMENT, "PLAIN": "other"}) == {"litellm-proxy", "litellm-migrate"}


def test_nothing_is_wrong() -> None:
    assert compose_problems(SETTINGS, **GOOD) == []


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({"image": "litellm"}, {}, "another image tomorrow"),
        ({"image": "registry:5000/litellm"}, {}, "another image tomorrow"),
        ({"image": "litellm:main-latest"}, {}, "another image tomorrow"),
        ({"image": "litellm:main-stable"}, {}, "another image tomorrow"),
        ({"image": "litellm:v1.82.7"}, {}, "malicious code"),
        ({"image": "litellm:v1@sha256:1"}, {}, "Put that into litellm_compose_digest"),
        ({"digest": "sha256:abc"}, {}, "litellm_compose_digest must be"),
        ({"database_image": "postgres"}, {}, "litellm_compose_database_image 'postgres' is another"),
        ({"user": "0:0"}, {}, "litellm_compose_user"),
        ({"database_user": "postgres"}, {}, "litellm_compose_database_user"),
        ({"project": "A b"}, {}, "litellm_compose_project"),
        ({"directory": "/opt"}, {}, "litellm_compose_directory"),
        ({}, {"database_password": "password-password-1"}, "litellm_compose_database_password"),
        ({}, {"hosts": 2}, "llm_database_url"),
        ({"own_database": False}, {"database_url": "postgresql://u:p@127.0.0.1/x"}, "loopback"),
        ({}, {"redis_host": "localhost"}, "redis is said"),
        ({}, {"redis_host": "::1"}, "redis is said"),
    ],
)
def test_a_problem(settings: dict[str, t.Any], more: dict[str, t.Any], words: str) -> None:
    found = compose_problems({**SETTINGS, **settings}, **{**GOOD, **more})
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.0.1.1"])
def test_a_tunnel_ends_where_no_container_is(host: str) -> None:
    models = [{"model_name": "a", "litellm_params": {"api_base": f"http://{host}:8080/v1"}}]
    found = compose_problems(SETTINGS, **{**GOOD, "model_list": models})
    assert "llm_models (a)" in found[0]
    assert "llm_servers_via: tunnel" in found[0]


def test_a_stable_tag_with_a_digest_is_good() -> None:
    assert compose_problems({**SETTINGS, "image": "litellm:main-stable", "digest": "sha256:" + "0" * 64}, **GOOD) == []


POLICY = (
    "{0}:\n  Installed: (none)\n  Candidate: {1}\n  Version table:\n     {1} 500\n        500 http://mirror bookworm/main amd64 Packages\n"
)


@pytest.mark.parametrize(
    ("policy", "package"),
    [
        ("", ""),
        (POLICY.format("docker-compose", "1.29.2-3"), ""),
        (POLICY.format("docker-compose", "2.26.1-4"), "docker-compose"),
        (POLICY.format("docker-compose-plugin", "(none)") + POLICY.format("docker-compose", "2.26.1-4"), "docker-compose"),
        (POLICY.format("docker-compose-v2", "2.24.6+ds1-0ubuntu1") + POLICY.format("docker-compose", "1.29.2-6"), "docker-compose-v2"),
        (
            POLICY.format("docker-compose-plugin", "5:2.40.0-1~debian.12~bookworm") + POLICY.format("docker-compose", "1.29.2-3"),
            "docker-compose-plugin",
        ),
    ],
)
def test_the_package(policy: str, package: str) -> None:
    assert compose_package(policy) == package
