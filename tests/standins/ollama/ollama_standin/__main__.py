# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python3 -m ollama_standin`, and the entry of the packed program."""

from __future__ import annotations

import sys

from ollama_standin.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
