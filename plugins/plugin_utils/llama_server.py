# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""llama_server_servers: what each entry means for its units, and what of it cannot work.

A setting goes to llama-server by its variable (LLAMA_ARG_…), so that an argument list, which every user of a host can read, has only
what the operator put there.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import typing as t

from ansible_collections.selfhosted.llm.plugins.module_utils.download import SHA256, base_name
from ansible_collections.selfhosted.llm.plugins.module_utils.systemd import quote_argument
from ansible_collections.selfhosted.llm.plugins.plugin_utils.ports import port_list
from ansible_collections.selfhosted.llm.plugins.plugin_utils.secrets import weakness

Entry = t.Mapping[str, t.Any]

VARIABLE = "llama_server_servers"
MODELS_DIR = "/var/lib/llama-server/models"

# Options that are one variable of llama-server each.
_SETTINGS = {
    "context_size": "LLAMA_ARG_CTX_SIZE",
    "parallel": "LLAMA_ARG_N_PARALLEL",
    "gpu_layers": "LLAMA_ARG_N_GPU_LAYERS",
    "threads": "LLAMA_ARG_THREADS",
    "flash_attention": "LLAMA_ARG_FLASH_ATTN",
    "pooling": "LLAMA_ARG_POOLING",
}
ATTRIBUTES = (
    "name",
    "port",
    "ports",
    "gpu",
    "gpus",
    "model",
    "alias",
    "embeddings",
    *_SETTINGS,
    "api_key",
    "start_timeout",
    "memory_max",
    "extra_arguments",
    "environment",
)
FILE_ATTRIBUTES = ("url", "sha256", "dest")

# What has an option of its own, or would keep the role from knowing how the server answers. None: there is no option.
_RESERVED: dict[str, str | None] = {
    "LLAMA_ARG_HOST": "llama_server_bind_address",
    "LLAMA_ARG_PORT": "port",
    "LLAMA_ARG_MODEL": "model",
    "LLAMA_ARG_ALIAS": "alias",
    "LLAMA_API_KEY": "api_key",
    "LLAMA_ARG_API_PREFIX": None,
    "LLAMA_ARG_SSL_KEY_FILE": None,
    "LLAMA_ARG_SSL_CERT_FILE": None,
    "--host": "llama_server_bind_address",
    "--port": "port",
    "--model": "model",
    "-m": "model",
    "--alias": "alias",
    "-a": "alias",
    "--api-key": "api_key",
    "--api-prefix": None,
    "--ssl-key-file": None,
    "--ssl-cert-file": None,
}
_GPU = re.compile(r"(\d+|(GPU|MIG)-[\w-]+)(,(\d+|(GPU|MIG)-[\w-]+))*\Z")
# The service's sandbox has none of these.
_HIDDEN = re.compile(r"/(home|root|run/user|tmp|var/tmp)(/|\Z)")


def _words(value: t.Any) -> str:
    """Values as llama-server takes them; YAML reads on and off as booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _text(value: t.Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ports(entry: Entry) -> list[int]:
    return port_list(entry["ports"] if entry.get("ports") is not None else entry["port"])


def _gpus(entry: Entry, ports: t.Sequence[int]) -> list[str]:
    """What each port's server sees, "" for none: one index, or several of them separated by commas."""
    if entry.get("gpus") == "auto":
        return [str(position) for position in range(len(ports))]
    if entry.get("gpus") is not None:
        return [str(gpu).replace(" ", "") for gpu in entry["gpus"]]
    return ["" if entry.get("gpu") is None else str(entry["gpu"]).replace(" ", "")] * len(ports)


def _download(model: t.Any, models_dir: str) -> dict[str, str] | None:
    """What has to be downloaded for a model. Its default path has the checksum in it, so that the former model stays for a way back."""
    if not isinstance(model, dict):
        return None
    sha256 = str(model["sha256"]).strip().lower()
    path = model.get("dest") or posixpath.join(models_dir, sha256[:12], base_name(model["url"]))
    return {"path": path, "url": model["url"], "sha256": sha256}


def _alias(entry: Entry, path: str) -> str:
    return str(entry.get("alias") or posixpath.basename(path).removesuffix(".gguf"))


