#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves in one call that an OpenAI-compatible API does what was declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: openai_api_check
short_description: Prove that an OpenAI-compatible API answers, balances and refuses as declared
version_added: 0.1.0
author:
  - The selfhosted.llm contributors (@selfhosted-llm)
description:
  - Exercises an OpenAI-compatible API, such as a LiteLLM gateway, in one call. It compares the model list with the declaration,
    chats, streams, embeds, tries a wrong key, no key and an unknown model, and puts each model that has several backends under
    concurrent load to see what share every backend gets.
  - Of a LiteLLM gateway with a database (O(database)) it also proves what virtual keys promise. It makes short-lived keys with O(api_key),
    tries them when they are new, blocked, deleted, expired, used for another model, above their rate limit and out of budget, looks whether
    spend is recorded, and removes them all, also after a failure.
  - Each check that fails names the layer at fault.
  - When the API cannot be reached at all, one check fails and all others are skipped with that reason.
attributes:
  check_mode:
    description: Can run in check mode and return what it finds without changing anything.
    support: full
    details:
      - The module leaves nothing behind. In check mode it makes neither backend work nor keys, so C(chat), C(stream), C(embeddings),
        C(keys) and C(load) are skipped, with that reason.
  diff_mode:
    description: Returns what has changed, or would.
    support: none
