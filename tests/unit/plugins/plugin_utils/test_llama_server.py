# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils import llama_server

SHA256 = "ab" * 32
KEY = "sk-Vq8kT2wLz5rH9ncE3yUb7"
CHAT: dict[str, t.Any] = {"name": "chat", "ports": "8080-8087", "gpus": "auto", "model": "/srv/models/chat-q4.gguf"}
EMBED: dict[str, t.Any] = {"port": 8090, "model": {"url": "https://models.example.org/embed.gguf?x=1", "sha256": SHA256.upper()}}


def test_a_range_is_a_unit_for_each_port_and_gpu() -> None:
    units = llama_server.servers([CHAT], bind_address="0.0.0.0")
    assert [unit["unit"] for unit in units] == [f"llama-server-{port}" for port in range(8080, 8088)]
    assert [unit["gpu"] for unit in units] == [str(gpu) for gpu in range(8)]
    assert units[3]["environment"] == {
        "CUDA_VISIBLE_DEVICES": "3",
        "LLAMA_ARG_ALIAS": "chat-q4",
        "LLAMA_ARG_CORS_ORIGINS": "localhost",
        "LLAMA_ARG_HOST": "0.0.0.0",
        "LLAMA_ARG_MODEL": "/srv/models/chat-q4.gguf",
        "LLAMA_ARG_OFFLINE": "true",
        "LLAMA_ARG_PORT": "8083",
        "LLAMA_ARG_UI": "false",
    }
    assert (units[3]["name"], units[3]["alias"], units[3]["url"]) == ("chat", "chat-q4", "http://127.0.0.1:8083")


@pytest.mark.parametrize(
    ("entry", "gpus"),
    [
        ({"port": 8080, "gpu": 2}, ["2"]),
        ({"port": 8080, "gpu": "0, 1"}, ["0,1"]),
        ({"ports": "8080-8081", "gpu": 1}, ["1", "1"]),
        ({"ports": "8080-8081", "gpus": ["0,1", "GPU-ab12-cd"]}, ["0,1", "GPU-ab12-cd"]),
        ({"ports": "8080-8081"}, ["", ""]),
    ],
)
def test_gpus(entry: dict[str, t.Any], gpus: list[str]) -> None:
    declared = [{"model": "/srv/m.gguf", **entry}]
    assert llama_server.problems(declared) == []
    units = llama_server.servers(declared, gpu_variable="GGML_VK_VISIBLE_DEVICES")
    assert [unit["gpu"] for unit in units] == gpus
    for unit in units:
        assert unit["environment"].get("GGML_VK_VISIBLE_DEVICES", "") == unit["gpu"]
        # What has no GPU should not look for one.
        assert unit["environment"].get("LLAMA_ARG_DEVICE") == (None if unit["gpu"] else "none")


def test_a_model_to_download_has_its_checksum_in_its_path() -> None:
    (unit,) = llama_server.servers([EMBED], models_dir="/data")
    assert unit["model"] == f"/data/{SHA256[:12]}/embed.gguf"
    assert unit["download"] == {"path": unit["model"], "url": EMBED["model"]["url"], "sha256": SHA256}
    assert unit["alias"] == "embed"
    (unit,) = llama_server.servers([{**EMBED, "model": {**EMBED["model"], "dest": "/data/e.gguf"}}])
    assert unit["download"]["path"] == unit["model"] == "/data/e.gguf"


def test_each_file_is_downloaded_once() -> None:
    part = {"url": "https://models.example.org/embed-00002-of-00002.gguf", "sha256": SHA256, "dest": "/data/part.gguf"}
    assert llama_server.downloads([CHAT, EMBED, {**EMBED, "port": 8091}], "/data", [part, part]) == [
        {"path": f"/data/{SHA256[:12]}/embed.gguf", "url": EMBED["model"]["url"], "sha256": SHA256},
        {"path": "/data/part.gguf", "url": part["url"], "sha256": SHA256},
    ]
    assert llama_server.downloads([CHAT]) == []


