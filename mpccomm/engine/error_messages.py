"""The texts of errors: each names the party, its address, what happened, and the next step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, TypeVar

from mpccomm import errors
from mpccomm.address import no_name
from mpccomm.display import plural
from mpccomm.engine.deadlines import RemainingTime, describe_limit
from mpccomm.engine.party_log import IS_FULL, describe_box
from mpccomm.engine.requests import TIMED_OUT, ReceiveCall, SendCall
from mpccomm.engine.states import GivenUp, RequestState
from mpccomm.protocol.frames import NO_PORT, describe_key, is_of_group
from mpccomm.protocol.states import Cause, Ending

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty

T = TypeVar("T")

_MOST_LISTED = 8
"""How many parties of one call a text names."""
_MAY_ARRIVE = "; the message may still arrive: once sent, it isn't withdrawn."


def explain(party: RemoteParty, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    """Return the error that a call raises which ended for that cause."""
    return _ERRORS[cause.ending](party, _action(call), cause, call)


def split_by(error: BaseException) -> errors.PoolClosedError:
    """Return the error for all calls of a pool whose work was split by what a signal handler raised."""
    told = errors.PoolClosedError(
        f"a signal handler raised {type(error).__name__} in the middle of what this pool does on its event loop, and what was done "
        "of that is not known: the pool has ended. On an event loop let no signal handler raise (there are asyncio.timeout and "
        "loop.add_signal_handler), or take SyncPool, whose loop is out of their reach; and make a new pool"
    )
    told.__cause__ = error
    return told


def no_party(name: object, parties: Collection[str], *, sends: bool = False) -> TypeError | errors.UnknownPartyError:
    """Return the error for what is asked for as a party, and is none: no text, or the name of no party."""
    if not isinstance(name, str):
        hint = ""
        if sends:
            # Perhaps the message came first.
            hint = "; of a send it is the first argument: send(name, message)"
        elif isinstance(name, list | tuple | set | frozenset):
            hint = "; from several parties receive recv_all and recv_any"
        return no_name(name, hint)
    known = ", ".join(map(repr, parties)) or "none yet"
    near = errors.nearest(name, parties)
    remedy = "add it with add_http_client" if near is None else f"did you mean {near!r}?"
    return errors.UnknownPartyError(f"no party {name!r} was added to this pool (there are: {known}); {remedy}")


def own_name(name: str, where: str = "") -> str:
    """Return the text that says that a party has the name of this pool itself; ``where`` it is, if it was added already."""
    at = f", and the party at {where} was added as {name!r} too" if where else ""
    return (
        f"{name!r} is this pool's own name{at}: each party needs its own; give one of the two another name (name=, me=)"
    )


class ByName(dict[str, T]):
    """What there is for each party, by its name. One who asks for a party that is not among them is told which there are."""

    def __getitem__(self, name: str) -> T:
        try:
            return super().__getitem__(name)
        except TypeError:
            raise no_party(name, self) from None

    def __missing__(self, name: object) -> NoReturn:
        # Of any kind, as it has to be a KeyError: ``in`` and ``get`` of what is made of this ask for it.
        raise errors.UnknownPartyError(str(no_party(name, self)))


def why_not_ready(party: RemoteParty) -> str:
    """Return why frames do not flow with a party, and what to do about it, where that is known."""
    closed, ending = party.closed, party.link.ending
    if closed is not None:
        barred = closed.ending is GivenUp.BARRED
        return (
            f"it is kept out: {closed.reason}; to let it in again: readmit({party.name!r})" if barred else closed.reason
        )
    if ending is None:
        return party.trouble
    if ending.ending is Ending.RESTARTED:
        return (
            "it was restarted and knows nothing of what went before; to go on with the new process call "
            f"accept_restart({party.name!r})"
        )
    aborted = f"it has aborted: {ending.reason or 'no reason given'}"
    return f"{aborted if ending.ending is Ending.ABORTED else 'it has shut down'}; {party.trouble}"


def step_to_reach(parties: Iterable[RemoteParty]) -> str:
    """Return sentences that say what to look at where some of these can't be reached; otherwise an empty text."""
    unreached = [
        party for party in parties if not (party.link.connected or party.closed or party.link.ending or party.answers)
    ]
    unheard = {party.name: party for party in unreached if party.step is None}
    steps = [_is_running(*unheard)] if unheard else []
    steps += dict.fromkeys(party.step for party in unreached if party.step)
    if any(":" in party.addr and party.trouble.startswith("connection refused") for party in unreached):
        steps.append('What is reached by IPv6 has to listen there: add_http_server(addr="::").')
    if any(_could_call(party) for party in unreached):
        steps.append("No party can call this pool, as it has no server: add_http_server.")
    return "".join(f" {step}" for step in steps)