def _url(bind_address: str, port: int) -> str:
    """Where this host reaches the server."""
    address = "127.0.0.1" if bind_address in ("0.0.0.0", "::", "localhost") else bind_address  # noqa: S104 (a comparison)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _environment(entry: Entry, base: dict[str, str], gpu: str, gpu_variable: str, further: Entry) -> dict[str, str]:
    values = {
        **base,
        # The gateway is the interface; and a page in somebody's browser has no business here.
        "LLAMA_ARG_UI": "false",
        "LLAMA_ARG_CORS_ORIGINS": "localhost",
        # What it serves is said here, and never fetched by itself.
        "LLAMA_ARG_OFFLINE": "true",
        **{variable: _words(entry[name]) for name, variable in _SETTINGS.items() if entry.get(name) is not None},
    }
    if entry.get("embeddings"):
        values["LLAMA_ARG_EMBEDDINGS"] = "true"
    if gpu:
        values[gpu_variable] = gpu
    else:
        values["LLAMA_ARG_DEVICE"] = "none"
    values.update({name: _text(value) for name, value in {**further, **(entry.get("environment") or {})}.items()})
    return values


def servers(
    declared: t.Any,
    models_dir: str = MODELS_DIR,
    gpu_variable: str = "CUDA_VISIBLE_DEVICES",
    bind_address: str = "127.0.0.1",
    environment: Entry | None = None,
) -> list[dict[str, t.Any]]:
    """One mapping for each unit. No secret is in it: Ansible shows what it loops over."""
    found = []
    for entry in declared or []:
        ports = _ports(entry)
        download = _download(entry["model"], models_dir)
        model = download["path"] if download else str(entry["model"])
        arguments = [str(argument) for argument in entry.get("extra_arguments") or []]
        for port, gpu in zip(ports, _gpus(entry, ports), strict=False):
            base = {
                "LLAMA_ARG_HOST": bind_address,
                "LLAMA_ARG_PORT": str(port),
                "LLAMA_ARG_MODEL": model,
                "LLAMA_ARG_ALIAS": _alias(entry, model),
            }
            found.append(
                {
                    "name": entry.get("name") or _alias(entry, model),
                    "unit": f"llama-server-{port}",
                    "port": port,
                    "gpu": gpu,
                    "model": model,
                    "download": download,
                    "alias": _alias(entry, model),
                    "embeddings": bool(entry.get("embeddings")),
                    "url": _url(bind_address, port),
                    "has_key": bool(entry.get("api_key")),
                    "environment": _environment(entry, base, gpu, gpu_variable, environment or {}),
                    "arguments": arguments,
                    "command": "".join(f" {quote_argument(argument)}" for argument in arguments),
                    **{name: entry[name] for name in ("start_timeout", "memory_max") if entry.get(name) is not None},
                }
            )
    return found


def downloads(declared: t.Any, models_dir: str = MODELS_DIR, files: t.Any = None) -> list[dict[str, str]]:
    """Everything that has to be downloaded, each file once."""
    found = [unit["download"] for unit in servers(declared, models_dir) if unit["download"]]
    found += [download for file in files or [] if (download := _download(file, models_dir))]
    return [file for position, file in enumerate(found) if file not in found[:position]]


def keys(declared: t.Any) -> dict[str, str]:
    """The API key of each unit that has one. By itself, as nothing that has a secret in it is looped over."""
    return {f"llama-server-{port}": entry["api_key"] for entry in declared or [] if entry.get("api_key") for port in _ports(entry)}


# What cannot work


def _unknown(where: str, entry: Entry, known: t.Sequence[str]) -> t.Iterator[str]:
    for name in entry:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1, 0.7)
            hint = f"Did you mean {close[0]}?" if close else f"It may have {', '.join(known)}."
            yield f"{where}: {name} is not known. {hint}"


def _path_problem(where: str, what: str, path: t.Any) -> t.Iterator[str]:
    if not isinstance(path, str) or not path.startswith("/"):
        yield f"{where}: {what} must be an absolute path, not {path!r}."
    elif _HIDDEN.match(posixpath.normpath(path)):
        yield (
            f"{where}: {what} is {path}, and the service's sandbox hides /home, /root, /run/user and the temporary folders. "
            "Choose another path."
        )


