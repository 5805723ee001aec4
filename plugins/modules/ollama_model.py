#!/usr/bin/python
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: All models of an Ollama host
version_added: 0.1.0
author: The selfhosted.llm contributors (@selfhosted)
description:
  - Makes the models of one Ollama server what the list says, in one call. Models are pulled, made from another model with
    settings of their own, loaded, and removed.
  - While models are pulled or loaded, a line per host and interval shows how far it is.
  - An interrupted pull is tried again and goes on from where it stopped.
options:
  models:
    description: The models.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model, such as V(phi3:3.8b). Without a tag V(:latest) is meant.
        type: str
        required: true
      state:
        description: Whether the server should have it.
        type: str
        choices: [present, absent]
        default: present
      from:
        description:
          - Make the model from this one, as C(FROM) in a Modelfile does, instead of pulling it. The base is pulled if it is missing.
          - What is not set here is inherited from the base.
          - The model is made again only when it differs from what this would make, which includes a base that was pulled anew.
        type: str
      system:
        description: System prompt of a model with O(models[].from).
        type: str
      template:
        description: Prompt template of a model with O(models[].from).
        type: str
      parameters:
        description: >-
          Parameters of a model with O(models[].from), such as C(num_ctx), C(temperature) or C(stop), which may be a list.
          Values of a type that Ollama would accept here and refuse when it loads the model are refused at once.
        type: dict
      license:
        description: Licence text, or a list of them, added to those of the base of a model with O(models[].from).
        type: raw
      messages:
        description: Messages that every conversation with a model with O(models[].from) begins with.
        type: list
        elements: dict
        suboptions:
          role:
            description: Who speaks.
            type: str
            choices: [system, user, assistant]
            required: true
          content:
            description: What is said.
            type: str
            required: true
      insecure:
        description: Pull from a registry over HTTP, or with a certificate that cannot be verified.
        type: bool
        default: false
      preload:
        description: Load the model into memory when it is not loaded. Loading alone does not count as a change.
        type: bool
        default: false
      keep_alive:
        description: >-
          How long a model loaded by O(models[].preload) stays loaded when it is not used, as a duration such as V(30m) or a number of
          seconds; V(-1) keeps it. The default is the server's.
        type: str
  exclusive:
    description: Remove models that are not in O(models). What a listed model is made from stays.
    type: bool
    default: false
  expect_gpu:
    description: Whether loaded models should be in GPU memory as a whole. Looked at for the listed models that are loaded at the end.
    type: bool
    default: false
  gpu_policy:
    description: What to do when O(expect_gpu) is not met.
    type: str
    choices: [warn, fail]
    default: warn
  url:
    description: Base URL of the server. It is called directly, never through a proxy.
    type: str
    default: http://127.0.0.1:11434
  ca_path:
    description: PEM bundle of the CAs to trust, where O(url) is HTTPS.
    type: path
  timeout:
    description: Seconds without any sign of life from the server after which a call is given up. A pull may take as long as it moves.
    type: int
    default: 600
  retries:
    description: How often an interrupted pull is tried again.
    type: int
    default: 3
extends_documentation_fragment: selfhosted.llm.progress
attributes:
  check_mode:
    description: Can run in check mode and return what would change. A server that does not run yet counts as having no models.
    support: full
  diff_mode:
    description: Returns the models, and the parts of custom models, before and after.
    support: full
  action:
    description: Has a corresponding action plugin, which shows the progress. Without it, or with C(async), the module runs in silence.
    support: full
notes:
  - When there is nothing to do, the module runs once. Otherwise the action plugin runs it in the background of the host and polls,
    so that a lost connection does not end a pull. Where background tasks are not possible it runs in the foreground.
seealso:
  - name: Ollama API
    description: Reference of the API used.
    link: https://docs.ollama.com/api
"""

EXAMPLES = r"""
- name: Models of this host
  selfhosted.llm.ollama_model:
    models:
      - name: phi3:3.8b
        preload: true
        keep_alive: "-1"
      - name: nomic-embed-text
      - name: phi3-terse
        from: phi3:3.8b
        system: You answer in one sentence.
        parameters:
          num_ctx: 8192
          temperature: 0.2
          stop: ["END", "STOP"]
      - name: llama2
        state: absent
    expect_gpu: true

- name: These and no others
  selfhosted.llm.ollama_model:
    models:
      - name: phi3:3.8b
    exclusive: true