def _could_call(party: RemoteParty) -> bool:
    """Return whether a party that can't be reached could call us, if this pool had a server, which it has not."""
    # Nothing comes in through a forward proxy or past a relay.
    return party.link.port == NO_PORT and not party.relays and party.proxy is None and party.step != ""


def _is_running(*names: str) -> str:
    if len(names) == 1:
        return f"Is {names[0]} running, and are address and port right on both sides?"
    return "Are they running, and are addresses and ports right on all sides?"


def _action(call: ReceiveCall | SendCall) -> str:
    if isinstance(call, ReceiveCall):
        return f"receiving {describe_key(call.key)} from {call.party}"
    if call.state is RequestState.NEW:
        return f"sending to {call.party}"
    return f"sending {describe_key(call.key)} to {call.party}"


def explain_all(calls: Sequence[ReceiveCall | SendCall], *, any_of: bool = False) -> Exception:
    """Return the error for all of one request whose time is up, receives or sends; with ``any_of``, one of them would have done."""
    first = calls[0]
    if len(calls) == 1:
        return _timed_out(first.party, _action(first), TIMED_OUT, first)
    receiving = isinstance(first, ReceiveCall)
    direction = "from" if receiving else "to"
    listed = calls[:_MOST_LISTED]
    ids = {describe_key(call.key) for call in listed}
    if len(ids) == 1:
        what = f"{ids.pop()} {direction} {', '.join(str(call.party) for call in listed)}"
    else:
        what = ", ".join(f"{describe_key(call.key)} {direction} {call.party}" for call in listed)
    states: dict[str, list[str]] = {}
    for call in listed:
        states.setdefault(_state(call), []).append(call.party.name)
    found = "; ".join(
        f"{'' if len(names) == 1 else 'for each of '}{', '.join(names)}: {state}" for state, names in states.items()
    )
    more = f" and {len(calls) - _MOST_LISTED:,} more" if len(calls) > _MOST_LISTED else ""
    hint = (
        f"No message is lost: {_who_gets_it(first)}."
        if receiving
        else "What was sent may still arrive: once sent, it isn't withdrawn."
    )
    return errors.CommunicationTimeoutError(
        f"{'receiving' if receiving else 'sending'} {'any of ' if any_of else ''}{what}{more} {_took(first)}; {found}. {hint}"
        f"{step_to_reach(call.party for call in calls)}"
    )


