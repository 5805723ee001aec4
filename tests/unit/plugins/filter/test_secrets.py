# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfhosted.llm.plugins.filter.secrets import FilterModule


def test_filter() -> None:
    weakness = FilterModule().filters()["weakness"]
    assert weakness("short") == "it has 5 characters, fewer than 20"
    assert weakness("Tr0ub4dor&3", 8) == ""


def test_what_an_environment_file_says() -> None:
    values = FilterModule().filters()["environment_values"]
    assert values('A="1"\nLITELLM_MASTER_KEY="sk-\\"x\\$y"\n') == {"A": "1", "LITELLM_MASTER_KEY": 'sk-"x$y'}
    assert values("") == {}


def test_the_text_of_an_environment_file() -> None:
    filters = FilterModule().filters()
    text = filters["environment_text"]({"B": 8080, "A": 'it is "$5"'})
    assert text == 'A="it is \\"\\$5\\""\nB="8080"\n'
    assert filters["environment_values"](text) == {"A": 'it is "$5"', "B": "8080"}
    with pytest.raises(AnsibleFilterError, match="line break"):
        filters["environment_text"]({"A": "1\n2"})