options:
  url:
    description: Address of the API, with or without C(/v1).
    type: str
    required: true
  api_key:
    description:
      - The key that must be accepted. Without one the API is taken to be open, and the refusal of keys is skipped.
      - With O(database) it must be the master key, or another that may make keys.
    type: str
  refused_keys:
    description: Keys that must be refused, such as the one before a rotation. Part of the group C(auth).
    type: list
    elements: str
    default: []
  refused_code:
    description:
      - The C(code) that the error of each of O(refused_keys) must have, with HTTP 401, such as C(invalid_api_key). Empty where any refusal
        will do.
    type: str
    default: ""
  accepted_keys:
    description:
      - Other keys that must be accepted, such as test keys of a custom authentication. Each must see its models, get an answer from one of
        them, and none from any other. Part of the group C(auth).
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: The key.
        type: str
        required: true
      models:
        description: All names that the key lists. Without it these are the names of O(models).
        type: list
        elements: str
  ca_path:
    description: PEM file with the certificate authorities to trust instead of the system's.
    type: path
  validate_certs:
    description: Whether to verify the certificate of an C(https) address.
    type: bool
    default: true
  connect_to:
    description:
      - Address, or C(address:port), to connect to instead of the host of O(url), as for a name that DNS does not know yet, or for one of
        several machines behind one name. The name stays that of O(url) for the certificate and the server.
    type: str
  headers:
    description:
      - Further headers of every request to O(url), such as those that a proxy before it wants. Their values are not shown.
    type: dict
    default: {}
  timeout:
    description:
      - Seconds to wait between two pieces of an answer, and for a stream to end. A model that must first be loaded answers late.
    type: float
    default: 120.0
  models:
    description: What the API is to offer. An empty list is an error, as nothing would be proven.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name clients ask for.
        type: str
        required: true
      mode:
        description: What the model does. Only C(chat) and C(embedding) are called; the others are looked for in the list.
        type: str
        choices: [chat, completion, embedding, rerank, image_generation, audio_transcription, audio_speech]
        default: chat
      aliases:
        description: Other names for the model, which are listed and must answer, too.
        type: list
        elements: str
        default: []
      backends:
        description:
          - The deployments that serve the model, as the API names them in the header C(x-litellm-model-id), else in
            C(x-litellm-model-api-base). Answers from any other are a failure.
        type: list
        elements: str
        default: []
  expect_exact_models:
    description: Whether the API may list nothing but the declared names and aliases.
    type: bool
    default: true
  checks:
    description:
      - Which groups of checks to run. That the API answers is always checked. C(keys) is for an API with O(database).
    type: list
    elements: str
    choices: [models, auth, unknown_model, chat, stream, embeddings, keys, load]
    default: [models, auth, unknown_model, chat, stream, embeddings, keys, load]
  max_tokens:
    description: Limit for the length of each answer.
    type: int
    default: 32
  load:
    description:
      - The load under which the distribution over the backends is measured. Chat models are streamed from, so that the time to the
        first token is measured as well. As many requests as run at a time are sent ahead and not counted, so that every backend
        has the model loaded.
      - Where a backend got too little, up to three more loads follow, each twice as big, until every backend has had its share under one of
        them. LiteLLM counts late what it has sent, so requests reach the backends in lumps; and where answers come faster than the gateway
        asks, few are in flight, and least-busy rightly stays with the backends that are listed first.
    type: dict
    default: {}
    suboptions:
      requests:
        description:
          - Number of requests to each model. V(0) is for no load.
          - By default 20 for each backend, five times as many as run at a time, and at least 40. With so few that a fair backend could
            have got none, the shares are not judged.
        type: int
      concurrency:
        description:
          - Number of requests at a time; at least two for each backend are used.
          - By default four for each backend and each of O(load.processes), from 8 to 128.
        type: int
      processes:
        description: How many processes at O(url) choose backends without knowing of the requests of the others.
        type: int
        default: 1
      seconds:
        description: Stop sending after this time; a slow model is judged by fewer requests.
        type: float
        default: 120.0
      models:
        description: Names of the models to load; by default those that have two or more backends.
        type: list
        elements: str
        default: []
  min_share:
    description:
      - The part of its fair share (one divided by the number of backends) that each backend must get under one of the
        loads. Least-busy rightly gives a slow host less than a fast one.
    type: float
    default: 0.25
  database:
    description:
      - Given where the API is a LiteLLM gateway with a database; V({}) is enough. Without it the group C(keys) is left out.
      - The keys have aliases that begin with C(selfhosted-llm-check-). Should the module be killed, they expire after a quarter of an hour,
        and the next run removes them.
    type: dict
    suboptions:
      peers:
        description: Further gateways on the same database, by name their address. A key made at O(url) must be good there as well.
        type: dict
        default: {}
      counters:
        description:
          - How many processes at O(url) count rate limits for themselves, so that each lets in what a limit allows. V(1) where Redis
            shares the counters, else the number of workers.
        type: int
        default: 1
      shared_limits:
        description: Whether O(database.peers) count rate limits together with O(url), through Redis.
        type: bool
        default: false
      record_timeout:
        description: Seconds until the spend of a request must be in the database. LiteLLM writes every few seconds.
        type: float
        default: 90.0
  report_only:
    description: Return the results without failing when a check failed, so that a report can be written first. Look at C(ok).
    type: bool
    default: false
seealso:
  - module: selfhosted.llm.verify_report
"""

EXAMPLES = r"""
- name: Prove that the gateway serves what was declared
  selfhosted.llm.openai_api_check:
    url: http://gateway:4000
    api_key: "{{ litellm_proxy_master_key }}"
    models:
      - name: phi3-3.8b
        aliases: [default]
        backends: [phi3-3.8b@llm01, phi3-3.8b@llm02]
      - name: embed
        mode: embedding

- name: Prove what virtual keys promise, on a gateway that shares database and Redis with another one
  selfhosted.llm.openai_api_check:
    url: http://gateway1:4000
    api_key: "{{ litellm_proxy_master_key }}"
    models: [{name: phi3-3.8b}, {name: embed, mode: embedding}]
    checks: [keys]
    database:
      peers: {gateway2: "http://gateway2:4000"}
      shared_limits: true

- name: Call a name that DNS does not know yet, and try keys that a company's own backend knows
  selfhosted.llm.openai_api_check:
    url: https://api.example.com
    connect_to: 192.0.2.10
    api_key: "{{ litellm_proxy_master_key }}"
    models: [{name: chat-sfw}, {name: chat-nsfw}]
    checks: [auth, stream]
    accepted_keys:
      - {key: "{{ vault_test_key }}", models: [chat-sfw]}
    refused_keys: ["{{ vault_expired_test_key }}"]
    refused_code: invalid_api_key