def test_settings() -> None:
    entry = {
        **EMBED,
        "alias": "e5",
        "embeddings": True,
        "pooling": "mean",
        "context_size": 8192,
        "parallel": 4,
        "gpu": 0,
        "gpu_layers": "all",
        "threads": 2,
        "flash_attention": True,
        "environment": {"LLAMA_ARG_UBATCH": 1024, "LLAMA_ARG_ENDPOINT_METRICS": True},
        "start_timeout": 1200,
    }
    (unit,) = llama_server.servers([entry], environment={"LLAMA_ARG_UBATCH": 512, "LLAMA_ARG_NUMA": "isolate"})
    values = unit["environment"]
    assert (values["LLAMA_ARG_EMBEDDINGS"], values["LLAMA_ARG_POOLING"]) == ("true", "mean")
    assert (values["LLAMA_ARG_CTX_SIZE"], values["LLAMA_ARG_N_PARALLEL"], values["LLAMA_ARG_THREADS"]) == ("8192", "4", "2")
    assert (values["CUDA_VISIBLE_DEVICES"], values["LLAMA_ARG_N_GPU_LAYERS"]) == ("0", "all")
    assert values["LLAMA_ARG_FLASH_ATTN"] == "on"
    # What is nearer wins.
    assert (values["LLAMA_ARG_UBATCH"], values["LLAMA_ARG_NUMA"], values["LLAMA_ARG_ENDPOINT_METRICS"]) == ("1024", "isolate", "true")
    assert (unit["start_timeout"], "memory_max" in unit) == (1200, False)
    assert llama_server.problems([entry]) == []


def test_arguments_are_quoted_for_a_unit() -> None:
    (unit,) = llama_server.servers([{**EMBED, "extra_arguments": ["--chat-template-kwargs", '{"a": "100 %"}', "--seed", 7]}])
    assert unit["arguments"] == ["--chat-template-kwargs", '{"a": "100 %"}', "--seed", "7"]
    assert unit["command"] == r""" --chat-template-kwargs "{\"a\": \"100 %%\"}" --seed 7"""


@pytest.mark.parametrize(
    ("bind_address", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8090"),
        ("::", "http://127.0.0.1:8090"),
        ("127.0.0.1", "http://127.0.0.1:8090"),
        ("192.0.2.7", "http://192.0.2.7:8090"),
        ("2001:db8::7", "http://[2001:db8::7]:8090"),
    ],
)
def test_where_the_host_reaches_it(bind_address: str, url: str) -> None:
    (unit,) = llama_server.servers([EMBED], bind_address=bind_address)
    assert (unit["url"], unit["environment"]["LLAMA_ARG_HOST"]) == (url, bind_address)


def test_keys_are_by_themselves() -> None:
    declared = [CHAT, {**EMBED, "ports": "8090-8091", "port": None, "api_key": KEY}]
    assert llama_server.keys(declared) == {"llama-server-8090": KEY, "llama-server-8091": KEY}
    assert [unit["has_key"] for unit in llama_server.servers(declared)] == [False] * 8 + [True] * 2
    assert KEY not in str(llama_server.servers(declared))


