# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.selfhosted.llm.plugins.plugin_utils.models import Catalogue, ModelsError, check_models, matching_hosts

GROUPS = {
    "all": ["api", "gpu-1", "gpu-2", "gpu-3", "web"],
    "llm": ["gpu-1", "gpu-2", "gpu-3"],
    "big": ["gpu-3", "gpu-1"],
    "litellm": ["api"],
    "ungrouped": [],
}
URLS = {host: f"http://{host}:11434" for host in GROUPS["llm"]}
Entry = dict[str, t.Any]


def ollama(name: str, model: str = "phi3:3.8b", **more: t.Any) -> Entry:
    return {"name": name, "ollama": {"model": model}, **more}


def servers(name: str, *urls: t.Any, **more: t.Any) -> Entry:
    return {"name": name, "servers": list(urls) or ["http://gpu-1:8080/v1"], **more}


def provider(name: str, **more: t.Any) -> Entry:
    return {"name": name, "provider": "huggingface/org/model", **more}


def catalogue(*entries: Entry) -> Catalogue:
    return Catalogue(list(entries), GROUPS, URLS)


def places(*entries: Entry) -> dict[str, list[str]]:
    """The deployments of each model, in order."""
    found: dict[str, list[str]] = {}
    for item in catalogue(*entries).model_list():
        found.setdefault(item["model_name"], []).append(item["model_info"]["id"].partition("@")[2])
    return found


# What is sound


def test_everything_that_is_allowed() -> None:
    models: list[Entry] = [
        {
            "name": "phi3-3.8b",
            "aliases": ["default", "org/phi3:latest"],
            "mode": "chat",
            "fallbacks": ["coder"],
            "timeout": 60,
            "stream_timeout": 2.5,
            "rpm": 10,
            "tpm": 1000,
            "max_parallel_requests": 4,
            "max_budget": 1.5,
            "budget_duration": "1d",
            "params": {"temperature": 0},
            "info": {"max_tokens": 4096},
            "ollama": {
                "model": "phi3:3.8b",
                "hosts": "llm",
                "from": "phi3",
                "system": "You are kind.",
                "template": "{{ .Prompt }}",
                "parameters": {"num_ctx": 4096},
                "license": ["MIT"],
                "messages": [{"role": "user", "content": "hi"}],
                "preload": True,
                "keep_alive": -1,
                "insecure": False,
            },
        },
        {
            "name": "coder",
            "model": "upstream",
            "api_key": "k",
            "servers": [
                "http://a:8080/v1",
                {"url": "https://b/v1", "name": "b", "model": "m", "api_key": "k2", "rpm": 1, "tpm": 2, "max_parallel_requests": 3},
            ],
        },
        {"name": "remote", "provider": "openai/gpt", "api_base": "https://api/v1", "api_key": "k3"},
    ]
    assert check_models(models) == models
    assert len(Catalogue(models, GROUPS, URLS).model_list()) == 3 + 2 + 1


@pytest.mark.parametrize("mode", ["chat", "completion", "embedding", "rerank", "image_generation", "audio_transcription", "audio_speech"])
def test_modes(mode: str) -> None:
    (item,) = Catalogue([servers("a", mode=mode)]).model_list()
    assert item["model_info"]["mode"] == mode


# What is not: each message names the variable, the entry, the key and the remedy