def _file_problems(where: str, file: Entry, needs_dest: bool = False) -> t.Iterator[str]:
    yield from _unknown(where, file, FILE_ATTRIBUTES)
    if not re.match(r"https?://[^/\s]+/\S", str(file.get("url", ""))):
        yield f"{where}: url must be an http or https address of a file, not {file.get('url')!r}."
    if not SHA256.fullmatch(str(file.get("sha256", "")).strip().lower()):
        yield (
            f"{where}: sha256 must be the checksum of the file, 64 hexadecimal digits. The page that offers the file names it, "
            "or sha256sum says it of a copy that you trust."
        )
    if file.get("dest") is not None or needs_dest:
        yield from _path_problem(where, "dest", file.get("dest"))


def _model_problems(where: str, entry: Entry) -> t.Iterator[str]:
    model = entry.get("model")
    if not model:
        yield f"{where}: it has no model. Give the path of a GGUF file on the host, or {{url: …, sha256: …}}."
    elif isinstance(model, dict):
        yield from _file_problems(f"{where}: model", model)
    else:
        yield from _path_problem(where, "model", model)
    alias = entry.get("alias")
    if alias is not None and not re.fullmatch(r"[^\s,]+", str(alias)):
        yield f"{where}: alias must be one name without white space and commas, not {alias!r}."


def _port_problems(where: str, entry: Entry) -> t.Iterator[str]:
    if (entry.get("port") is None) == (entry.get("ports") is None):
        yield f'{where}: it needs port, or ports for a range such as "8080-8087", and not both.'
        return
    try:
        ports = _ports(entry)
    except ValueError as exc:
        yield f"{where}: {'port' if entry.get('ports') is None else 'ports'} {exc}."
        return
    if entry.get("ports") is None and len(ports) > 1:
        yield f"{where}: port is one port. Use ports for {entry['port']}."
    if ports[0] < 1024:
        yield f"{where}: it has port {ports[0]}, and the service may not use those below 1024."
    yield from _gpu_problems(where, entry, ports)


def _is_gpu(gpu: t.Any) -> bool:
    """An index, a UUID of NVIDIA's, or several of them."""
    return not isinstance(gpu, bool) and _GPU.match(str(gpu).replace(" ", "")) is not None


def _gpu_problems(where: str, entry: Entry, ports: t.Sequence[int]) -> t.Iterator[str]:
    gpu, gpus = entry.get("gpu"), entry.get("gpus")
    if gpu is not None and gpus is not None:
        yield f"{where}: it has both gpu and gpus. gpu is for all its ports, gpus has one for each: leave one of them out."
    elif gpu is not None and not _is_gpu(gpu):
        yield f'{where}: gpu must be the index of a GPU such as 0, or of several such as "0,1", not {gpu!r}.'
    elif gpus is not None and gpus != "auto":
        if not isinstance(gpus, list) or not all(_is_gpu(one) for one in gpus):
            yield f"{where}: gpus must be auto, or a list with the index of a GPU for each port, not {gpus!r}."
        elif len(gpus) != len(ports):
            yield f"{where}: gpus has {len(gpus)} entries for {len(ports)} ports. Give one for each port, in their order, or auto."
    elif gpu is None and gpus is None and str(entry.get("gpu_layers", "0")) != "0":
        yield f"{where}: gpu_layers needs a GPU. Say which in gpu or gpus: without them a server runs on the CPU."


def _reserved(where: str, option: str, name: str) -> t.Iterator[str]:
    if name in _RESERVED:
        remedy = _RESERVED[name]
        what = f"use {remedy}, which the role knows of" if remedy else "leave it out, or the role does not reach the server"
        yield f"{where}: {option} has {name}: {what}."


def _argument_problems(where: str, entry: Entry) -> t.Iterator[str]:
    arguments = entry.get("extra_arguments") or []
    if not isinstance(arguments, list) or any(isinstance(argument, (dict, list)) for argument in arguments):
        yield f"{where}: extra_arguments must be a list of words, such as [--mmproj, /srv/models/mmproj.gguf]."
        return
    for argument in map(str, arguments):
        yield from _reserved(where, "extra_arguments", argument.split("=")[0].split(" ")[0])
        if re.match(r"-\S+\s", argument):
            yield f"{where}: extra_arguments has {argument!r}, which is one word for llama-server. Make its parts entries of their own."
        if re.search(r"[\n\r\0]", argument):
            yield f"{where}: extra_arguments has an entry with a line break."


