# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Space on the Hugging Face Hub, through the official client library `huggingface_hub`."""

from __future__ import annotations

import os
import tempfile
import typing as t
import warnings
from collections import deque

DEFAULT_ENDPOINT = "https://huggingface.co"
LIBRARY = "huggingface_hub"


class HubError(Exception):
    """What the Hub refused, or why it was not reached. The message says what to change."""


class Runtime(t.NamedTuple):
    """`sha` is the commit that the stage is about, "" where the Hub does not say; `error` is its own explanation of a failed stage."""

    stage: str
    sha: str
    error: str


class Space(t.NamedTuple):
    private: bool
    sha: str
    url: str


def _load(endpoint: str) -> t.Any:
    # The library reads these when it is imported.
    os.environ["HF_ENDPOINT"] = endpoint
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as exc:
        raise HubError(
            f"the Python library {LIBRARY} is missing on the host that publishes ({exc}). Install it for the Python that runs the modules "
            f"there: pip install 'huggingface_hub>=2.4,<3'"
        ) from exc
    return huggingface_hub


def runtime_of(raw: t.Mapping[str, t.Any]) -> Runtime:
    return Runtime(str(raw.get("stage") or ""), str(raw.get("sha") or ""), str(raw.get("errorMessage") or ""))


class Hub:
    """Calls of the library for one Space. Every failure is a HubError."""

    def __init__(self, repository: str, token: str, endpoint: str) -> None:
        self.repository = repository
        self.endpoint = (endpoint or DEFAULT_ENDPOINT).rstrip("/")
        self._library = _load(self.endpoint)
        self._api = self._library.HfApi(endpoint=self.endpoint, token=token)
        # Of the HTTP client that the library uses, whichever that is.
        self._transport_error: type[BaseException] = next(
            base for base in self._library.errors.HfHubHTTPError.__mro__ if base.__module__.split(".")[0] in ("httpx2", "httpx", "requests")
        )

    def _call(self, what: str, name: str, *args: t.Any, **options: t.Any) -> t.Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return getattr(self._api, name)(*args, **options)
        except Exception as exc:
            raise self._explained(what, exc) from exc

    def _explained(self, what: str, exc: Exception) -> HubError:
        status = getattr(getattr(exc, "response", None), "status_code", None)
        if status == 401:
            return HubError(
                f"{self.endpoint} refuses the token ({what}). Make one with the right to write at {self.endpoint}/settings/tokens"
            )
        if status == 403:
            return HubError(
                f"the token may not {what} of {self.repository}. It needs the right to write to Spaces of {self.repository.split('/')[0]}; "
                f"{self.endpoint}/settings/tokens shows what it may"
            )
        detail = getattr(exc, "server_message", None) or str(exc).strip() or type(exc).__name__
        if status is None and isinstance(exc, (OSError, TimeoutError, self._transport_error)):
            return HubError(f"{self.endpoint} did not answer ({what}): {detail}")
        if status is None:
            return HubError(f"{LIBRARY} could not {what}: {detail}")
        return HubError(f"{self.endpoint} answered with HTTP {status} ({what}): {detail}")

    def check_token(self) -> str:
        """The name of whose token it is. A token that can only read is refused here, before anything is changed."""
        who = self._call("look whose token it is", "whoami")
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise HubError(
                f"the token of {who.get('name')} can only read. Make one with the right to write at {self.endpoint}/settings/tokens"
            )
        return str(who.get("name") or "")

    def space(self) -> Space | None:
        try:
            info = self._api.space_info(self.repository)
        except self._library.errors.RepositoryNotFoundError:
            return None
        except Exception as exc:
            raise self._explained("look at the Space", exc) from exc
        return Space(bool(info.private), str(info.sha or ""), str(info.host or "").rstrip("/"))

    def create(self, private: bool) -> None:
        self._call("create the Space", "create_repo", self.repository, repo_type="space", space_sdk="docker", private=private)

    def set_private(self, private: bool) -> None:
        self._call("change the visibility", "update_repo_settings", self.repository, repo_type="space", private=private)

    def tree(self) -> dict[str, str]:
        """Git's id of each file's content, by path."""
        listing = self._call("list the files", "list_repo_tree", self.repository, repo_type="space", recursive=True)
        try:
            return {entry.path: entry.blob_id for entry in listing if hasattr(entry, "blob_id")}
        except Exception as exc:
            raise self._explained("list the files", exc) from exc

    def read(self, path: str, revision: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            name = self._call(
                "read a file", "hf_hub_download", self.repository, path, repo_type="space", revision=revision, local_dir=folder
            )
            with open(name, encoding="utf-8", errors="replace") as file:
                return file.read()

    def commit(self, message: str, files: t.Mapping[str, str], deleted: t.Sequence[str], parent: str) -> str:
        operations: list[t.Any] = [
            self._library.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content.encode()) for path, content in files.items()
        ]
        operations += [self._library.CommitOperationDelete(path_in_repo=path) for path in deleted]
        done = self._call(
            "commit",
            "create_commit",
            self.repository,
            operations,
            commit_message=message,
            repo_type="space",
            parent_commit=parent or None,
        )
        return str(done.oid)

    def secrets(self) -> dict[str, str]:
        """Their descriptions by name. Nobody can read their values."""
        found = self._call("list the secrets", "get_space_secrets", self.repository)
        return {name: secret.description or "" for name, secret in found.items()}

    def set_secret(self, name: str, value: str, description: str) -> None:
        self._call("set a secret", "add_space_secret", self.repository, name, value, description=description)

    def delete_secret(self, name: str) -> None:
        self._call("delete a secret", "delete_space_secret", self.repository, name)

    def variables(self) -> dict[str, tuple[str, str]]:
        """Values and descriptions by name."""
        found = self._call("list the variables", "get_space_variables", self.repository)
        return {name: (variable.value, variable.description or "") for name, variable in found.items()}

    def set_variable(self, name: str, value: str, description: str) -> None:
        self._call("set a variable", "add_space_variable", self.repository, name, value, description=description)

    def delete_variable(self, name: str) -> None:
        self._call("delete a variable", "delete_space_variable", self.repository, name)

    def runtime(self) -> Runtime:
        return runtime_of(self._call("ask for the stage", "get_space_runtime", self.repository).raw)

    def restart(self) -> None:
        self._call("restart the Space", "restart_space", self.repository)

    def log(self, build: bool, lines: int) -> list[str]:
        """The end of the log of the build, or of the container. What cannot be read is told in its place."""
        try:
            text = self._api.fetch_space_logs(self.repository, build=build)
            return [line.rstrip("\n") for line in deque(text, maxlen=lines)]
        except Exception as exc:
            return [f"(the log cannot be read: {self._explained('read the log', exc)})"]