ONE_OF = "exactly one of ollama, servers, provider must say where the model is served, found"
MISTAKES: list[tuple[t.Any, str]] = [
    (None, "llm_models must be a list with at least one model. Declare it in the inventory's group_vars/all"),
    ([], "llm_models must be a list with at least one model."),
    ("phi3", "llm_models must be a list of models, each beginning with `- name:`, not a string"),
    ({"phi3": {}}, "llm_models must be a list of models, each beginning with `- name:`, not a mapping"),
    (["phi3"], "llm_models[0] must be a mapping with a name, not a string"),
    ([ollama("a"), {"ollama": {"model": "x"}}], "llm_models[1].name must be a name such as phi3-3.8b, not None"),
    ([ollama("")], "llm_models[0].name must be a name such as phi3-3.8b, not ''"),
    ([ollama("a b")], "llm_models[0].name must be a name such as phi3-3.8b, not 'a b'"),
    ([ollama("a\n")], "llm_models[0].name must be a name"),
    ([ollama(3)], "llm_models[0].name must be a name such as phi3-3.8b, not 3"),  # type: ignore[arg-type]
    ([{"name": "a"}], f"llm_models (a): {ONE_OF} none of them"),
    ([ollama("a", servers=["http://x"])], f"llm_models (a): {ONE_OF} ollama and servers"),
    (
        [ollama("a", alias=["b"])],
        "llm_models (a): unknown key 'alias'. Known are: access_groups, aliases, budget_duration, fallbacks, info",
    ),
    ([ollama("a", api_key="k")], "llm_models (a): unknown key 'api_key'. Known are:"),
    ([ollama("a", aliases="b")], "llm_models (a): aliases must be a list, not a string"),
    ([ollama("a", aliases=["b", {}])], "llm_models (a): aliases must be a list of names, {} is none"),
    ([ollama("a", aliases=[""])], "llm_models (a): aliases must be a list of names, '' is none"),
    ([ollama("a", fallbacks=[["b"]])], "llm_models (a): fallbacks must be a list of names, ['b'] is none"),
    ([ollama("a", access_groups=[1])], "llm_models (a): access_groups must be a list of names, 1 is none"),
    ([ollama("a", listed="none")], "llm_models (a): listed must be all or aliases, not 'none'"),
    ([ollama("a", listed="aliases")], "llm_models (a): only aliases are listed, and it has none. Give it aliases"),
    ([ollama("a", access_groups=["b"]), ollama("b")], "llm_models (a): the access group 'b' is also the name of a model"),
    ([ollama("a", fallbacks=["b"]), ollama("b", access_groups=["g"])], "llm_models (a): its fallback 'b' is limited to some keys"),
    (
        [ollama("a", fallbacks=["b"], access_groups=["g", "h"]), ollama("b", access_groups=["g"])],
        "llm_models (a): its fallback 'b' is limited to some keys",
    ),
    ([ollama("a", rpm="10")], "llm_models (a): rpm must be a whole number, not a string"),
    ([ollama("a", rpm=True)], "llm_models (a): rpm must be a whole number, not true or false"),
    ([ollama("a", timeout="1m")], "llm_models (a): timeout must be a number, not a string"),
    ([ollama("a", mode="chats")], "llm_models (a): mode 'chats' is unknown. Known are: chat, completion, embedding"),
    ([{"name": "a", "ollama": "phi3"}], "llm_models (a): ollama must be a mapping, not a string"),
    ([{"name": "a", "ollama": {}}], "llm_models (a): ollama.model is missing, the name to pull, such as phi3:3.8b"),
    ([{"name": "a", "ollama": {"model": ""}}], "llm_models (a): ollama.model is missing"),
    ([{"name": "a", "ollama": {"model": "x", "host": "y"}}], "llm_models (a).ollama: unknown key 'host'. Known are: from, hosts,"),
    ([{"name": "a", "ollama": {"model": "x", "preload": "yes"}}], "llm_models (a).ollama: preload must be true or false, not a string"),
    (
        [{"name": "a", "ollama": {"model": "x", "keep_alive": 1.5}}],
        "llm_models (a).ollama: keep_alive must be a string or a whole number, not a number",
    ),
    ([{"name": "a", "servers": []}], "llm_models (a): servers is empty. List at least one URL, or remove the model"),
    ([{"name": "a", "servers": "http://x"}], "llm_models (a): servers must be a list, not a string"),
    ([servers("a", 8080)], "llm_models (a): an entry of servers must be a URL or a mapping with url, not a whole number"),
    ([servers("a", {"name": "x"})], "llm_models (a).servers: url is missing beside name. Give the base URL"),
    ([servers("a", {"url": "http://x", "key": "y"})], "llm_models (a).servers: unknown key 'key'. Known are: api_key, max_parallel"),
    ([servers("a", "gpu-1:8080")], "llm_models (a).servers: url must be one such as http://gpu-1:8080/v1"),
    ([servers("a", "ftp://gpu-1")], "llm_models (a).servers: url must be one such as http://gpu-1:8080/v1"),
    ([servers("a", "http://gpu-1:99999/v1")], "llm_models (a).servers: url must be one such as"),
    ([servers("a", "http://2001:db8::1:8080/v1")], "llm_models (a).servers: url must be one such as"),
    ([servers("a", "http:///v1")], "llm_models (a).servers: url must be one such as"),
    ([servers("a", "http://[fd00::1")], "llm_models (a).servers: url must be one such as"),
    (
        [{"name": "a", "provider": "openai"}],
        "llm_models (a): provider must be LiteLLM's provider/model, such as huggingface/org/model, not",
    ),
    ([ollama("a"), ollama("a")], "llm_models (a): the name 'a' is already taken by a. Rename one of them"),
    ([ollama("a"), ollama("b", aliases=["a"])], "llm_models (b): the name 'a' is already taken by a. Rename one of them"),
    ([ollama("a", aliases=["x"]), ollama("b", aliases=["x"])], "llm_models (b): the name 'x' is already taken by a."),
    ([ollama("a", aliases=["a"])], "llm_models (a): the name 'a' is already taken by a."),
    (
        [ollama("a", fallbacks=["b"])],
        "llm_models (a): the fallback 'b' is not the name of a declared model. Declare it, or correct fallbacks",
    ),
    ([ollama("a", fallbacks=["a"])], "llm_models (a): a model cannot be its own fallback. Take 'a' out of fallbacks"),
    ([ollama("a", aliases=["x"], fallbacks=["x"])], "llm_models (a): a model cannot be its own fallback. Take 'x' out of fallbacks"),
    (
        [{"name": "a", "ollama": {"model": "x", "hosts": "nowhere"}}],
        "llm_models (a): no host of group llm matches the pattern 'nowhere'. Add hosts to the group, or correct ollama.hosts",
    ),
    ([{"name": "a", "ollama": {"model": "x", "hosts": "litellm"}}], "llm_models (a): no host of group llm matches the pattern 'litellm'"),
    (
        [servers("a", "http://x/v1", "http://x/v2")],
        "llm_models (a): two servers have the same place 'a@x'. Give each a name of its own in servers",
    ),
]


