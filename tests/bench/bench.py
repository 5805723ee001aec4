# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the collection on machines of its own, and write docs/benchmarks.md.

The machines are called bench-… and have a network of their own, publish no port and are removed at the end: a running demo keeps
running. All load goes to these machines, and is bounded in count and time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from importlib.metadata import version
from pathlib import Path

import httpx2 as httpx
import keys
import load
import results
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
WORK = ROOT / ".cache" / "bench"
DOCS = ROOT / "docs" / "benchmarks.md"
NETWORK = "selfhosted-llm-bench"
BIN = Path(sys.executable).parent

GATEWAY, WEBUI, MIRROR, BARE, STORE = "bench-api", "bench-webui", "bench-mirror", "bench-bare", "bench-store"
OLLAMA = ["bench-llm1", "bench-llm2"]
UNEQUAL = ["bench-llm1", "bench-llm2", "bench-llm3"]

SLOTS = 4
# Seconds that an answer takes: with 4 slots 20, 20 and 5 answers a second. Together that is well below what a gateway carries, so that
# how it balances can be told from what it carries, which is measured with backends that answer at once.
DELAYS = dict(zip(UNEQUAL, (0.2, 0.2, 0.8), strict=True))
IN_FLIGHT = 24
EVEN_DELAY = 0.1
LATENCY_CLIENTS, LATENCY_REQUESTS, STREAMS = 2, 100, 40
PORTS = {"gateway": 4000, "plain": 4001, "workers": 4002, "nginx": 4003}
SECOND_RUNS = 2
ROUNDS = {"deploy": 2, "gateway": 3, "keys": 2}

BALANCE = {
    "gateway": "this gateway",
    "nginx": "nginx `least_conn`",
    "plain": "LiteLLM with a plain config",
    "workers": "this gateway, 2 workers",
}
LATENCY = {
    "direct": "straight to a host",
    "nginx": "nginx",
    "gateway": "this gateway",
    "plain": "LiteLLM with a plain config",
}
CAPACITY = {"gateway": "this gateway", "workers": "this gateway, 2 workers", "plain": "LiteLLM with a plain config"}

NGINX_CONFIG = """\
upstream backends {{
    least_conn;
    zone backends 64k;
{servers}
    keepalive 32;
}}
server {{
    listen {port};
    location / {{
        proxy_pass http://backends;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        proxy_read_timeout 600;
    }}
}}
"""


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


class BenchError(Exception):
    """Said to the user without a traceback."""


# --- commands, machines -----------------------------------------------------------------------------