def _timed_out(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    hint = f". The message is not lost: {_who_gets_it(call)}." if isinstance(call, ReceiveCall) else _MAY_ARRIVE
    return errors.CommunicationTimeoutError(f"{what} {_took(call)}; {_state(call)}{hint}{step_to_reach((party,))}")


def _who_gets_it(call: ReceiveCall | SendCall) -> str:
    return "resume() of the group goes on with this call" if is_of_group(call.key) else "the next receive gets it"


def _took(call: ReceiveCall | SendCall) -> str:
    limit = call.timeout if isinstance(call, ReceiveCall) else call.limits.seconds
    if limit or isinstance(limit, RemainingTime):
        return f"took longer than {describe_limit(limit)}"
    return "found no message"


def _state(call: ReceiveCall | SendCall) -> str:
    """Return the state of the call's party, in words."""
    party = call.party
    if not party.link.connected:
        state = f"it is not connected: {party.trouble}"
    elif party.not_taken and not isinstance(call, ReceiveCall):
        state = f"it is there, but does not take what is sent: {party.not_taken}"
    elif party.link.sender.held_back and not isinstance(call, ReceiveCall):
        state = IS_FULL
    else:
        state = "it is connected"
    return f"{state}; {describe_box(party)}" if isinstance(call, ReceiveCall) else state


def _shut_down(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.PartyShutDownError(f"{what}: it has shut down. {_after_the_end(party)}")


def _after_the_end(party: RemoteParty) -> str:
    """Return how to go on with the next process of a party that has shut down, or the next pool of it."""
    if not party.link.left_something:
        return "If it is to run again, start it and wait for it with wait_ready()."
    return (
        "Something was under way: if it is to run again, start it, receive what it sent before, and call "
        f"accept_restart({party.name!r}) when it is there."
    )


def _aborted(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.PartyAbortedError(
        f"{what}: it has aborted: {cause.reason or 'no reason given'}. Start the protocol again on all parties.",
        cause.reason,
    )


def _restarted(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.PartyRestartedError(
        f"{what}: it was restarted and knows nothing of what went before. "
        f"To go on with the new process call accept_restart({party.name!r})."
    )


def _deadlock(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    if cause.ending is Ending.MUTUAL:
        why = "both boxes are full, and both programs wait in a send. Receive before sending more, or raise the limits of the box."
    elif isinstance(call, ReceiveCall):
        why = f"its messages are held back by our full box; {describe_box(party)}. Receive those first."
    else:
        why = (
            "its box is full of messages that it does not receive, while it waits for a later one. It may still arrive."
        )
    return errors.DeadlockError(f"{what}: a deadlock: {why}")


def _unreachable(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    hint = "." if isinstance(call, ReceiveCall) else _MAY_ARRIVE
    return errors.PartyUnreachableError(f"{what}: it can't be reached: {cause.reason}{hint}{step_to_reach((party,))}")


def _refused(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.MessageTooLargeError(
        f"{what}: the message exceeds what it takes ({plural(party.link.max_message_size, 'byte')}). There, the receive of it "
        "raises. Send it in pieces, or raise the limits there."
    )


def _untrusted(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.AuthenticationError(f"{what}: no connection: {cause.reason}")


def _barred(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.PartyGoneError(
        f"{what}: it is kept out: {cause.reason}. To let it in again: readmit({party.name!r})."
    )


def _closed(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    if isinstance(call, SendCall) and call.state is not RequestState.NEW:
        return errors.PoolClosedError(
            f"{what}: this pool has ended before that was confirmed; the message may have arrived."
        )
    return errors.PoolClosedError(f"{what}: this pool was shut down. Make a new one.")


def _removed(party: RemoteParty, what: str, cause: Cause, call: ReceiveCall | SendCall) -> Exception:
    return errors.PartyGoneError(f"{what}: it was removed from this pool. To talk to it again: add_http_client().")


_ERRORS: dict[Enum, Callable[[RemoteParty, str, Cause, ReceiveCall | SendCall], Exception]] = {
    GivenUp.TIMED_OUT: _timed_out,
    Ending.SHUT_DOWN: _shut_down,
    Ending.ABORTED: _aborted,
    Ending.RESTARTED: _restarted,
    Ending.BOX_FULL: _deadlock,
    Ending.MUTUAL: _deadlock,
    GivenUp.UNREACHABLE: _unreachable,
    Ending.REFUSED: _refused,
    GivenUp.UNTRUSTED: _untrusted,
    GivenUp.BARRED: _barred,
    GivenUp.CLOSED: _closed,
    GivenUp.REMOVED: _removed,
    GivenUp.CANCELLED: _closed,
}
