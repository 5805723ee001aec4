# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Space that the playbook published, asked as clients ask it, and further runs of the playbook. The order of the tests matters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

testinfra_hosts = ["local://"]

ROOT = Path(__file__).resolve().parents[3]
HUB = "http://127.0.0.1:18760"
SPACE = "http://127.0.0.1:18761"
NAME = "somebody/gateway"
CONTAINER = "selfhosted-llm-hf-somebody-gateway"
TOKEN = "hf_Jd8Yp3Wc6Lm5Gb2Rn7Tk"
KEY = "sk-molecule-Rn7Wk2Vx9Hq4ZtLb6Vm3Yc8H"
NEXT_KEY = "sk-molecule-Lb6Vm3Yc8Hd5JfWq2Zt9Xv4N"
MODEL_KEY = "hf_key-of-the-model-Vx9Hq4"
DATABASE_PASSWORD = "t7RqW2xZ9vB4nK8rL3cY"
SALT_KEY = "Zt9Xv4Nn8Bk2Gm7Lq5Hw3Rd6Sj"
UI_PASSWORD = "Pv6Tq2Yc9Mb4Xn8Kd3Wf"
SECRETS = (TOKEN, KEY, NEXT_KEY, MODEL_KEY, DATABASE_PASSWORD, SALT_KEY, UI_PASSWORD)
LATER = {"litellm_proxy_cache_ttl": 60}


def call(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = json.dumps(body).encode() if body is not None else None
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data, sent), timeout=60) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as exc:
        text, status = exc.read(), exc.code
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def ask(path: str, body: Any = None, key: str = KEY, **headers: str) -> tuple[int, Any]:
    return call(f"{SPACE}{path}", body, **{"X_HF_Authorization": f"Bearer {TOKEN}", "Authorization": f"Bearer {key}", **headers})


def control(**orders: Any) -> Any:
    return call(f"{HUB}/_control/spaces/{NAME}", orders)[1]


def calls() -> list[str]:
    found: list[str] = call(f"{HUB}/_control/calls")[1]
    return found


def commits() -> list[str]:
    return git("log", "--format=%H", "main").split()


def git(*arguments: str) -> str:
    folder = control()["git"]
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout


def play(*options: str, **variables: Any) -> tuple[int, str]:
    """The exit code and the output of the playbook, which is searched for secrets."""
    extra = json.dumps(variables)
    done = subprocess.run(
        [
            "ansible-playbook",
            "-i",
            str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent),
            "playbooks/hf_space.yml",
            "--diff",
            *options,
            "-e",
            extra,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_NOCOLOR": "1"},
    )
    output = done.stdout + done.stderr
    for secret in SECRETS:
        assert secret not in output
    return done.returncode, output


def changed(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def chat(key: str = KEY, text: str = "Say hello.") -> tuple[int, Any]:
    return ask("/v1/chat/completions", {"model": "default", "messages": [{"role": "user", "content": text}], "max_tokens": 8}, key)


def test_it_lists_and_answers() -> None:
    status, listed = ask("/v1/models")
    assert status == 200
    assert {model["id"] for model in listed["data"]} == {"qwen-coder", "default"}
    status, answer = chat()
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] > 0


def test_a_wrong_key_is_401_without_a_database() -> None:
    for key in ("sk-this-key-is-wrong", ""):
        status, answer = chat(key)
        assert status == 401
        assert answer["error"]["code"] == "invalid_api_key"


def test_a_private_space_wants_the_hubs_token() -> None:
    assert call(f"{SPACE}/v1/models", Authorization=f"Bearer {KEY}")[0] == 404
    # As the Hub's documentation has it: its token in Authorization, and then the key in LiteLLM's own header.
    status, _answer = call(f"{SPACE}/v1/models", Authorization=f"Bearer {TOKEN}", x_litellm_api_key=KEY)
    assert status == 200


def test_the_container_is_not_root() -> None:
    state = json.loads(subprocess.run(["docker", "inspect", CONTAINER], check=True, capture_output=True, text=True).stdout)[0]
    assert state["Config"]["User"] == "1000:1000"
    # What the image says counts where nobody says more.
    image = json.loads(subprocess.run(["docker", "image", "inspect", CONTAINER], check=True, capture_output=True, text=True).stdout)[0]
    assert image["Config"]["User"] == "1000"
    assert image["Config"]["ExposedPorts"] == {"7860/tcp": {}}


def test_the_repository_of_the_space() -> None:
    assert len(commits()) == 2, "the first one is the Hub's"
    files = git("ls-tree", "--name-only", "main").split()
    assert files == [".gitattributes", "Dockerfile", "README.md", "config.yaml", "custom_auth.py"]
    front_matter = git("show", "main:README.md").split("---")[1]
    assert "sdk: docker" in front_matter
    assert "app_port: 7860" in front_matter
    assert "os.environ/LITELLM_MASTER_KEY" in git("show", "main:config.yaml")
    kept = control()
    assert kept["private"] is True
    assert kept["secrets"]["LITELLM_MASTER_KEY"]["value"] == KEY
    assert kept["variables"]["HF_API_BASE"]["value"] == "http://hf-model:8080/v1/chat/completions"


