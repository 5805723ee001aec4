# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-ins are programs of their own: their folders go on the path."""

from __future__ import annotations

import sys
from pathlib import Path

OLLAMA = Path(__file__).resolve().parents[2] / "standins" / "ollama"
if str(OLLAMA) not in sys.path:
    sys.path.insert(0, str(OLLAMA))