- name: Only look who gets in, and keep the results
  selfhosted.llm.openai_api_check:
    url: https://gateway.example.com
    ca_path: /etc/ssl/certs/company.pem
    api_key: "{{ litellm_proxy_master_key }}"
    models: [{name: phi3-3.8b}]
    checks: [auth]
    report_only: true
  register: result
"""

RETURN = r"""
ok:
  description: Whether no check failed, and at least one passed.
  returned: always
  type: bool
  sample: true
url:
  description: The base URL that was called.
  returned: always
  type: str
  sample: http://gateway:4000/v1
client:
  description: What made the calls.
  returned: always
  type: str
  sample: openai_api_check
server_version:
  description: The version LiteLLM gives in its answers; null for others.
  returned: always
  type: str
  sample: 1.106.2
listed_models:
  description: What the API listed.
  returned: always
  type: list
  elements: str
counts:
  description: How many checks passed, failed and were skipped.
  returned: always
  type: dict
  sample: {passed: 12, failed: 0, skipped: 1}
checks:
  description: Each check in the order of execution.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: What was checked.
      type: str
    group:
      description: The group it belongs to, C(connection) or one of the option O(checks).
      type: str
    status:
      description: C(passed), C(failed) or C(skipped).
      type: str
    layer:
      description: >-
        Where a failed check failed: C(refused), C(dns), C(timeout), C(tls), C(auth), C(model), C(backend) or C(protocol).
      type: str
    message:
      description: What was found, or the reason for skipping.
      type: str
    seconds:
      description: How long it took.
      type: float
    details:
      description: What was measured.
      type: dict
load:
  description: The measurements under load, one entry for each model.
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model.
      type: str
    requests:
      description: Number of requests sent.
      type: int
    concurrency:
      description: Number of requests at a time.
      type: int
    answered:
      description: Number of requests answered in full.
      type: int
    seconds:
      description: Duration of the load.
      type: float
    rate:
      description: Answers per second.
      type: float
    latency:
      description: Count, mean, min, p50, p95, p99 and max, in seconds.
      type: dict
    ttft:
      description: The same of the time to the first token.
      type: dict
    samples:
      description: Up to 400 of the latencies, sorted.
      type: list
      elements: float
    first_load:
      description: Who had got too little under the first load, in sentences; only where there were more loads, of which this is the last.
      type: list
      elements: str
    loads:
      description: How many loads there were; only where there was more than one.
      type: int
    backends:
      description: >-
        For each backend its C(requests), C(share), C(in_flight) (mean number of open requests), C(latency), C(ttft), C(samples), and
        whether it was C(declared).
      type: list
      elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils.checklist import failure_message
from ansible_collections.selfhosted.llm.plugins.module_utils.http import ApiError, split_address
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_auth import AcceptedKey, AuthPlan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_checks import GROUPS, Checker, Plan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_keys import KeyPlan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_load_checks import LoadPlan
from ansible_collections.selfhosted.llm.plugins.module_utils.openai_model import CALLED_MODES, Model

MODES = ["chat", "completion", "embedding", "rerank", "image_generation", "audio_transcription", "audio_speech"]


