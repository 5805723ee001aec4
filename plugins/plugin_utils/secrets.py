# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a secret is not one."""

from __future__ import annotations

import math
import re

# Keys and passwords of tutorials, which scanners try first.
_PLACEHOLDERS = re.compile(
    r"(^(sk-)?1234|123456|change[-_ ]?me|change[-_ ]?this|password|secret[-_]?key|your[-_]"
    r"|example|placeholder|dummy|test[-_]?key|xxxx|<.*>|\$\{)",
    re.IGNORECASE,
)


def weakness(secret: object, minimum: int = 20) -> str:
    """What is wrong with a secret in a few words that do not repeat it, or "" where nothing is."""
    if not isinstance(secret, str) or not secret:
        return "it is empty"
    if len(secret) < minimum:
        return f"it has {len(secret)} characters, fewer than {minimum}"
    if secret != secret.strip() or re.search(r"\s", secret):
        return "it contains white space"
    if _PLACEHOLDERS.search(secret):
        return "it looks like a placeholder from a tutorial"
    counts = [secret.count(char) / len(secret) for char in set(secret)]
    bits = -sum(share * math.log2(share) for share in counts) * len(secret)
    if bits < 2.5 * minimum:
        return "it repeats few characters"
    return ""