@pytest.mark.parametrize(("models", "message"), MISTAKES)
def test_mistakes(models: t.Any, message: str) -> None:
    with pytest.raises(ModelsError) as caught:
        Catalogue(models, GROUPS, URLS)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "entry",
    [
        provider("a", api_key=["sk-secret"]),
        servers("a", {"url": 1, "api_key": "sk-secret"}),
        servers("a", {"api_key": "sk-secret"}),
        servers("a", ["sk-secret"]),
        servers("a", {"url": "http://x", "api_key": {"sk-secret": 1}}),
    ],
)
def test_no_message_repeats_a_key(entry: Entry) -> None:
    with pytest.raises(ModelsError) as caught:
        catalogue(entry)
    assert "sk-secret" not in str(caught.value)


# Patterns of hosts


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("llm", ["gpu-1", "gpu-2", "gpu-3"]),
        ("all", ["api", "gpu-1", "gpu-2", "gpu-3", "web"]),
        ("gpu-2", ["gpu-2"]),
        ("gpu-*", ["gpu-1", "gpu-2", "gpu-3"]),
        ("gpu-[13]", ["gpu-1", "gpu-3"]),
        ("gpu-2:gpu-1", ["gpu-2", "gpu-1"]),
        ("gpu-1, gpu-1", ["gpu-1"]),
        ("big", ["gpu-3", "gpu-1"]),
        ("b*", ["gpu-1", "gpu-3"]),
        ("llm:!gpu-2", ["gpu-1", "gpu-3"]),
        ("!big:llm", ["gpu-2"]),
        ("llm:&big", ["gpu-1", "gpu-3"]),
        ("all:&llm:!big", ["gpu-2"]),
        ("!llm", ["api", "web"]),
        ("&big", ["gpu-1", "gpu-3"]),
        ("nothing", []),
        ("GPU-1", []),
        ("ungrouped", []),
    ],
)
def test_matching_hosts(pattern: str, hosts: list[str]) -> None:
    assert matching_hosts(pattern, GROUPS) == hosts