def test_a_run_that_changes_nothing_only_reads() -> None:
    calls()
    code, output = play()
    assert code == 0, output
    assert changed(output) == 0
    assert all(line.startswith("GET ") for line in calls())


def test_a_failing_build_shows_its_log() -> None:
    code, output = play(hf_space_version="no-such-version")
    assert code != 0
    assert "BUILD_ERROR" in output
    assert "no-such-version" in output.split("The end of the log of the build:")[1]


def test_a_changed_setting_is_one_commit() -> None:
    before = commits()
    code, output = play("--check", **LATER)
    assert code == 0, output
    assert changed(output) == 1
    assert "ttl: 60" in output
    assert commits() == before
    calls()
    code, output = play(**LATER)
    assert code == 0, output
    assert commits()[1:] == before
    # What the failed build was of is put right as well.
    assert git("diff", "--name-only", "main~1", "main").split() == ["Dockerfile", "config.yaml"]
    assert git("diff", "--name-only", "main~2", "main").split() == ["config.yaml"]
    assert "ttl: 60" in git("show", "main:config.yaml")
    assert [line for line in calls() if not line.startswith("GET ")].count(f"COMMIT {NAME}") == 1
    assert chat()[0] == 200


def test_a_sleeping_space_is_woken_and_gets_another_master_key() -> None:
    before = commits()
    control(stage="SLEEPING")
    code, output = play("--check", **LATER)
    assert code == 0, output
    assert "stage SLEEPING" in output
    code, output = play(**LATER, litellm_proxy_master_key=NEXT_KEY)
    assert code == 0, output
    assert commits() == before, "a secret is in no commit"
    assert chat(NEXT_KEY)[0] == 200
    assert chat(KEY)[0] == 401


def test_a_crash_at_the_start_shows_the_log_of_the_container() -> None:
    broken = {"router_settings": {"routing_strategy": "no-such-strategy"}}
    code, output = play(**LATER, litellm_proxy_master_key=NEXT_KEY, litellm_proxy_extra_config=broken)
    assert code != 0
    assert "RUNTIME_ERROR" in output
    assert "no-such-strategy" in output.split("The end of the log of the container:")[1]


def test_what_a_space_cannot_do_is_refused() -> None:
    calls()
    models = [{"name": "phi", "ollama": {"model": "phi3"}}, {"name": "own", "servers": ["http://10.0.0.7:8080/v1"]}]
    code, output = play(llm_models=models, llm_servers_via="tunnel", llm_redis_host="redis.example.org")
    assert code != 0
    for words in ("llm_models (phi): it is served by Ollama", "llm_models (own): servers has", "SSH tunnels end on", "There is a Redis"):
        assert words in " ".join(output.split())
    assert calls() == [], "before anything is asked of the Hub"


def test_with_a_database_there_are_virtual_keys() -> None:
    variables = {
        "litellm_proxy_master_key": NEXT_KEY,
        "llm_database_url": f"postgresql://litellm:{DATABASE_PASSWORD}@database.hf.example:5432/litellm",
        "litellm_proxy_salt_key": SALT_KEY,
        "litellm_proxy_ui_password": UI_PASSWORD,
        "litellm_proxy_max_budget": 10,
    }
    code, output = play(**variables)
    assert code != 0
    assert "this is port 5432 (llm_space_ports)" in " ".join(output.split())
    code, output = play(**variables, llm_space_ports=[])
    assert code == 0, output
    assert "custom_auth.py" not in git("ls-tree", "--name-only", "main").split()
    assert "max_budget: 10" in git("show", "main:config.yaml")
    status, made = ask("/key/generate", {"models": ["default", "qwen-coder"], "max_budget": 1}, NEXT_KEY)
    assert status == 200, made
    assert chat(made["key"])[0] == 200
    assert chat("sk-this-key-is-wrong")[0] == 401
    code, output = play(**variables, llm_space_ports=[])
    assert code == 0, output
    assert changed(output) == 0


def test_no_secret_in_history_or_logs() -> None:
    history = git("log", "--all", "--patch", "--format=fuller")
    log = subprocess.run(["docker", "logs", CONTAINER], check=True, capture_output=True, text=True)
    image = subprocess.run(["docker", "history", "--no-trunc", CONTAINER], check=True, capture_output=True, text=True).stdout
    for secret in SECRETS:
        for text in (history, log.stdout, log.stderr, image):
            assert secret not in text
    for name, secret in control()["secrets"].items():
        assert secret["value"] not in secret["description"], name