"""

RETURN = r"""
models:
  description: What happened to each model, the listed ones and those that O(exclusive) removed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name as the server lists it.
      type: str
      sample: phi3:3.8b
    action:
      description: What was done, or would be in check mode.
      type: str
      choices: [none, pulled, created, updated, removed, failed]
    digest:
      description: Digest of the model's manifest, if the server has it now.
      type: str
    size:
      description: Bytes on disk, if the server has it now.
      type: int
    seconds:
      description: How long it took.
      type: float
loaded:
  description: The listed models that are in memory at the end.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    size:
      description: Bytes in memory.
      type: int
    size_vram:
      description: Bytes of these in GPU memory.
      type: int
    vram_share:
      description: Share in GPU memory, from 0 to 1.
      type: float
      sample: 1.0
    context_length:
      description: Context length it was loaded with.
      type: int
    expires_at:
      description: When the server unloads it.
      type: str
to_load:
  description: Models that were loaded, or would be in check mode.
  returned: success
  type: list
  elements: str
version:
  description: Version of the server. Empty when it does not run, which only check mode accepts.
  returned: success
  type: str
  sample: 0.32.15
errors:
  description: Each failure, with the layer it happened in.
  returned: failure
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model, if it is about one.
      type: str
    layer:
      description: Layer at fault.
      type: str
      choices: [refused, dns, timeout, tls, protocol, auth, model, backend, gpu, declaration]
    message:
      description: What went wrong.
      type: str
    status:
      description: HTTP status, if there was one. A pull that fails after its first line has status 200.
      type: int
