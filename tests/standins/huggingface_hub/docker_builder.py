# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds and runs a Space as the Hub does: docker build of its repository, and a container of account 1000 with its secrets as environment.

    docker_builder.py build OWNER/NAME FOLDER     the folder has the Dockerfile
    docker_builder.py run OWNER/NAME FILE         the file has the environment as JSON; the last line is the URL
    docker_builder.py stop OWNER/NAME

HF_STANDIN_NETWORK is a Docker network that the container joins, HF_STANDIN_PREFIX the beginning of the names of image and container.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PREFIX = os.environ.get("HF_STANDIN_PREFIX", "hf-standin")
PORT = 7860
WAIT = 300


def called(name: str) -> str:
    return f"{PREFIX}-{name.replace('/', '-').lower()}"


def build(name: str, folder: str) -> None:
    subprocess.run(["docker", "build", "--pull=false", "--tag", called(name), folder], check=True, stderr=subprocess.STDOUT)


def stop(name: str) -> None:
    subprocess.run(["docker", "rm", "--force", called(name)], check=False, capture_output=True)


def run(name: str, file: str) -> None:
    values = json.loads(Path(file).read_text(encoding="utf-8"))
    stop(name)
    with tempfile.NamedTemporaryFile("w", suffix=".env") as environment:
        environment.writelines(f"{key}={value}\n" for key, value in values.items())
        environment.flush()
        settings = ["--env-file", environment.name, "--publish", f"127.0.0.1::{PORT}"]
        network = ["--network", os.environ["HF_STANDIN_NETWORK"]] if os.environ.get("HF_STANDIN_NETWORK") else []
        subprocess.run(
            ["docker", "run", "--detach", "--name", called(name), "--user", "1000:1000", *settings, *network, called(name)], check=True
        )
    published = subprocess.run(["docker", "port", called(name), str(PORT)], check=True, capture_output=True, text=True).stdout.split()[0]
    url = f"http://{published}"
    deadline = time.monotonic() + WAIT
    while not answers(url):
        state = subprocess.run(["docker", "inspect", "--format", "{{.State.Running}}", called(name)], capture_output=True, text=True)
        if state.stdout.strip() != "true" or time.monotonic() > deadline:
            subprocess.run(["docker", "logs", "--tail", "60", called(name)], check=False, stderr=subprocess.STDOUT)
            sys.exit(1)
        time.sleep(0.5)
    print(url)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    {"build": build, "run": run, "stop": stop}[sys.argv[1]](*sys.argv[2:])