def test_hosts_of_a_model() -> None:
    found = places({"name": "a", "ollama": {"model": "x", "hosts": "all:!gpu-2"}})
    # Hosts that match and are no Ollama hosts do not count.
    assert found == {"a": ["gpu-1", "gpu-3"]}


def test_the_order_is_the_inventorys_however_the_pattern_is_written() -> None:
    first, second = (
        {"name": name, "ollama": {"model": "x", "hosts": hosts}} for name, hosts in (("a", "gpu-3,gpu-1"), ("b", "gpu-1,gpu-3"))
    )
    assert places(first, second) == {"a": ["gpu-1", "gpu-3"], "b": ["gpu-3", "gpu-1"]}


# Homes


def test_homes_rotate() -> None:
    assert places(*(ollama(name) for name in "abcd")) == {
        "a": ["gpu-1", "gpu-2", "gpu-3"],
        "b": ["gpu-2", "gpu-3", "gpu-1"],
        "c": ["gpu-3", "gpu-1", "gpu-2"],
        "d": ["gpu-1", "gpu-2", "gpu-3"],
    }


def test_models_of_other_kinds_do_not_disturb_the_rotation() -> None:
    found = places(
        ollama("a"), provider("x"), provider("y"), servers("s", "http://1", "http://2"), ollama("b"), servers("u", "http://1", "http://2")
    )
    assert (found["a"][0], found["b"][0]) == ("gpu-1", "gpu-2")
    assert (found["s"], found["u"]) == (["1", "2"], ["2", "1"])


# The model list


def test_ollama_deployments() -> None:
    chat, embedding, completion = (catalogue(ollama("m", mode=mode)).model_list() for mode in ("chat", "embedding", "completion"))
    assert chat[0] == {
        "model_name": "m",
        "litellm_params": {"model": "ollama_chat/phi3:3.8b", "api_base": "http://gpu-1:11434"},
        "model_info": {"id": "m@gpu-1", "mode": "chat"},
    }
    assert embedding[0]["litellm_params"] == {"model": "openai/phi3:3.8b", "api_base": "http://gpu-1:11434/v1", "api_key": "unused"}
    assert completion[0]["litellm_params"]["model"] == "ollama/phi3:3.8b"


def test_servers_by_url_and_by_mapping() -> None:
    found = Catalogue(
        [
            servers(
                "m",
                "http://gpu-1:8080/v1/",
                "http://user:pass@gpu-2:8080/v1",
                {"url": "http://gpu-1:8081/v1", "name": "second", "model": "other", "rpm": 5},
                {"url": "http://gpu-3/v1", "api_key": "its-own"},
                model="upstream",
                api_key="shared",
                rpm=100,
                timeout=30,
            )
        ]
    )
    items = found.model_list()
    assert [item["model_info"]["id"] for item in items] == ["m@gpu-1:8080", "m@gpu-2:8080", "m@second", "m@gpu-3"]
    assert items[0]["litellm_params"] == {
        "model": "openai/upstream",
        "api_base": "http://gpu-1:8080/v1",
        "api_key": "os.environ/LLM_KEY_M_GPU_1_8080",
        "extra_headers": {"Connection": "close"},
        "rpm": 100,
        "timeout": 30,
    }
    assert items[2]["litellm_params"]["model"] == "openai/other"
    assert items[2]["litellm_params"]["rpm"] == 5
    assert found.secrets() == {
        "LLM_KEY_M_GPU_1_8080": "shared",
        "LLM_KEY_M_GPU_2_8080": "shared",
        "LLM_KEY_M_SECOND": "shared",
        "LLM_KEY_M_GPU_3": "its-own",
    }


