# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the modules with an action plugin that shows their progress have in common."""

    DOCUMENTATION = r"""
options:
  progress_interval:
    description: Seconds between two lines of progress. V(0) shows none.
    type: int
    default: 5
  progress_file:
    description: File that the module keeps the state of long work in, as JSON. Set by the action plugin, which shows it.
    type: path
"""
