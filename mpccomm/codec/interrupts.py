"""Telling what struck the codec from what the codec found.

A signal handler may raise between any two instructions, and what it raises then passes through the ``except`` clauses
that turn the errors of constructors into a `DecodingError`. It must come out as it is, so that the caller can put the
message back. (ormsgpack keeps nothing of what its hooks raise: it is never given one in which Python code runs.)
"""

from __future__ import annotations

from types import FrameType


def is_interrupt(error: Exception) -> bool:
    """Return whether *error* was raised by a signal handler, or a trace function, that ran in between.

    The interpreter calls both with the frame that it interrupted; no call that the codec, or a class of the user, makes
    by itself hands its own frame over.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        interrupted = traceback.tb_frame
        traceback = traceback.tb_next
        if _was_given(traceback.tb_frame, interrupted):
            return True
    return False


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    for argument in frame.f_locals.values():
        if argument is interrupted or (type(argument) is tuple and any(item is interrupted for item in argument)):
            return True
    return False