def test_a_server_without_model_and_key() -> None:
    found = Catalogue([servers("m")])
    # The OpenAI client refuses to do without a key.
    params = found.model_list()[0]["litellm_params"]
    assert (params["model"], params["api_base"], params["api_key"]) == ("openai/m", "http://gpu-1:8080/v1", "unused")
    assert found.secrets() == {}


@pytest.mark.parametrize(("url", "kept"), [("http://gpu-1:8080/v1", False), ("https://gpu-1.example/v1", True)])
def test_a_connection_to_a_server_is_used_once_where_a_new_one_is_cheap(url: str, kept: bool) -> None:
    params = Catalogue([servers("m", url)]).model_list()[0]["litellm_params"]
    assert ("extra_headers" not in params) == kept


def test_providers() -> None:
    found = Catalogue([provider("hf", api_key="k", api_base="https://api"), provider("free")])
    first, second = found.model_list()
    assert first["litellm_params"] == {
        "model": "huggingface/org/model",
        "api_base": "https://api",
        "api_key": "os.environ/LLM_KEY_HF_HUGGINGFACE",
    }
    assert first["model_info"]["id"] == "hf@huggingface"
    assert second["litellm_params"] == {"model": "huggingface/org/model"}
    assert found.secrets() == {"LLM_KEY_HF_HUGGINGFACE": "k"}


def test_limits_params_and_info() -> None:
    limits = {"timeout": 1, "stream_timeout": 2.0, "rpm": 3, "tpm": 4, "max_parallel_requests": 5, "max_budget": 6, "budget_duration": "7d"}
    (item,) = Catalogue([provider("m", params={"temperature": 0, "rpm": 33}, info={"max_tokens": 1}, **limits)]).model_list()
    assert item["litellm_params"] == {**limits, "model": "huggingface/org/model", "temperature": 0, "rpm": 33}
    assert item["model_info"] == {"id": "m@huggingface", "mode": "chat", "max_tokens": 1}


def test_no_key_is_in_the_model_list() -> None:
    found = Catalogue([provider("a", api_key="sk-secret-1"), servers("b", {"url": "http://x", "api_key": "sk-secret-2"})])
    assert "sk-secret" not in str(found.model_list())
    assert sorted(found.secrets().values()) == ["sk-secret-1", "sk-secret-2"]


def test_two_keys_of_one_name() -> None:
    same = Catalogue([provider("a-b", api_key="1"), provider("a.b", api_key="1")])
    assert same.secrets() == {"LLM_KEY_A_B_HUGGINGFACE": "1"}
    with pytest.raises(ModelsError) as caught:
        Catalogue([provider("a-b", api_key="sk-one"), provider("a.b", api_key="sk-two")]).secrets()
    assert str(caught.value) == (
        "llm_models (a.b@huggingface): its api_key would be called LLM_KEY_A_B_HUGGINGFACE, as is another one with another value. "
        "Rename the model or its server"
    )


# The other consumers


def test_aliases_and_names() -> None:
    found = catalogue(ollama("a", aliases=["x", "y"]), ollama("b", mode="embedding", aliases=["z"]), ollama("c"))
    assert found.aliases() == {"x": "a", "y": "a", "z": "b"}
    assert found.names() == ["a", "x", "y", "b", "z", "c"]
    assert found.names("chat") == ["a", "x", "y", "c"]
    assert found.names("embedding") == ["b", "z"]
    assert found.names("rerank") == []


def test_a_name_that_is_not_listed_is_nowhere_but_in_the_ids() -> None:
    found = catalogue(ollama("inner", aliases=["x", "y"], listed="aliases"), ollama("b", aliases=["z"], fallbacks=["inner"]))
    assert {item["model_name"] for item in found.model_list()} == {"x", "b"}
    assert found.model_list()[0]["model_info"]["id"] == "inner@gpu-1"
    assert found.names() == ["x", "y", "b", "z"]
    assert found.aliases() == {"y": "x", "z": "b"}
    assert found.expected()[0] == {"name": "x", "mode": "chat", "aliases": ["y"], "backends": ["inner@gpu-1", "inner@gpu-2", "inner@gpu-3"]}
    assert [name for item in found.fallbacks() for name in item] == ["x", "y", "b", "z"]
    assert found.fallbacks()[2]["b"][-1] == "x", "a fallback may be named by its inner name"


