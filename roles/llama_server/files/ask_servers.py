# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks each server for its health and its models, and those with a key with it, with a wrong one and with none.

Keys come by standard input; what goes out has none. [{"unit": …, "url": …, "alias": …, "key": … or ""}] -> {unit: [what is wrong]}
"""

import json
import sys
import urllib.error
import urllib.request

# A host's proxy is not for its own addresses.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, key=""):
    """Status and body of an answer; status 0 and the reason where there is none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except OSError as error:
        return 0, str(error)


def problems(server):
    status, text = ask(f"{server['url']}/health")
    if status != 200:
        yield f"/health answers {status or 'nothing'}: {text.strip()[:200]}"
        return
    status, text = ask(f"{server['url']}/v1/models", server["key"])
    try:
        names = [model["id"] for model in json.loads(text)["data"]]
    except (ValueError, LookupError, TypeError):
        names = []
    if status != 200 or server["alias"] not in names:
        yield f"/v1/models answers {status or 'nothing'} and has {', '.join(names) or 'no model'}, not {server['alias']}"
    if server["key"]:
        # One of the paths that no version of llama-server answers without a key.
        asked = [ask(f"{server['url']}/props", key)[0] for key in (server["key"].split(",")[0], f"wrong-{server['key']}", "")]
        if asked != [200, 401, 401]:
            yield f"its key, a wrong one and none should be answered with 200, 401 and 401, and are with {', '.join(map(str, asked))}"


found = {server["unit"]: list(problems(server)) for server in json.load(sys.stdin)}
print(json.dumps({unit: wrong for unit, wrong in found.items() if wrong}))
