# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When two values of LiteLLM mean the same: durations, dates, models, money, metadata."""

from __future__ import annotations

import calendar
import hashlib
import re
import typing as t
from datetime import datetime, timedelta, timezone

ALL_MODELS = "all-proxy-models"
# Names in a list of models that stand for others.
SPECIAL_MODELS = (ALL_MODELS, "all-team-models", "no-default-models")

# LiteLLM keeps settings that have an option of their own in the metadata too. Whoever sets metadata does not mean them.
RESERVED_METADATA = frozenset(
    (
        "model_rpm_limit",
        "model_tpm_limit",
        "model_itpm_limit",
        "model_otpm_limit",
        "default_estimated_output_tokens",
        "default_estimated_output_tokens_per_model",
        "mcp_rpm_limit",
        "tag_rpm_limit",
        "rpm_limit_type",
        "tpm_limit_type",
        "enforced_params",
        "temp_budget_increase",
        "temp_budget_expiry",
        "allowed_vector_store_indexes",
        "enforced_batch_output_expires_after",
        "enforced_file_expires_after",
        "throttle_on_budget_exceeded",
        "enable_prompt_caching",
        "end_user_budget_id",
        "disable_global_guardrails",
        "guardrails",
        "policies",
        "tags",
        "team_member_key_duration",
        "team_member_budget_id",
        "prompts",
        "logging",
        "secret_manager_settings",
        "allowed_passthrough_routes",
        "denied_passthrough_routes",
        "service_account_id",
    )
)

_WORDS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d"}
# These, and only these, reset at the same moments in LiteLLM: 120m and 2h do not.
_SAME = {"60s": "1m", "60m": "1h", "24h": "1d", "1w": "7d", "1mo": "30d"}
_DURATION = re.compile(r"(\d+)(s|m|h|d|w|mo)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# LiteLLM takes a duration, not a date: what it makes of it is off by the time that the call takes.
EXPIRY_TOLERANCE = 120.0


def key_hash(value: str) -> str:
    """How LiteLLM stores a key."""
    return hashlib.sha256(value.encode()).hexdigest()


def duration(value: str | None) -> str | None:
    """A duration in one spelling. ValueError for what LiteLLM would store and then reset at its own discretion."""
    if value is None or value == "":
        return None
    text = str(value).strip().lower()
    text = _WORDS.get(text, text)
    match = _DURATION.fullmatch(text)
    if not match or int(match.group(1)) == 0:
        raise ValueError(f"{value!r} is not a duration: write a number and s, m, h, d, w or mo, such as 30d")
    text = f"{int(match.group(1))}{match.group(2)}"
    if match.group(2) == "w" and text not in _SAME:
        text = f"{7 * int(match.group(1))}d"
    return _SAME.get(text, text)


def stored_duration(value: t.Any) -> str | None:
    """A duration as LiteLLM has it, which may be anything."""
    try:
        return duration(value)
    except ValueError:
        return str(value)


def after(start: datetime, value: str) -> datetime:
    """`start` and a duration. Months are those of the calendar, as LiteLLM counts them."""
    match = _DURATION.fullmatch(_WORDS.get(value.strip().lower(), value.strip().lower()))
    if not match:
        raise ValueError(f"{value!r} is not a duration: write a number and s, m, h, d, w or mo, such as 30d")
    number, unit = int(match.group(1)), match.group(2)
    if unit != "mo":
        return start + timedelta(seconds=number * _SECONDS[unit])
    years, month = divmod(start.month - 1 + number, 12)
    year, month = start.year + years, month + 1
    return start.replace(year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1]))


def moment(value: t.Any) -> datetime | None:
    """A date of the API, or one that a person wrote: 2027-01-31, 2027-01-31T12:00:00Z, with an offset, or without, which is UTC."""
    if value is None or value == "":
        return None
    text = str(value).strip().replace(" ", "T", 1)
    if text[-1:] in "zZ":
        text = f"{text[:-1]}+00:00"
    # Python 3.8 to 3.10 read three or six digits only.
    text = re.sub(r"\.(\d+)", lambda match: f".{match.group(1)[:6]:0<6}", text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{value!r} is not a date: write it like 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)


def date_text(value: datetime | None) -> str | None:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None


def same_moment(one: datetime | None, other: datetime | None, current: datetime) -> bool:
    """The same expiry, as far as that can be told. Any two in the past are."""
    if one is None or other is None:
        return one is other
    if one <= current and other <= current:
        return True
    return abs((one - other).total_seconds()) <= EXPIRY_TOLERANCE


def models(value: t.Any) -> list[str]:
    """A list of models as a set; none at all means all of them."""
    names = sorted({str(name) for name in value or []})
    return [] if names == [ALL_MODELS] else names


def money(value: t.Any) -> float | None:
    """A sum: what is not to be told apart in a database column is the same."""
    return None if value is None else float(f"{float(value):.12g}")


def whole(value: t.Any) -> int | None:
    """A limit. 0 is one, and not the same as none."""
    return None if value is None else int(value)


def windows(value: t.Any) -> list[dict[str, t.Any]]:
    """Budgets with a duration each, without the moments of their next reset."""
    found = []
    for window in value or []:
        found.append({"budget_duration": stored_duration(window.get("budget_duration")), "max_budget": money(window.get("max_budget"))})
    return sorted(found, key=lambda window: (str(window["budget_duration"]), window["max_budget"] or 0.0))


def metadata(value: t.Any) -> dict[str, t.Any]:
    """Metadata without what LiteLLM keeps there for itself, and without empty entries, which are how a user's are removed."""
    return {name: entry for name, entry in (value or {}).items() if name not in RESERVED_METADATA and entry is not None}


def reserved(value: t.Any) -> dict[str, t.Any]:
    """The part of metadata that `metadata` leaves out."""
    return {name: entry for name, entry in (value or {}).items() if name in RESERVED_METADATA}


def text(value: t.Any) -> str | None:
    """LiteLLM stores an emptied text as ""."""
    return None if value is None or value == "" else str(value)
