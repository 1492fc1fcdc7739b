"""Telling exceptions that a signal handler raised from those of the interrupted code itself.

A signal handler may raise between any two instructions. In the codec what it raises passes through the ``except`` clauses that
turn the errors of constructors into a `DecodingError`, and must come out as it is, so that the caller can put the message back.
(ormsgpack keeps nothing of what its hooks raise: it is never given one in which Python code runs.) In a pool's work on its event
loop it leaves a step half done, which must be known. Handlers run in the main thread only.
"""

from __future__ import annotations

import signal
from opcode import opmap
from threading import get_ident, main_thread
from types import CodeType, FrameType
from typing import Final

_CODEC: Final = "mpccomm.codec."
_RAISE: Final = opmap["RAISE_VARARGS"]


def is_interrupt(error: BaseException) -> bool:
    """Return whether *error* was raised by a signal handler, or a trace function, that ran in between.

    The interpreter calls both with the frame that it interrupted; no call that the codec, or a class of the user, makes
    by itself hands its own frame over. A handler that has let go of that frame is known by its code.
    """
    handlers: set[CodeType] | None = None
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        interrupted = traceback.tb_frame
        traceback = traceback.tb_next
        if str(traceback.tb_frame.f_globals.get("__name__")).startswith(_CODEC):
            continue  # Nothing here is a handler. To ask for those that there are takes a while.
        if handlers is None:
            handlers = _handlers()
        if traceback.tb_frame.f_code in handlers or _was_given(traceback.tb_frame, interrupted):
            return True
    return False


def is_strike(error: BaseException) -> bool:
    """Return whether *error* struck our code from outside: as `is_interrupt`, or Ctrl-C, whose handler leaves no frame behind."""
    if is_interrupt(error):
        return True
    return isinstance(error, KeyboardInterrupt) and get_ident() == main_thread().ident and not _raised_in_python(error)


def _raised_in_python(error: BaseException) -> bool:
    """Return whether a ``raise`` of Python code, say of a class of the user, is where *error* comes from."""
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    # Signals are looked for by other instructions than this one.
    return traceback.tb_lasti >= 0 and traceback.tb_frame.f_code.co_code[traceback.tb_lasti] == _RAISE


def _handlers() -> set[CodeType]:
    """Return the code of the program's handlers of signals."""
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            # A function, a method, or an object that is called.
            for one in (handler, getattr(handler, "__func__", None), type(handler).__call__):
                code = getattr(one, "__code__", None)
                if code is not None:
                    found.add(code)
    return found


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    for argument in frame.f_locals.values():
        if argument is interrupted or (type(argument) is tuple and any(item is interrupted for item in argument)):
            return True
    return False
