# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which paths of LiteLLM are open at the edge, and which of them may be asked twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

VARS = yaml.safe_load((Path(__file__).resolve().parents[3] / "roles/reverse_proxy/vars/main.yml").read_text(encoding="utf-8"))


def matches(kind: str, path: str) -> bool:
    return any(re.search(pattern, path) for pattern in VARS[f"_reverse_proxy_{kind}_paths"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/responses",
        "/openai/v1/responses",
        "/v1/audio/transcriptions",
        "/v1/images/generations",
        "/v1/rerank",
        "/v2/rerank",
        "/v1/moderations",
        "/engines/phi3/chat/completions",
        "/openai/deployments/huggingface/Qwen/Qwen2.5/chat/completions",
        "/v1beta/models/gemini-pro:streamGenerateContent",
        "/models/org/model:generateContent",
    ],
)
def test_open_and_repeatable(path: str) -> None:
    assert matches("repeatable", path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/models",
        "/v1/models/org/model",
        "/v1/files",
        "/v1/files/file-1/content",
        "/v1/batches/1/cancel",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
        "/v1/threads/1/runs",
        "/v1/realtime",
        "/openai/v1/realtime",
        "/v1/vector_stores/1/search",
        "/v1/fine_tuning/jobs",
        "/health/liveliness",
        "/health/liveness",
        "/health/readiness",
    ],
)
def test_open_and_asked_once(path: str) -> None:
    assert matches("client", path)
    assert not matches("repeatable", path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ui",
        "/ui/",
        "/litellm-asset-prefix/_next/x.js",
        "/sso/key/generate",
        "/login",
        "/v2/login",
        "/key/generate",
        "/key/info",
        "/key/sk-1/regenerate",
        "/v2/key/info",
        "/user/new",
        "/team/new",
        "/v2/team/list",
        "/organization/new",
        "/customer/new",
        "/budget/new",
        "/model/new",
        "/model/info",
        "/v1/model/info",
        "/v2/model/info",
        "/model_group/info",
        "/config/update",
        "/config/yaml",
        "/credentials",
        "/get/config/callbacks",
        "/spend/logs",
        "/global/spend/reset",
        "/metrics",
        "/metrics/",
        "/health",
        "/health/services",
        "/health/drain",
        "/health/readiness/details",
        "/health/test_connection",
        "/cache/flushall",
        "/debug/memory/summary",
        "/routes",
        "/openapi.json",
        "/redoc",
        "/guardrails/list",
        "/v1/mcp/server",
        "/mcp",
        "/v1/access_group",
        "/v1/tool/policy",
        "/v1/agents",
        "/vertex_ai/v1/projects",
        "/openai/v1/files",
        "/anthropic/v1/messages",
        "/bedrock/model/x/invoke",
        "/v1/modelsX",
        "/x/v1/chat/completions",
        "/v1/chat/completions/../../key/generate",
    ],
)
def test_closed(path: str) -> None:
    assert not matches("client", path)
    assert not matches("repeatable", path)
