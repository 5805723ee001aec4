"""Plays the job of .github/workflows/deploy.yml: its own `run:` steps, in their order, with the environment that a caller would give.

What `uses:` an action is done here: the checkouts are a folder with a link to the collection, Python is a venv, and the artifact is a copy.
workflow.py EVENT [NAME [SECRET=FILE|INPUT=VALUE ...]] writes to .cache/deploy/runs/NAME: log, summary.md, steps.json, artifact/.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "deploy"
WORKSPACE = CACHE / "workspace"
WORKFLOW = ROOT / ".github" / "workflows" / "deploy.yml"
SECRETS = {"SSH_PRIVATE_KEY": "deploy", "SSH_KNOWN_HOSTS": "known_hosts", "VAULT_PASSWORD": "vault-password"}
CALLER = {"inventory": "inventories/mine", "collection": "selfhosted/llm", "collection_ref": "main"}


def evaluate(expression: str, context: dict[str, Any]) -> Any:
    """What GitHub makes of it, as far as this workflow goes."""

    def value(match: re.Match[str]) -> str:
        found: Any = context
        for part in match.group(0).split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        return repr(found)

    # Words within quotes are no names.
    parts = re.split(r"('[^']*')", expression.replace("always()", "True").replace("&&", " and ").replace("||", " or "))
    parts[::2] = [re.sub(r"\b(?:inputs|secrets|github|steps)(?:\.[\w-]+)+", value, part) for part in parts[::2]]
    return eval("".join(parts), {"__builtins__": {}})  # noqa: S307 - of our own workflow


def fill(text: Any, context: dict[str, Any]) -> str:
    return re.sub(r"\$\{\{(.*?)\}\}", lambda match: str(evaluate(match.group(1).strip(), context)), str(text))


def stand_in(step: dict[str, Any], context: dict[str, Any], folder: Path) -> None:
    """For an action."""
    action = step["uses"].split("@")[0]
    if action == "actions/setup-python":
        if not (CACHE / "venv").exists():
            subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
    elif action == "actions/upload-artifact":
        shutil.copytree(fill(step["with"]["path"], context), folder / "artifact")
    elif action == "actions/checkout":
        if path := step["with"].get("path"):
            (WORKSPACE / path).unlink(missing_ok=True)
            (WORKSPACE / path).symlink_to(ROOT)
    else:
        raise SystemExit(f"nothing stands in for {action}")


def run(step: dict[str, Any], job: dict[str, Any], context: dict[str, Any], folder: Path) -> int:
    outputs = folder / "outputs"
    outputs.write_text("")
    # The runner knows nothing of Molecule.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    for name, value in {**job.get("env", {}), **step.get("env", {})}.items():
        env[name] = fill(value, context)
    env.update(
        PATH=f"{CACHE / 'venv' / 'bin'}:{env['PATH']}",
        RUNNER_TEMP=str(folder / "temp"),
        GITHUB_ACTIONS="true",
        GITHUB_EVENT_NAME=context["github"]["event_name"],
        GITHUB_OUTPUT=str(outputs),
        GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
    )
    with (folder / "log").open("ab") as log:
        log.write(f"\n--- {step['name']}\n".encode())
        log.flush()
        code = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=WORKSPACE, env=env, stdout=log, stderr=log, check=False).returncode
    found = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    context["steps"][step.get("id", step["name"])] = {"outputs": found}
    return code


def main() -> int:
    event, name, *others = [*sys.argv[1:], sys.argv[1]] if len(sys.argv) == 2 else sys.argv[1:]
    folder = CACHE / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "temp").mkdir(parents=True)
    given = dict(pair.split("=", 1) for pair in others)
    files = {name: given.pop(name, file) for name, file in SECRETS.items()}
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    defaults = {key: value.get("default", "") for key, value in workflow["on"]["workflow_call"]["inputs"].items()}
    context: dict[str, Any] = {
        "inputs": {**defaults, **CALLER, **given},
        "secrets": {"SSH_USER": "deploy", **{key: (CACHE / "secrets" / file).read_text() for key, file in files.items()}},
        "github": {"event_name": event, "run_id": "1", "run_attempt": "1"},
        "steps": {},
    }
    (job,) = workflow["jobs"].values()
    done: dict[str, int] = {}
    for step in job["steps"]:
        condition = str(step.get("if", "True"))
        if (any(done.values()) and "always()" not in condition) or not evaluate(condition, context):
            continue
        done[step["name"]] = 0
        if "uses" in step:
            stand_in(step, context, folder)
        else:
            done[step["name"]] = run(step, job, context, folder)
    (folder / "steps.json").write_text(json.dumps(done))
    failed = [step for step, code in done.items() if code]
    if failed:
        print((folder / "log").read_text()[-6000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
