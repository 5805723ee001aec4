# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts LiteLLM in its container, with secrets from a file: what Docker puts into an environment, `docker inspect` shows."""

import contextlib
import json
import os
from pathlib import Path

os.environ.update(json.loads(Path("/run/secrets/litellm").read_text(encoding="utf-8")))

# Each start would compare the schema, and hand the URL of the database, password included, to a command line. The migration has done that.
with contextlib.suppress(ImportError):
    from litellm.proxy.db import check_migration

    check_migration.check_prisma_schema_diff = lambda **_: None

from litellm import run_server

if __name__ == "__main__":
    raise SystemExit(run_server())