def test_models_for_some_keys() -> None:
    found = catalogue(
        ollama("a", aliases=["x"]),
        ollama("b", access_groups=["adult"]),
        ollama("c", access_groups=["adult", "staff"], fallbacks=["a"]),
        ollama("d", access_groups=["adult"], fallbacks=["b"]),
    )
    assert found.open_names() == ["a", "x"]
    assert found.access_groups() == {"adult": ["b", "c", "d"], "staff": ["c"]}
    groups = {item["model_name"]: item["model_info"].get("access_groups") for item in found.model_list()}
    assert groups == {"a": None, "b": ["adult"], "c": ["adult", "staff"], "d": ["adult"]}
    assert catalogue(ollama("a")).open_names() == []


def test_fallbacks_go_through_the_other_hosts_to_other_models() -> None:
    found = catalogue(ollama("a"), ollama("b", aliases=["x"], fallbacks=["p", "a"]), provider("p"))
    # The home of "b" is gpu-2: it was tried first, so it comes last. A model with one place and no other model has none.
    others = ["b@gpu-3", "b@gpu-1", "b@gpu-2", "p", "a"]
    assert found.fallbacks() == [{"a": ["a@gpu-2", "a@gpu-3", "a@gpu-1"]}, {"b": others}, {"x": others}]
    assert Catalogue([provider("p", fallbacks=["q"]), provider("q", fallbacks=[])]).fallbacks() == [{"p": ["q"]}]


def test_expected() -> None:
    assert catalogue(ollama("c", aliases=["x"]), ollama("a"), servers("b", mode="embedding")).expected() == [
        {"name": "c", "mode": "chat", "aliases": ["x"], "backends": ["c@gpu-1", "c@gpu-2", "c@gpu-3"]},
        {"name": "a", "mode": "chat", "aliases": [], "backends": ["a@gpu-1", "a@gpu-2", "a@gpu-3"]},
        {"name": "b", "mode": "embedding", "aliases": [], "backends": ["b@gpu-1:8080"]},
    ]


def test_ollama_models_of_a_host() -> None:
    found = catalogue(
        {"name": "a", "ollama": {"model": "phi3", "preload": True, "parameters": {"num_ctx": 1}}},
        {"name": "b", "ollama": {"model": "big", "hosts": "big"}},
        {"name": "c", "ollama": {"model": "phi3", "hosts": "gpu-2", "preload": True, "parameters": {"num_ctx": 1}}},
        servers("s"),
        provider("p"),
    )
    phi3 = {"name": "phi3", "preload": True, "parameters": {"num_ctx": 1}}
    assert found.ollama_models("gpu-1") == [phi3, {"name": "big"}]
    assert found.ollama_models("gpu-2") == [phi3]
    assert found.ollama_models("api") == []


def test_one_ollama_model_with_two_meanings() -> None:
    found = catalogue(
        {"name": "a", "ollama": {"model": "phi3", "system": "be kind", "hosts": "gpu-1,gpu-2"}},
        {"name": "b", "ollama": {"model": "phi3", "system": "be rude", "hosts": "gpu-2,gpu-3"}},
    )
    assert [len(found.ollama_models(host)) for host in ("gpu-1", "gpu-3")] == [1, 1]
    with pytest.raises(
        ModelsError, match=r"llm_models \(b\): the Ollama model 'phi3' is declared twice with different options\. Give both"
    ):
        found.ollama_models("gpu-2")


def test_without_ollama_neither_groups_nor_urls_are_needed() -> None:
    assert Catalogue([servers("a"), provider("b")]).names() == ["a", "b"]
    with pytest.raises(ModelsError, match="no host of group llm"):
        Catalogue([ollama("a")])