@pytest.mark.parametrize("declared", [[], [CHAT], [CHAT, EMBED], [CHAT, {**CHAT, "ports": "8090-8097"}], [{**EMBED, "gpu_layers": 0}]])
def test_what_is_well(declared: t.Any) -> None:
    assert llama_server.problems(declared) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gpu_layer": 3}, "gpu_layer is not known. Did you mean gpu_layers?"),
        ({"colour": "red"}, "colour is not known. It may have name, port,"),
        ({"port": None}, "it needs port, or ports"),
        ({"ports": "8080-8081"}, "and not both"),
        ({"port": "8080-8081"}, "port is one port. Use ports for 8080-8081"),
        ({"port": "none"}, "port must be a range of ports"),
        ({"port": None, "ports": "8087-8080"}, "ports has 8087-8080, and a range goes upwards"),
        ({"port": 80}, "may not use those below 1024"),
        ({"gpu": 0, "gpus": "auto"}, "it has both gpu and gpus"),
        ({"gpu": "first"}, "several such as \"0,1\", not 'first'"),
        ({"gpu": True}, "gpu must be the index"),
        ({"gpus": 1}, "gpus must be auto, or a list"),
        ({"port": None, "ports": "8080-8083", "gpus": [0, 1]}, "gpus has 2 entries for 4 ports"),
        ({"gpu_layers": 99}, "gpu_layers needs a GPU"),
        ({"gpu": 0, "gpu_layers": "many"}, "gpu_layers must be a number, auto or all"),
        ({"model": None}, "it has no model"),
        ({"model": "models/x.gguf"}, "model must be an absolute path"),
        ({"model": "/srv/../home/me/x.gguf"}, "sandbox hides /home"),
        ({"model": {"url": "ftp://x/y", "sha256": SHA256}}, "model: url must be an http or https address"),
        ({"model": {"url": "https://x/y.gguf"}}, "model: sha256 must be the checksum of the file"),
        ({"model": {"url": "https://x/y.gguf", "sha256": SHA256, "dest": "/tmp/x"}}, "model: dest is /tmp/x"),
        ({"model": {"url": "https://x/y.gguf", "sha256": SHA256, "sha265": 1}}, "model: sha265 is not known. Did you mean sha256?"),
        ({"alias": "a,b"}, "alias must be one name"),
        ({"context_size": 0}, "context_size must be a whole number from 1 up"),
        ({"threads": True}, "threads must be a whole number"),
        ({"flash_attention": "yes"}, "flash_attention must be one of on, off, auto"),
        ({"pooling": "max"}, "pooling must be one of none, mean"),
        ({"memory_max": "lots"}, "memory_max must be a size"),
        ({"api_key": "sk-1234"}, "api_key cannot be used: it has 7 characters"),
        ({"api_key": f"{KEY},x"}, "api_key cannot be used: it has 1 characters"),
        ({"api_key": ""}, "api_key cannot be used: it is empty"),
        ({"extra_arguments": "--seed 7"}, "extra_arguments must be a list of words"),
        ({"extra_arguments": ["--seed 7"]}, "'--seed 7', which is one word for llama-server"),
        ({"extra_arguments": ["--api-key", KEY]}, "extra_arguments has --api-key: use api_key"),
        ({"extra_arguments": ["--port=1"]}, "extra_arguments has --port: use port"),
        ({"extra_arguments": ["--ssl-key-file", "/x"]}, "the role does not reach the server"),
        ({"environment": {"LLAMA_API_KEY": KEY}}, "environment has LLAMA_API_KEY: use api_key"),
        ({"environment": ["A=1"]}, "environment must be a mapping"),
        ({"environment": {"A B": "1"}}, "no name of a variable"),
        ({"environment": {"A": "1\n2"}}, "a value with a line break"),
    ],
)
def test_what_cannot_work(change: dict[str, t.Any], words: str) -> None:
    found = llama_server.problems([{**EMBED, **change}])
    assert [text for text in found if words in text], found
    assert all(text.startswith("llama_server_servers (") for text in found)
    assert KEY not in str(found)


def test_ports_that_are_taken() -> None:
    found = llama_server.problems([CHAT, {**EMBED, "port": 8081}, {**EMBED, "port": None, "ports": "8086-8088"}])
    assert found == [
        "llama_server_servers (8081): port 8081 is that of llama_server_servers (chat), too. Change one of them.",
        "llama_server_servers (8086-8088): port 8086, 8087 is that of llama_server_servers (chat), too. Change one of them.",
    ]
    (same,) = llama_server.problems([EMBED, EMBED])
    assert "(8090), entry 2: port 8090 is that of llama_server_servers (8090)" in same


def test_two_models_in_one_place() -> None:
    model = {**EMBED["model"], "dest": "/srv/models/m.gguf"}
    assert llama_server.problems([{**EMBED, "model": model}, {**EMBED, "port": 8091, "model": model}]) == []
    (found,) = llama_server.problems([{**EMBED, "model": model}, {**EMBED, "port": 8091, "model": {**model, "sha256": "0" * 64}}])
    assert "where llama_server_servers (8090) has another one" in found


@pytest.mark.parametrize("declared", [None, {}, "8080", [8080]])
def test_what_is_no_list(declared: t.Any) -> None:
    assert llama_server.problems(declared) == ["llama_server_servers must be a list of mappings."]


def test_what_is_beside_the_servers() -> None:
    found = llama_server.problems([EMBED], files=[{"url": "https://x/mmproj.gguf", "sha256": SHA256}], environment={"LLAMA_ARG_PORT": 1})
    assert found == [
        "llama_server_environment: it has LLAMA_ARG_PORT: use port, which the role knows of.",
        "llama_server_files (entry 1): dest must be an absolute path, not None.",
    ]
    assert llama_server.problems([EMBED], files="x") == ["llama_server_files must be a list of mappings."]