def bad_options(params: dict[str, t.Any]) -> str | None:
    """Why the options cannot prove anything, or None."""
    names = [name for model in params["models"] for name in [model["name"]] + model["aliases"]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names:
        return "models is empty: there is nothing to prove"
    if repeated:
        return f"models declares these names more than once: {', '.join(repeated)}"
    if not params["checks"]:
        return "checks is empty: there is nothing to prove"
    unknown = [name for name in params["load"]["models"] if name not in [model["name"] for model in params["models"]]]
    if unknown:
        return f"load.models names models that are not declared: {', '.join(unknown)}"
    silent = [
        model["name"] for model in params["models"] if model["name"] in params["load"]["models"] and model["mode"] not in CALLED_MODES
    ]
    if silent:
        return f"load.models names models that are neither chat nor embedding: {', '.join(silent)}"
    for name, value, least in (
        ("max_tokens", params["max_tokens"], 1),
        ("load.requests", params["load"]["requests"], 0),
        ("load.concurrency", params["load"]["concurrency"], 1),
        ("load.processes", params["load"]["processes"], 1),
        ("database.counters", (params["database"] or {"counters": 1})["counters"], 1),
    ):
        if value is not None and value < least:
            return f"{name} must be at least {least}, not {value}"
    for name, seconds in (("timeout", params["timeout"]), ("load.seconds", params["load"]["seconds"])):
        if seconds <= 0:
            return f"{name} must be more than 0"
    if params["connect_to"]:
        try:
            split_address(params["connect_to"], 443)
        except ApiError as exc:
            return f"connect_to: {exc.message}"
    if not 0 <= params["min_share"] <= 1:
        return f"min_share must be between 0 and 1, not {params['min_share']:g}"
    return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "api_key": {"type": "str", "no_log": True},
            "refused_keys": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "refused_code": {"type": "str", "default": ""},
            "accepted_keys": {
                "type": "list",
                "elements": "dict",
                "default": [],
                # The list itself must not be one of secrets, or the names of its models would be hidden wherever they appear.
                "no_log": False,
                "options": {
                    "key": {"type": "str", "required": True, "no_log": True},
                    "models": {"type": "list", "elements": "str"},
                },
            },
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "connect_to": {"type": "str"},
            "headers": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "float", "default": 120.0},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "mode": {"type": "str", "choices": MODES, "default": "chat"},
                    "aliases": {"type": "list", "elements": "str", "default": []},
                    "backends": {"type": "list", "elements": "str", "default": []},
                },
            },
            "expect_exact_models": {"type": "bool", "default": True},
            "checks": {"type": "list", "elements": "str", "choices": GROUPS, "default": GROUPS},
            "max_tokens": {"type": "int", "default": 32, "no_log": False},
            "load": {
                "type": "dict",
                "default": {},
                "options": {
                    "requests": {"type": "int"},
                    "concurrency": {"type": "int"},
                    "processes": {"type": "int", "default": 1},
                    "seconds": {"type": "float", "default": 120.0},
                    "models": {"type": "list", "elements": "str", "default": []},
                },
            },
            "min_share": {"type": "float", "default": 0.25},
            "database": {
                "type": "dict",
                "options": {
                    "peers": {"type": "dict", "default": {}},
                    "counters": {"type": "int", "default": 1},
                    "shared_limits": {"type": "bool", "default": False},
                    "record_timeout": {"type": "float", "default": 90.0},
                },
            },
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    problem = bad_options(params)
    if problem:
        module.fail_json(msg=problem)
    plan = Plan(
        models=[Model(spec) for spec in params["models"]],
        groups=params["checks"],
        exact=params["expect_exact_models"],
        max_tokens=params["max_tokens"],
        load=LoadPlan(**params["load"]),
        min_share=params["min_share"],
        free_only=module.check_mode,
        auth=AuthPlan(params["refused_keys"], params["refused_code"], [AcceptedKey(**entry) for entry in params["accepted_keys"]]),
        keys=KeyPlan(**params["database"]) if params["database"] is not None else None,
    )
    result = Checker(
        params["url"],
        params["api_key"],
        plan,
        params["ca_path"],
        params["timeout"],
        params["validate_certs"],
        params["connect_to"],
        {name: str(value) for name, value in params["headers"].items()},
    ).run()
    if not result["ok"]:
        message = failure_message(result["checks"])
        if not params["report_only"]:
            module.fail_json(msg=message, changed=False, **result)
        module.exit_json(msg=message, changed=False, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
