# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of TCP ports as an inventory has them: 8080, "8080-8087", "8080-8083,8090", or a list of such."""

from __future__ import annotations

import re
import typing as t

# A range with a digit too many would make a configuration that nobody wants to read.
MOST = 256

_RANGE = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?\Z")


def port_list(value: t.Any) -> list[int]:
    """The ports, in the order in which they are written. Raises ValueError with words that follow the name of a variable."""
    parts = [part for item in (value if isinstance(value, list) else [value]) for part in str(item).split(",")]
    ports: list[int] = []
    for part in parts:
        match = _RANGE.match(part.strip()) if not isinstance(value, bool) else None
        if not match:
            raise ValueError(f'must be a range of ports such as "8080-8087", not {value!r}')
        first = int(match[1])
        last = int(match[2] or first)
        if not 0 < first <= last <= 65535:
            raise ValueError(f"has {part.strip()}, and a range goes upwards, from 1 to 65535")
        if len(ports) + last - first >= MOST:
            raise ValueError(f"has more than {MOST} ports")
        ports += range(first, last + 1)
    if not ports:
        raise ValueError("is empty: name at least one port")
    twice = sorted({port for port in ports if ports.count(port) > 1})
    if twice:
        raise ValueError(f"has {', '.join(map(str, twice))} twice")
    return ports
