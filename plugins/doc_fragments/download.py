# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the modules that download have in common."""

    DOCUMENTATION = r"""
options:
  ca_path:
    description: PEM bundle of the CAs to trust. It replaces the host's.
    type: path
  proxy_url:
    description: Proxy for HTTP and HTTPS. The default is what the environment says.
    type: str
  no_proxy:
    description: Hosts to reach without O(proxy_url), separated by commas.
    type: str
  timeout:
    description: Seconds without data after which a try is given up.
    type: int
    default: 60
  retries:
    description: How often an interrupted download is tried again. It goes on from where it stopped.
    type: int
    default: 3
"""
