"""The time zones that pandas takes beside those of the standard library: pytz's and dateutil's, where they are equal."""

from __future__ import annotations

from datetime import UTC, datetime, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from mpccomm.codec.abc import Refusal
from mpccomm.interrupts import is_interrupt

_LIBRARIES: Final = ("pytz", "dateutil")


def standard(zone: Any, moments: pd.DatetimeIndex) -> tzinfo | None:
    """Return *zone*, or for one of another library the zone of that name, if all *moments* (in UTC) are the same in it."""
    if zone is None or type(zone).__module__.partition(".")[0] not in _LIBRARIES:
        return zone  # type: ignore[no-any-return]
    named = _named(zone)
    if named is None or not _same(moments, zone, named):
        raise Refusal(
            f"has the time zone {zone!r}, which is not the same as any of the standard library's; "
            "convert it with tz_convert to a zoneinfo.ZoneInfo or a datetime.timezone"
        )
    return named


def _named(zone: Any) -> tzinfo | None:
    # What pytz calls its zones, and what pandas asks of dateutil's.
    name = getattr(zone, "zone", None) or getattr(zone, "_filename", None)
    if name:
        for start in range(name.count("/") + 1):
            try:
                return ZoneInfo("/".join(name.split("/")[start:]))
            except (ValueError, KeyError, OSError) as error:
                if is_interrupt(error):
                    raise
    if type(zone).__name__ in ("UTC", "tzutc"):
        return UTC
    if type(zone).__name__ in ("_FixedOffset", "tzoffset"):
        return timezone(zone.utcoffset(datetime(2000, 1, 1)))
    return None


def _same(moments: Any, *zones: Any) -> bool:
    try:
        one, other = (moments.tz_convert(zone).tz_localize(None).asi8 for zone in zones)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        if is_interrupt(error):
            raise
        # pandas does not get along with every release of these libraries.
        return False
    return bool(np.array_equal(one, other))
