"""SIGTERM, where the program has not said what it means: to end as by ``sys.exit``, having delivered what was sent.

Otherwise the system would end the process where it stands, and the other parties would wait for it.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import NoReturn


def handle_sigterm() -> None:
    """Called where a pool starts; does nothing outside the main thread, or where there is a handler already."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # A second one ends it at once.
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)
