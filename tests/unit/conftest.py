# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes `ansible_collections.selfhosted.llm` the tree that this file is in, whatever its folder is called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".collections"

sys.path.insert(0, str(COLLECTIONS))
collections = importlib.import_module("ansible_collections")
if str(COLLECTIONS / "ansible_collections") not in list(collections.__path__):
    # The `ansible` package ships `ansible_collections` as a regular package, which wins over the link; its path can be added to.
    collections.__path__.insert(0, str(COLLECTIONS / "ansible_collections"))