def environment_problems(where: str, environment: t.Any, option: str = "environment") -> t.Iterator[str]:
    if environment is not None and not isinstance(environment, dict):
        yield f"{where}: {option} must be a mapping of names to values."
        return
    for name, value in (environment or {}).items():
        yield from _reserved(where, option, str(name))
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name)) or re.search(r"[\n\r\0]", str(value)):
            yield f"{where}: {option} has {name!r}, which is no name of a variable, or a value with a line break."


def _value_problems(where: str, entry: Entry) -> t.Iterator[str]:
    for name in ("context_size", "parallel", "threads", "start_timeout"):
        value = entry.get(name)
        if value is not None and (isinstance(value, bool) or not re.fullmatch(r"[1-9]\d*", str(value))):
            yield f"{where}: {name} must be a whole number from 1 up, not {value!r}."
    layers = entry.get("gpu_layers")
    if layers is not None and not re.fullmatch(r"\d+|auto|all", str(layers)):
        yield f"{where}: gpu_layers must be a number, auto or all, not {layers!r}."
    for name, choices in (("flash_attention", ("on", "off", "auto")), ("pooling", ("none", "mean", "cls", "last", "rank"))):
        if entry.get(name) is not None and _words(entry[name]) not in choices:
            yield f"{where}: {name} must be one of {', '.join(choices)}, not {entry[name]!r}."
    memory = entry.get("memory_max")
    if memory and not re.fullmatch(r"[1-9]\d*[KMGT]?", str(memory)):
        yield f"{where}: memory_max must be a size for systemd such as 48G, not {memory!r}."
    for part in str(entry.get("api_key") or "").split(",") if entry.get("api_key") is not None else ():
        flaw = weakness(part)
        if flaw:
            yield f"{where}: its api_key cannot be used: {flaw}. Make one with `openssl rand -hex 24`, and keep it in the vault."


def _overlaps(declared: t.Sequence[Entry], names: t.Sequence[str]) -> t.Iterator[str]:
    owners: dict[int, str] = {}
    files: dict[str, tuple[str, str]] = {}
    for entry, where in zip(declared, names, strict=True):
        try:
            ports = _ports(entry)
        except (KeyError, ValueError):
            ports = []
        taken: dict[str, list[int]] = {}
        for port in ports:
            if owners.setdefault(port, where) != where:
                taken.setdefault(owners[port], []).append(port)
        for other, common in taken.items():
            yield f"{where}: port {', '.join(map(str, common))} is that of {other}, too. Change one of them."
        model = entry.get("model")
        if isinstance(model, dict) and model.get("dest"):
            other, sha256 = files.setdefault(str(model["dest"]), (where, str(model.get("sha256")).lower()))
            if sha256 != str(model.get("sha256")).lower():
                yield f"{where}: its model goes to {model['dest']}, where {other} has another one. Give it a dest of its own."


def problems(declared: t.Any, files: t.Any = None, environment: t.Any = None) -> list[str]:
    """What an operator has to change before the servers can be deployed, each with its remedy. No key is in it."""
    if not isinstance(declared, list) or not all(isinstance(entry, dict) for entry in declared):
        return [f"{VARIABLE} must be a list of mappings."]
    found: list[str] = []
    names = []
    for position, entry in enumerate(declared, 1):
        where = f"{VARIABLE} ({entry.get('name') or entry.get('ports') or entry.get('port') or f'entry {position}'})"
        # Two entries of one name are still two.
        names.append(where if where not in names else f"{where}, entry {position}")
        found += _unknown(where, entry, ATTRIBUTES)
        found += _port_problems(where, entry)
        found += _model_problems(where, entry)
        found += _value_problems(where, entry)
        found += _argument_problems(where, entry)
        found += environment_problems(where, entry.get("environment"))
    found += _overlaps(declared, names)
    found += environment_problems("llama_server_environment", environment, "it")
    if not isinstance(files or [], list) or not all(isinstance(file, dict) for file in files or []):
        return [*found, "llama_server_files must be a list of mappings."]
    for position, file in enumerate(files or [], 1):
        found += _file_problems(f"llama_server_files (entry {position})", file, needs_dest=True)
    return found