"""

import json
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.selfhosted.llm.plugins.module_utils import http, ollama
from ansible_collections.selfhosted.llm.plugins.module_utils.progress import Progress

_CUSTOM_ONLY = ("system", "template", "parameters", "license", "messages")


def refused(name: str, reason: str) -> http.ApiError:
    return http.ApiError("declaration", f"{name}: {reason}")


class Host:
    """The models of one server and what is done to them."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.client = http.ApiClient(
            self.params["url"], ca_path=self.params["ca_path"], timeout=float(self.params["timeout"]), use_proxy=False
        )
        self.progress = Progress(self.params["progress_file"])
        self.version = ""
        self.present: dict[str, dict[str, t.Any]] = {}
        self.results: list[dict[str, t.Any]] = []
        self.errors: list[dict[str, t.Any]] = []
        self.before: dict[str, t.Any] = {}
        self.after: dict[str, t.Any] = {}
        self.changed = False

    # The declaration

    def declared(self) -> list[dict[str, t.Any]]:
        models: list[dict[str, t.Any]] = []
        seen: set[str] = set()
        for item in self.params["models"]:
            model = dict(item)
            name = model["name"] = ollama.normalise_name(model["name"])
            if ollama.name_key(name) in seen:
                raise refused(name, "listed twice")
            seen.add(ollama.name_key(name))
            if model["from"] is None:
                extra = [part for part in _CUSTOM_ONLY if model[part] is not None]
                if extra and model["state"] == "present":
                    raise refused(name, f"{', '.join(extra)} can be set only with `from`, the model it is made from")
            elif ollama.name_key(model["from"]) == ollama.name_key(name):
                raise refused(name, "made from itself; give the derived model a name of its own")
            try:
                model["parameters"], unknown = ollama.typed_parameters(model["parameters"] or {})
            except ValueError as exc:
                raise refused(name, str(exc)) from exc
            if isinstance(model["license"], str):
                # Not type=list, which would cut a text at its commas.
                model["license"] = [model["license"]]
            if unknown:
                self.module.warn(f"{name}: Ollama ignores parameters it does not know: {', '.join(unknown)}")
            models.append(model)
        return models

    # The server

    def connect(self) -> None:
        try:
            self.version = str(self.client.request("GET", "/api/version").json().get("version", ""))
        except http.ApiError as exc:
            if not (self.module.check_mode and exc.layer == http.REFUSED):
                raise
            self.module.warn(f"No Ollama server at {self.params['url']} yet: it is taken to have no models.")
            return
        self.list_present()

    def list_present(self) -> None:
        models = self.client.request("GET", "/api/tags").json().get("models") or []
        self.present = {ollama.name_key(model["name"]): model for model in models}

    def has(self, name: str) -> bool:
        return ollama.name_key(name) in self.present

    def show(self, name: str) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.client.request("POST", "/api/show", {"model": name}).json())

    def follow(self, path: str, payload: dict[str, t.Any], name: str, step: str) -> None:
        """A streamed call to its end. Raises ApiError where the stream ends with an error, or without success."""
        state = ollama.PullState()
        what = f"{step} {name}"
        with self.client.stream("POST", path, payload) as stream:
            for row in stream:
                if not row:
                    continue
                try:
                    event = json.loads(row)
                except ValueError as exc:
                    raise http.ApiError(http.PROTOCOL, f"{what}: a line that is not JSON: {row[:200]!r}") from exc
                if event.get("error"):
                    raise ollama.stream_error(str(event["error"]), what)
                if event.get("status") == "success":
                    return
                done, total = state.add(event)
                status = str(event.get("status", ""))
                downloading = bool(event.get("digest")) or not total
                self.progress.update(name, step if downloading else status, done if downloading else 0, total if downloading else 0)
        raise http.ApiError(http.PROTOCOL, f"{what}: the answer broke off")

    def pull(self, name: str, insecure: bool) -> None:
        payload: dict[str, t.Any] = {"model": name}
        if insecure:
            payload["insecure"] = True
        for attempt in range(self.params["retries"] + 1):
            try:
                self.follow("/api/pull", payload, name, "pulling")
                break
            except http.ApiError as exc:
                if attempt == self.params["retries"] or not ollama.worth_a_retry(exc):
                    raise
                self.progress.update(name, "interrupted, trying again")
                time.sleep(2.0 * 2**attempt)

    # What a model needs

    def record(self, name: str, action: str, started: float | None = None) -> None:
        seconds = round(time.monotonic() - started, 1) if started is not None else 0.0
        self.results.append({"name": name, "action": action, "seconds": seconds})
        if action not in ("none", "failed"):
            self.changed = True

    def remove(self, entry: dict[str, t.Any]) -> None:
        name, started = entry["name"], time.monotonic()
        if not self.module.check_mode:
            self.client.request("DELETE", "/api/delete", {"model": name})
        self.before[name], self.after[name] = "present", "absent"
        del self.present[ollama.name_key(name)]
        self.record(name, "removed", started)

    def ensure_pulled(self, name: str, insecure: bool) -> bool:
        if self.has(name):
            return False
        if not self.module.check_mode:
            self.pull(name, insecure)
        self.before[name], self.after[name] = "absent", "present"
        self.present[ollama.name_key(name)] = {"name": name}
        return True

    def ensure(self, model: dict[str, t.Any]) -> None:
        name, started = model["name"], time.monotonic()
        if model["state"] == "absent":
            if self.has(name):
                self.remove(self.present[ollama.name_key(name)])
            else:
                self.record(name, "none")
        elif model["from"] is None:
            self.record(name, "pulled" if self.ensure_pulled(name, model["insecure"]) else "none", started)
        else:
            self.record(name, self.ensure_custom(model), started)

    def ensure_custom(self, model: dict[str, t.Any]) -> str:
        name, base = model["name"], ollama.normalise_name(model["from"])
        fresh = self.ensure_pulled(base, model["insecure"])
        differences: dict[str, tuple[t.Any, t.Any]] = {}
        # In check mode a base that would only be pulled cannot be looked at: its derived model would be made anew.
        comparable = not (fresh and self.module.check_mode)
        if self.has(name):
            if comparable:
                differences = ollama.custom_differences(model, self.show(name), self.show(base))
                if not differences:
                    return "none"
            else:
                differences = {"from": ("", base)}
        if not self.module.check_mode:
            self.follow("/api/create", ollama.create_payload(model), name, "creating")
        if self.has(name):
            self.before[name] = {part: values[0] for part, values in differences.items()}
            self.after[name] = {part: values[1] for part, values in differences.items()}
            return "updated"
        self.before[name], self.after[name] = "absent", "present"
        self.present[ollama.name_key(name)] = {"name": name}
        return "created"

    # Memory

    def running(self) -> dict[str, dict[str, t.Any]]:
        models = self.client.request("GET", "/api/ps").json().get("models") or []
        return {ollama.name_key(model["name"]): model for model in models}

    def load(self, model: dict[str, t.Any]) -> None:
        name = model["name"]
        self.progress.update(name, "loading")
        payload: dict[str, t.Any] = {"model": name, "stream": False}
        if model["keep_alive"] is not None:
            payload["keep_alive"] = ollama.keep_alive(model["keep_alive"])
        capabilities = self.show(name).get("capabilities") or []
        if "embedding" in capabilities and "completion" not in capabilities:
            del payload["stream"]
            self.client.request("POST", "/api/embed", dict(payload, input="load"))
        else:
            self.client.request("POST", "/api/generate", payload)

    def memory(self, models: list[dict[str, t.Any]]) -> tuple[list[str], list[dict[str, t.Any]]]:
        """Loads what should be loaded. The names of those, and all listed models that are loaded now."""
        listed = [model for model in models if model["state"] == "present"]
        if not self.version or not (self.params["expect_gpu"] or any(model["preload"] for model in listed)):
            return [model["name"] for model in listed if model["preload"]] if not self.version else [], []
        running = self.running()
        to_load = [model for model in listed if model["preload"] and ollama.name_key(model["name"]) not in running]
        if to_load and not self.module.check_mode:
            for model in to_load:
                self.guarded(self.load, model)
            running = self.running()
        loaded = []
        for model in listed:
            entry = running.get(ollama.name_key(model["name"]))
            if entry:
                share = ollama.vram_share(entry)
                facts = {key: entry.get(key) for key in ("size", "size_vram", "context_length", "expires_at")}
                loaded.append(dict(facts, name=model["name"], vram_share=share))
                if self.params["expect_gpu"] and share < 1:
                    self.gpu_missed(model["name"], share)
        return [model["name"] for model in to_load], loaded

    def gpu_missed(self, name: str, share: float) -> None:
        message = (
            f"{name}: {share * 100:.0f} % of it is in GPU memory, the rest runs on the CPU."
            " See that the driver is loaded and the device open to the service (its journal names the GPUs found),"
            " that the model and its context fit, and that no other model is loaded beside it."
        )
        if self.params["gpu_policy"] == "fail":
            self.errors.append({"model": name, "layer": "gpu", "message": message, "status": None})
        else:
            self.module.warn(message)

    # The whole

    def guarded(self, step: t.Callable[[dict[str, t.Any]], None], model: dict[str, t.Any]) -> None:
        """One model's failure does not keep the others from their turn, unless the server is gone."""
        try:
            step(model)
        except http.ApiError as exc:
            self.errors.append(dict(exc.as_dict(), model=model["name"]))
            self.record(model["name"], "failed")
            if exc.status is None and exc.layer in (http.REFUSED, http.DNS, http.TLS):
                raise

    def run(self) -> dict[str, t.Any]:
        models = self.declared()
        self.connect()
        # Space is made before it is needed, but nothing unlisted goes before the listed is there.
        for model in sorted(models, key=lambda model: (model["state"] != "absent", model["from"] is not None)):
            self.guarded(self.ensure, model)
        if self.params["exclusive"] and not self.errors:
            keep = {ollama.name_key(name) for model in models for name in (model["name"], model["from"]) if name}
            for key, entry in sorted(self.present.items()):
                if key not in keep:
                    self.guarded(self.remove, entry)
        if self.changed and not self.module.check_mode:
            self.list_present()
        to_load, loaded = ([], []) if self.errors else self.memory(models)
        return {"to_load": to_load, "loaded": loaded}

    def facts(self) -> dict[str, t.Any]:
        """What is known at any time, also after a failure."""
        for result in self.results:
            entry = self.present.get(ollama.name_key(result["name"]), {})
            result.update(digest=entry.get("digest"), size=entry.get("size"))
        return {
            "changed": self.changed,
            "version": self.version,
            "models": self.results,
            "diff": {"before": self.before, "after": self.after},
        }