def run(*command: str | Path, stdin: str | None = None) -> str:
    result = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if result.returncode:
        raise BenchError(f"{' '.join(str(word) for word in command[:6])} … failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return result.stdout


def node(name: str, script: str, stdin: str = "") -> str:
    """A shell script on a machine; secrets go by standard input."""
    return run("docker", "exec", "--interactive", name, "sh", "-euc", script, stdin=stdin)


class Played(t.NamedTuple):
    seconds: float
    plays: dict[str, float]
    changed: int


def play(*arguments: str | Path, log: str) -> Played:
    """Run ansible-playbook, and see how long each play took."""
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "PYTHONUNBUFFERED": "1",
    }
    lines: list[str] = []
    marks: list[tuple[str, float]] = []
    started = time.monotonic()
    with (WORK / f"{log}.log").open("w", buffering=1, encoding="utf-8") as file:
        with subprocess.Popen(
            [str(BIN / "ansible-playbook"), *map(str, arguments)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    name = results.play_name(line.rstrip("\n"))
                    if name is not None:
                        # What comes before the first play, reading the inventory, belongs to it.
                        marks.append((name, time.monotonic() if marks else started))
                    lines.append(line)
                    file.write(line)
            except BaseException:
                process.terminate()
                raise
    ended = time.monotonic()
    if process.returncode:
        raise BenchError(f"ansible-playbook {arguments[-1]} failed; the end of it:\n{''.join(lines[-60:])}")
    return Played(ended - started, results.durations(marks, ended), results.changed_tasks(lines))


def machines(playbook: str, names: t.Sequence[str]) -> None:
    platforms = [{"name": name, **({"image": "trixie"} if name == "bench-llm2" else {})} for name in names]
    variables = {"molecule_yml": {"scenario": {"name": "bench"}, "platforms": platforms}}
    play("--inventory", "localhost,", "--extra-vars", json.dumps(variables), f"tests/nodes/{playbook}.yml", log=playbook)


def remove_machines() -> None:
    machines("destroy", [GATEWAY, WEBUI, MIRROR, BARE, STORE, *UNEQUAL])


def address(name: str) -> str:
    return run("docker", "inspect", "--format", f'{{{{ (index .NetworkSettings.Networks "{NETWORK}").IPAddress }}}}', name).strip()


def host_address() -> str:
    """Of this machine, as the machines of the benchmark see it."""
    return run("docker", "network", "inspect", "--format", "{{ (index .IPAM.Config 0).Gateway }}", NETWORK).strip()


def ollama_version() -> str:
    return str(yaml.safe_load((ROOT / "roles/ollama_backend/defaults/main.yml").read_text(encoding="utf-8"))["ollama_backend_version"])


def release_url() -> str:
    return f"http://{MIRROR}/v{ollama_version()}"


def make_secrets(inventory: Path) -> None:
    folder = inventory / "secrets"
    folder.mkdir(mode=0o700)
    for name, prefix in (("litellm_master_key", "sk-"), ("open_webui_admin_password", ""), ("open_webui_secret_key", "")):
        with open(os.open(folder / f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(prefix + secrets.token_urlsafe(36) + "\n")


def write_inventory(ollama: t.Sequence[str], webui: t.Sequence[str]) -> Path:
    """The demo's, with other machines: its group_vars are linked."""
    inventory = WORK / "inventory"
    if not inventory.exists():
        inventory.mkdir()
        (inventory / "group_vars").symlink_to(ROOT / "inventories" / "demo" / "group_vars")
        make_secrets(inventory)
    checksums = ROOT / ".cache" / "release-mirror" / MIRROR / f"v{ollama_version()}" / "checksums.json"
    content = {
        "litellm": {"hosts": {GATEWAY: {"llm_verify_url": f"http://{address(GATEWAY)}:4000"}}},
        "llm": {
            "hosts": {name: {} for name in ollama},
            "vars": {
                "ollama_backend_download_url": release_url(),
                "ollama_backend_checksums": json.loads(checksums.read_text(encoding="utf-8")) if checksums.exists() else {},
                # So that this machine can call the backends without a gateway.
                "llm_extra_ollama_clients": [host_address()],
            },
        },
        "webui": {"hosts": {name: {} for name in webui}},
        "mirror": {"hosts": {MIRROR: {}}},
        "all": {"vars": {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}},
    }
    (inventory / "hosts.yml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return inventory


def prepare_mirror(ollama: t.Sequence[str], webui: t.Sequence[str]) -> Path:
    inventory = write_inventory(ollama, webui)
    play("--inventory", inventory, "--extra-vars", f"bench_ollama_version={ollama_version()}", "tests/bench/mirror.yml", log="mirror")
    # Again, as the checksums are known only now.
    return write_inventory(ollama, webui)


def site(inventory: Path, playbook: str, log: str) -> Played:
    return play("--inventory", inventory, "--extra-vars", f"llm_report_dir={WORK / 'reports'}", f"playbooks/{playbook}.yml", log=log)


# --- A. deploy --------------------------------------------------------------------------------------


def prepare_bare() -> None:
    node(BARE, "apt-get update -qq && apt-get install -qq --yes --no-install-recommends zstd >/dev/null && mkdir -p /root/locks")
    run("docker", "cp", "--follow-link", BIN / "uv", f"{BARE}:/usr/local/bin/uv")
    for app, lock in (("litellm", "litellm_proxy/files/requirements.txt"), ("open-webui", "open_webui/files/requirements-gateway.txt")):
        run("docker", "cp", ROOT / "roles" / lock, f"{BARE}:/root/locks/{app}.txt")


def warm_cache() -> None:
    """Both ways then install from uv's cache, and neither measures the package index."""
    node(
        BARE,
        "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n"
        "for app in litellm open-webui; do\n"
        "  uv venv --quiet --python /usr/bin/python3 /root/warm\n"
        "  uv pip install --quiet --python /root/warm/bin/python --no-deps --require-hashes --requirement /root/locks/$app.txt\n"
        "  rm -rf /root/warm\n"
        "done",
    )


def bare_install() -> tuple[float, dict[str, float]]:
    script = (HERE / "bare-install").read_text(encoding="utf-8")
    started = time.monotonic()
    output = run("docker", "exec", "--interactive", "--env", f"RELEASE_URL={release_url()}", BARE, "bash", "-s", stdin=script)
    seconds = time.monotonic() - started
    steps = {name: float(value) for name, value in (line.split("\t") for line in output.splitlines())}
    return seconds, steps


def deploy_round(number: int) -> dict[str, t.Any]:
    say("new machines")
    remove_machines()
    machines("create", [GATEWAY, *OLLAMA, WEBUI, MIRROR, BARE])
    inventory = prepare_mirror(OLLAMA, [WEBUI])
    prepare_bare()
    if number == 1:
        say("filling the package cache")
        warm_cache()
    found: dict[str, t.Any] = {"ping": [], "second": []}

    def first() -> None:
        played = site(inventory, "site", f"site-first-{number}")
        found.update(first=played.seconds, first_plays=played.plays)
        say(f"first run: {played.seconds:.1f} s")

    def bare() -> None:
        found["bare"], found["bare_steps"] = bare_install()
        say(f"bare installation: {found['bare']:.1f} s")
        node(BARE, "systemctl stop 'bare-*'")

    # Neither is always the one that finds the disk's cache warmer.
    for measure in (first, bare) if number % 2 else (bare, first):
        measure()
    for _ in range(SECOND_RUNS):
        found["ping"].append(play("--inventory", inventory, "tests/bench/ping.yml", log="ping").seconds)
        again = site(inventory, "site", f"site-second-{number}")
        found["second"].append(again.seconds)
        found.update(second_plays=again.plays, second_changed=again.changed)
        say(f"one ping task: {found['ping'][-1]:.1f} s, second run: {again.seconds:.1f} s, changed {again.changed}")
    return found


# --- B. gateway -------------------------------------------------------------------------------------


class Gateways:
    """The deployed gateway, what it is compared with, and the three backends behind all of them."""

    def __init__(self) -> None:
        machines("create", [GATEWAY, *UNEQUAL, MIRROR])
        inventory = prepare_mirror(UNEQUAL, [])
        say("deploying three Ollama hosts and the gateway")
        site(inventory, "backends", "backends")
        site(inventory, "gateway", "gateway")
        # Never through a proxy: these machines are on this one.
        self.http = httpx.Client(trust_env=False, timeout=10)
        self.key = (inventory / "secrets" / "litellm_master_key.txt").read_text(encoding="utf-8").strip()
        self.backends = {name: f"http://{address(name)}:11434" for name in UNEQUAL}
        self.urls = {name: f"http://{address(GATEWAY)}:{port}" for name, port in PORTS.items()}
        self.urls["direct"] = self.backends[UNEQUAL[0]]
        config = yaml.safe_load(node(GATEWAY, "cat /etc/litellm/config.yaml"))
        self.model = next(item["model_name"] for item in config["model_list"] if item["model_info"]["mode"] == "chat")
        self.deployments = [item for item in config["model_list"] if item["model_name"] == self.model]
        self.upstream = self.deployments[0]["litellm_params"]["model"].partition("/")[2]
        if len(self.deployments) != len(UNEQUAL):
            raise BenchError(f"the gateway has {len(self.deployments)} deployments of {self.model}, expected {len(UNEQUAL)}")

    def start_others(self) -> None:
        say("starting nginx, LiteLLM with a plain config, and the gateway with two workers")
        servers = "\n".join(f"    server {name}:11434;" for name in UNEQUAL)
        node(
            GATEWAY,
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends nginx >/dev/null 2>&1\n"
            "rm -f /etc/nginx/sites-enabled/default\ncat >/etc/nginx/conf.d/bench.conf\nsystemctl restart nginx",
            NGINX_CONFIG.format(servers=servers, port=PORTS["nginx"]),
        )
        plain = {
            "model_list": [{"model_name": self.model, "litellm_params": item["litellm_params"]} for item in self.deployments],
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        }
        node(
            GATEWAY,
            "install -d -o litellm -m 0700 /run/bench && umask 077 && cat >/run/bench/plain.env",
            f"LITELLM_MASTER_KEY={self.key}\nLITELLM_LOCAL_MODEL_COST_MAP=True\n",
        )
        node(GATEWAY, "cat >/run/bench/plain.yaml", yaml.safe_dump(plain))
        node(
            GATEWAY,
            "systemd-run --quiet --unit bench-plain --uid litellm --property EnvironmentFile=/run/bench/plain.env --setenv HOME=/run/bench"
            f" /opt/litellm/current/bin/litellm --config /run/bench/plain.yaml --host 0.0.0.0 --port {PORTS['plain']}",
        )
        # The unit that the role wrote, with two values changed.
        node(
            GATEWAY,
            f"sed -e 's/--port ${{PORT}} --num_workers ${{NUM_WORKERS}}/--port {PORTS['workers']} --num_workers 2/'"
            " /etc/systemd/system/litellm.service >/run/systemd/system/bench-workers.service\n"
            "grep -q -e '--num_workers 2' /run/systemd/system/bench-workers.service\n"
            "systemctl daemon-reload && systemctl start bench-workers",
        )
        for name in ("plain", "workers", "nginx"):
            self.wait(name)

    def wait(self, name: str) -> None:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if self.http.get(f"{self.urls[name]}/v1/models", headers={"Authorization": f"Bearer {self.key}"}).status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise BenchError(f"{name} did not answer within 120 s")
            time.sleep(0.5)

    def set_backends(self, delays: t.Mapping[str, float]) -> None:
        for name, url in self.backends.items():
            settings = {"delay": delays[name], "tokens_per_second": 0, "reply_tokens": 8}
            self.http.post(f"{url}/standin/state", json=settings).raise_for_status()

    def answered(self) -> dict[str, int]:
        """Model requests that each backend took so far."""
        found = {}
        for name, url in self.backends.items():
            requests = self.http.get(f"{url}/standin/state").json()["counters"]["requests"]
            found[name] = sum(count for path, count in requests.items() if "/chat" in path)
        return found

    def load(self, name: str, clients: int, requests: int, seconds: float, stream_share: float = 0.0) -> load.Outcome:
        model = self.model if name in ("gateway", "plain", "workers") else self.upstream
        outcome = asyncio.run(load.run_load(self.urls[name], self.key, model, clients, requests, seconds, stream_share))
        bad = [*outcome.failed, *outcome.broken_streams]
        if bad or outcome.silent_ends:
            raise BenchError(f"{len(bad) + outcome.silent_ends} requests through {name} failed, the first: {bad[:1]}")
        return outcome

    def steady(self, name: str, warm_up: float, window: float) -> dict[str, t.Any]:
        """Under a constant number of requests in flight, the start and the end of the load left out."""
        before = self.answered()
        outcome = self.load(name, IN_FLIGHT, 20_000, warm_up + window)
        after = self.answered()
        latencies = results.in_window(outcome.latencies, outcome.finished, warm_up, warm_up + window)
        return {
            "rate": len(latencies) / window,
            "p50": load.percentile(latencies, 50),
            "p99": load.percentile(latencies, 99),
            "shares": results.shares({host: after[host] - before[host] for host in after}),
            "requests": outcome.ok,
        }

    def light(self, name: str) -> dict[str, t.Any]:
        plain = self.load(name, LATENCY_CLIENTS, LATENCY_REQUESTS, 60)
        streams = self.load(name, LATENCY_CLIENTS, STREAMS, 60, stream_share=1.0)
        return {
            "p50": load.percentile(plain.latencies, 50),
            "p99": load.percentile(plain.latencies, 99),
            "first_token": load.percentile(streams.first_tokens, 50),
            "requests": plain.ok + streams.ok,
        }

    def versions(self) -> str:
        litellm = node(
            GATEWAY, "/opt/litellm/current/bin/python -c 'from importlib.metadata import version; print(version(\"litellm\"))'"
        ).strip()
        nginx = node(GATEWAY, "nginx -v 2>&1").strip().rpartition("/")[2]
        return f"LiteLLM {litellm}, nginx {nginx}, stand-in for Ollama {ollama_version()}"


def turned(names: t.Iterable[str], number: int) -> list[str]:
    """Each round begins with another one, so that none always comes first."""
    order = list(names)
    turn = (number - 1) % len(order)
    return order[turn:] + order[:turn]


def measure_gateway(rounds: int, busy: float) -> tuple[str, dict[str, t.Any]]:
    gateways = Gateways()
    gateways.start_others()
    found: dict[str, list[dict[str, t.Any]]] = {"balance": [], "latency": [], "capacity": []}
    even, at_once = dict.fromkeys(UNEQUAL, EVEN_DELAY), dict.fromkeys(UNEQUAL, 0.0)
    parts: list[tuple[str, t.Mapping[str, str], t.Mapping[str, float], t.Callable[[str], dict[str, t.Any]]]] = [
        ("balance", BALANCE, DELAYS, lambda name: gateways.steady(name, 4.0, 8.0)),
        ("latency", LATENCY, even, gateways.light),
        ("capacity", CAPACITY, at_once, lambda name: gateways.steady(name, 1.5, 5.0)),
    ]
    # The first requests load models and open connections.
    gateways.set_backends(at_once)
    for name in ("gateway", "plain", "workers", "nginx"):
        gateways.load(name, 4, 24, 30)
    for number in range(1, rounds + 1):
        for part, labels, delays, measure in parts:
            gateways.set_backends(delays)
            one: dict[str, t.Any] = {}
            for name in turned(labels, number):
                one[name] = measure(name)
                shown = ", ".join(f"{key} {value:.3g}" for key, value in one[name].items() if not isinstance(value, dict))
                shown += "".join(f", {host} {share:.0%}" for host, share in one[name].get("shares", {}).items())
                say(f"round {number} of {rounds}, {part}, {name}: {shown}")
            found[part].append(one)
    limits = {f"host {position}": SLOTS / delay for position, delay in enumerate(DELAYS.values(), 1)}
    names = dict(zip(UNEQUAL, limits, strict=True))
    balance = [
        {name: {**one, "shares": {names[host]: share for host, share in one["shares"].items()}} for name, one in item.items()}
        for item in found["balance"]
    ]
    requests = sum(one["requests"] for part in found.values() for item in part for one in item.values())
    body = [
        f"{circumstances(rounds, busy)} {gateways.versions()}. {requests} requests, none failed.",
        "### Hosts of unequal speed",
        results.balance_tables(balance, BALANCE, limits),
        "### What it adds to a request",
        f"Times divided by those of the same request straight to a host, whose answer takes {EVEN_DELAY} s:",
        results.against_table(
            found["latency"], LATENCY, "direct", {"p50": "p50", "p99": "p99", "first_token": "first token of a stream, p50"}
        ),
        "### What it carries",
        "Requests/s where hosts answer at once, divided by those of this gateway with one worker:",
        results.against_table(found["capacity"], CAPACITY, "gateway", {"rate": "requests/s"}),
    ]
    return "\n\n".join(body), dict(found)


# --- main -------------------------------------------------------------------------------------------


def measure_deploy(rounds: int, busy: float) -> tuple[str, dict[str, t.Any]]:
    found = []
    for number in range(1, rounds + 1):
        say(f"deploy, round {number} of {rounds}")
        found.append(deploy_round(number))
    webui = node(
        WEBUI, "/opt/open-webui/current/bin/python -c 'from importlib.metadata import version; print(version(\"open-webui\"))'"
    ).strip()
    litellm = node(
        GATEWAY, "/opt/litellm/current/bin/python -c 'from importlib.metadata import version; print(version(\"litellm\"))'"
    ).strip()
    versions = f"ansible-core {version('ansible-core')}, LiteLLM {litellm}, Open WebUI {webui}, stand-in for Ollama {ollama_version()}"
    return f"{circumstances(rounds, busy)} {versions}.\n\n{results.deploy_tables(found)}", {"deploy": found}


def keys_round(inventory: Path, number: int) -> dict[str, t.Any]:
    """`playbooks/keys.yml` where there is nothing, again, and what a playbook costs that only pings."""
    found: dict[str, t.Any] = {"ping": [], "second": [], "second_changed": 0}
    first = site(inventory, "keys", f"keys-first-{number}")
    found["first"] = first.seconds
    say(f"{keys.KEYS} keys, {keys.TEAMS} teams and {keys.USERS} users, first run: {first.seconds:.1f} s")
    for _ in range(SECOND_RUNS):
        found["ping"].append(play("--inventory", inventory, "tests/bench/ping.yml", log="ping").seconds)
        again = site(inventory, "keys", f"keys-second-{number}")
        found["second"].append(again.seconds)
        found["second_changed"] = max(found["second_changed"], again.changed)
        say(f"second run: {again.seconds:.1f} s, {again.changed} tasks changed something")
    return found


def measure_keys(rounds: int, busy: float) -> tuple[str, dict[str, t.Any]]:
    found = []
    inventory = WORK / "inventory"
    for number in range(1, rounds + 1):
        remove_machines()
        shutil.rmtree(inventory, ignore_errors=True)
        (inventory / "keys").mkdir(parents=True, mode=0o700)
        machines("create", [GATEWAY, STORE])
        content = keys.inventory(GATEWAY, STORE, lambda: secrets.token_urlsafe(36), str(inventory / "keys"))
        path = inventory / "hosts.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        say(f"keys, round {number} of {rounds}: a gateway and its database")
        play("--inventory", inventory, "tests/bench/prisma_mirror.yml", log="prisma-mirror")
        for playbook in ("store", "gateway"):
            site(inventory, playbook, f"keys-{playbook}")
        found.append(keys_round(inventory, number))
    body = f"{circumstances(rounds, busy)} ansible-core {version('ansible-core')}.\n\n{results.keys_table(found)}"
    return body, {"keys": found}


def circumstances(rounds: int, busy: float) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} in {rounds} round{'s' * (rounds > 1)} "
        f"on {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}; load of the machine before it began: {busy:.1f}."
    )


def others_running() -> list[str]:
    names = run(
        "docker", "ps", "--filter", "label=selfhosted-llm.scenario", "--format", '{{ .Names }} {{ .Label "selfhosted-llm.scenario" }}'
    )
    return [line.split()[0] for line in names.splitlines() if not line.endswith(" bench")]


def interrupted(*_: object) -> t.NoReturn:
    raise KeyboardInterrupt


def measure(parts: t.Sequence[str], rounds: t.Mapping[str, int]) -> None:
    busy = os.getloadavg()[0]
    if others := others_running():
        say(f"other machines are running ({', '.join(others)}): they are left alone, but the numbers will be noisier")
    if busy > (os.cpu_count() or 1) / 2:
        say(f"this machine is busy (load {busy:.1f}): the numbers will be noisier")
    shutil.rmtree(WORK / "inventory", ignore_errors=True)
    started = time.monotonic()
    raw: dict[str, t.Any] = {}
    try:
        for part in parts:
            body, numbers = {"deploy": measure_deploy, "gateway": measure_gateway, "keys": measure_keys}[part](rounds[part], busy)
            if part == "deploy":
                run("docker", "rm", "--force", "--volumes", WEBUI, BARE)
            raw.update(numbers)
            DOCS.write_text(results.replace_block(DOCS.read_text(encoding="utf-8"), part.upper(), body), encoding="utf-8")
            say(f"{part}: docs/benchmarks.md is written ({time.monotonic() - started:.0f} s)")
    finally:
        (WORK / "results.json").write_text(json.dumps(raw, indent=2), encoding="utf-8")
        say("removing the machines")
        remove_machines()
        shutil.rmtree(WORK / "inventory", ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="deploy, gateway, keys (default: all); the other parts of the page stay")
    parser.add_argument(
        "--rounds",
        type=int,
        help="of each measurement (default: {deploy} of deploy, {gateway} of gateway, {keys} of keys)".format(**ROUNDS),
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(ROUNDS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, interrupted)
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another benchmark of this clone is running")
            return 1
        try:
            measure(arguments.parts or list(ROUNDS), {**ROUNDS, **(dict.fromkeys(ROUNDS, arguments.rounds) if arguments.rounds else {})})
        except BenchError as exc:
            say(str(exc))
            return 1
        except KeyboardInterrupt:
            say("interrupted")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
