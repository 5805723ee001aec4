# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of `ollama`: serve, and those that ask a running server."""

from __future__ import annotations

import sys
from typing import Callable

from ollama_standin import VERSION
from ollama_standin.client import Client, ClientError, NotRunningError
from ollama_standin.config import from_environment

_USAGE = """Large language model runner

Usage:
  ollama [flags]
  ollama [command]

Available Commands:
  serve        Start Ollama
  show         Show information for a model
  run          Run a model
  stop         Stop a running model
  pull         Pull a model from a registry
  list         List models
  ps           List running models
  cp           Copy a model
  rm           Remove a model

Flags:
  -h, --help         help for ollama
  -v, --version      Show version information

This is a stand-in: commands that are not listed are missing.
"""
_SERVE_USAGE = """Start Ollama

Usage:
  ollama serve [flags]

Aliases:
  serve, start

Flags:
  -h, --help   help for serve
"""
_NOT_RUNNING = "could not connect to ollama server, run 'ollama serve' to start it"


def _serve(_arguments: list[str]) -> int:
    from ollama_standin.serve import serve

    return serve(from_environment())


def _version() -> int:
    try:
        running = Client(from_environment()).get("/api/version")["version"]
    except NotRunningError:
        print("Warning: could not connect to a running Ollama instance")
        print(f"Warning: client version is {VERSION}")
        return 0
    print(f"ollama version is {running}")
    if running != VERSION:
        print(f"Warning: client version is {VERSION}")
    return 0


def _commands() -> dict[str, Callable[[list[str]], int]]:
    from ollama_standin import commands

    return {
        "list": commands.list_models,
        "ls": commands.list_models,
        "ps": commands.list_running,
        "show": commands.show,
        "pull": commands.pull,
        "rm": commands.remove,
        "cp": commands.copy,
        "stop": commands.stop,
        "run": commands.run,
    }


def main(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if command in ("-v", "--version"):
            return _version()
        if command in ("-h", "--help", "help"):
            print(_USAGE, end="")
            return 0
        if command in ("serve", "start"):
            if "-h" in rest or "--help" in rest:
                print(_SERVE_USAGE, end="")
                return 0
            return _serve(rest)
        if command.startswith("-"):
            raise ClientError(f"unknown flag: {command}")
        known = _commands()
        if command not in known:
            raise ClientError(f'unknown command "{command}" for "ollama"')
        return known[command](rest)
    except NotRunningError:
        print(f"Error: {_NOT_RUNNING}", file=sys.stderr)
    except ClientError as error:
        print(f"Error: {error}", file=sys.stderr)
    return 1
