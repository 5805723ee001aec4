# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the modules for LiteLLM's management API have in common."""

    DOCUMENTATION = r"""
options:
  url:
    description: Base URL of the gateway, without C(/v1). It is called directly, never through a proxy.
    type: str
    default: http://127.0.0.1:4000
  master_key:
    description: Master key of the gateway.
    type: str
    required: true
  ca_path:
    description: PEM bundle of the CAs to trust, where O(url) is HTTPS. The default are those of the host.
    type: path
  validate_certs:
    description: Whether to verify the certificate of an O(url) that is HTTPS.
    type: bool
    default: true
  timeout:
    description: Seconds without any sign of life from the gateway after which a call is given up.
    type: int
    default: 60
attributes:
  action_group:
    description: Use C(group/selfhosted.llm.litellm) in C(module_defaults) to set the connection once.
    support: full
    membership:
      - selfhosted.llm.litellm
notes:
  - Everything but the models is stored in the gateway's database, so it needs one (C(litellm_proxy_database_url)).
"""

    RECONCILE = r"""
options:
  concurrency:
    description: How many requests that read or change something are under way at once.
    type: int
    default: 8
attributes:
  check_mode:
    description: Can run in check mode and return what would change. A gateway that does not run yet counts as having nothing.
    support: full
  diff_mode:
    description: Returns what changes of each item, before and after. A key's value is never part of it.
    support: full
"""
