"""The time zones that pandas takes beside those of the standard library: pytz's and dateutil's, where they are equal."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from mpccomm.codec.refusal import Refusal

_LIBRARIES: Final = ("pytz", "dateutil")


def standard(zone: Any, moments: pd.DatetimeIndex) -> tzinfo | None:
    """Return *zone*, or for one of another library the zone of that name, if all *moments* (in UTC) are the same in it."""
    if zone is None or type(zone).__module__.partition(".")[0] not in _LIBRARIES:
        return zone  # type: ignore[no-any-return]
    named = _named(zone, moments)
    if named is None or not _same(moments.tz_convert(zone), moments.tz_convert(named)):
        raise Refusal(
            f"has the time zone {zone!r}, which is not the same as any of the standard library's; "
            "convert it with tz_convert to a zoneinfo.ZoneInfo or a datetime.timezone"
        )
    return named


def _named(zone: Any, moments: pd.DatetimeIndex) -> tzinfo | None:
    # What pytz calls its zones, and what pandas asks of dateutil's.
    name = getattr(zone, "zone", None) or getattr(zone, "_filename", None)
    if name:
        for start in range(name.count("/") + 1):
            try:
                return ZoneInfo("/".join(name.split("/")[start:]))
            except (ValueError, KeyError, OSError):
                continue
    if type(zone).__name__ in ("UTC", "tzutc"):
        return UTC
    offset = zone.utcoffset(None) if type(zone).__name__ in ("_FixedOffset", "tzoffset") else None
    return None if offset is None else timezone(timedelta(seconds=offset.total_seconds()))


def _same(moments: Any, others: Any) -> bool:
    return bool(np.array_equal(moments.tz_localize(None).asi8, others.tz_localize(None).asi8))
