# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module whose options stay out of the host's journal."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):
    """For modules that get secrets of several lines, such as keys: Ansible hides one of a single line only where it logs the options.

    AnsibleModule(no_log=True) does not keep them out, as what the task says of no_log takes its place.
    """

    def _log_invocation(self) -> None:
        """Not to be logged."""
