"""Run by the release's interpreter, with its OpenAI SDK: what a program makes of a refusal. Prints class and code for each KEY=MODEL."""

from __future__ import annotations

import sys

import openai

for argument in sys.argv[1:]:
    key, _, model = argument.partition("=")
    client = openai.OpenAI(base_url="http://127.0.0.1:4000/v1", api_key=key, max_retries=0, timeout=60)
    try:
        client.chat.completions.create(model=model, max_tokens=4, messages=[{"role": "user", "content": "hello"}])
        print("answered")
    except openai.APIStatusError as exc:
        print(type(exc).__name__, exc.code, exc.status_code)
