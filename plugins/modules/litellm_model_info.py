#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_model_info
short_description: Models that a LiteLLM gateway offers
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Lists the models of a LiteLLM gateway by the names that clients ask for, aliases among them, with the deployments behind each and what a
    token costs there. Changes nothing, and calls no model.
extends_documentation_fragment:
  - selfhosted.llm.litellm
options:
  names:
    description: Only these models. A name that the gateway does not offer is an error.
    type: list
    elements: str
attributes:
  check_mode:
    description: Changes nothing, in check mode and without.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
notes:
  - Works without a database, too.
seealso:
  - module: selfhosted.llm.litellm_key
"""

EXAMPLES = r"""
- name: Learn what the gateway offers
  selfhosted.llm.litellm_model_info:
    url: http://127.0.0.1:4000
    master_key: "{{ litellm_proxy_master_key }}"
  register: offered

- name: Expect that tokens of the model count
  ansible.builtin.assert:
    that: offered.models[0].input_cost_per_token > 0
"""

RETURN = r"""
models:
  description: The models, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What clients ask for.
      type: str
      sample: phi3-3.8b
    mode:
      description: How it is called.
      type: str
      sample: chat
    input_cost_per_token:
      description: What a token of a question costs at its first deployment; empty where the gateway does not know.
      type: float
    output_cost_per_token:
      description: What a token of an answer costs at its first deployment; empty where the gateway does not know.
      type: float
    deployments:
      description: Where it is served. Those of an alias are the model's.
      type: list
      elements: dict
      contains:
        id:
          description: ID of the deployment.
          type: str
          sample: phi3-3.8b@llm01
        model:
          description: Provider and name there.
          type: str
          sample: ollama_chat/phi3:3.8b
        api_base:
          description: Its address, if it has one.
          type: str
        from_database:
          description: Whether it was added through the API or the dashboard, not by the configuration.
          type: bool
errors:
  description: The failure, with the layer it happened in.
  returned: failure
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model, if it is about one.
      type: str
    layer:
      description: Layer at fault.
      type: str
      choices: [refused, dns, timeout, tls, protocol, auth, model, backend, database, declaration]
    message:
      description: What went wrong.
      type: str
    status:
      description: HTTP status, if there was one.
      type: int
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http as api
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_api import connect, connection_spec
from ansible_collections.selfhosted.llm.plugins.module_utils.litellm_reconcile import RefusedError, fail


def describe(groups: t.Sequence[dict[str, t.Any]], deployments: t.Sequence[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    behind: dict[str, list[dict[str, t.Any]]] = {}
    for entry in deployments:
        params, info = entry.get("litellm_params") or {}, entry.get("model_info") or {}
        behind.setdefault(str(entry.get("model_name")), []).append(
            {
                "id": info.get("id"),
                "model": params.get("model"),
                "api_base": params.get("api_base"),
                "from_database": bool(info.get("db_model")),
            }
        )
    found = {}
    for group in groups:
        name = str(group.get("model_group"))
        found[name] = {
            "name": name,
            "mode": group.get("mode"),
            "input_cost_per_token": group.get("input_cost_per_token"),
            "output_cost_per_token": group.get("output_cost_per_token"),
            "deployments": behind.get(name, []),
        }
    return [found[name] for name in sorted(found)]


def main() -> None:
    module = AnsibleModule(
        argument_spec={**connection_spec(), "names": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    names = module.params["names"]
    try:
        gateway = connect(module.params)
        models = describe(gateway.get("/model_group/info").get("data") or [], gateway.get("/v1/model/info").get("data") or [])
        if names is not None:
            offered = {model["name"] for model in models}
            for name in names:
                if name not in offered:
                    raise RefusedError(name, f"the gateway does not offer it. It has {', '.join(sorted(offered)) or 'no models'}")
            models = [model for model in models if model["name"] in names]
    except (RefusedError, api.ApiError) as exc:
        fail(module, exc)
        return
    module.exit_json(changed=False, models=models)


if __name__ == "__main__":
    main()