def main() -> None:
    messages = {
        "role": {"type": "str", "required": True, "choices": ["system", "user", "assistant"]},
        "content": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "from": {"type": "str"},
                    "system": {"type": "str"},
                    "template": {"type": "str"},
                    "parameters": {"type": "dict"},
                    "license": {"type": "raw"},
                    "messages": {"type": "list", "elements": "dict", "options": messages},
                    "insecure": {"type": "bool", "default": False},
                    "preload": {"type": "bool", "default": False},
                    "keep_alive": {"type": "str"},
                },
            },
            "exclusive": {"type": "bool", "default": False},
            "expect_gpu": {"type": "bool", "default": False},
            "gpu_policy": {"type": "str", "choices": ["warn", "fail"], "default": "warn"},
            "url": {"type": "str", "default": "http://127.0.0.1:11434"},
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 600},
            "retries": {"type": "int", "default": 3},
            "progress_interval": {"type": "int", "default": 5},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    rest: dict[str, t.Any] = {}
    try:
        rest = host.run()
    except http.ApiError as exc:
        if not host.errors:
            host.errors.append(dict(exc.as_dict(), model=None))
    if host.errors:
        # Each message names its model or the URL that was called.
        module.fail_json(msg="; ".join(error["message"] for error in host.errors), errors=host.errors, **host.facts())
    module.exit_json(**rest, **host.facts())


if __name__ == "__main__":
    main()
