"""What a party makes of what happens to it."""

from mpccomm import Settings
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import Party
from mpccomm.engine.states import ContactState
from mpccomm.protocol.events import Connected, ConnectionLost, ConnectionSuspect
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL


def test_one_that_was_refused_and_calls_all_the_same_is_dialled_at_once_when_it_is_lost() -> None:
    party = Party("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings(), certified=True)
    party.refused(Verdict("we don't trust it", theirs=False))
    assert party.refusal == "we don't trust it"
    assert not party.retry_now.is_set()
    party.link.events.append(Connected(False))
    party.flush()
    assert not party.refusal
    assert party.retry_now.is_set()


def test_unreachable_since_the_connection_that_is_missing_was_lost() -> None:
    now = [100.0]

    class Clocked(Party):
        clock = staticmethod(lambda: now[0])

    party = Clocked("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings())
    assert party._missing_since == 100
    for at, event in ((101, Connected(False)), (110, ConnectionSuspect())):
        now[0] = at
        party.link.events.append(event)
        party.flush()
        # It is only doubted, and another one may take its place without a word.
        assert party.contact is ContactState.CONNECTED
    now[0] = 200
    party.link.events.append(ConnectionLost())
    party.flush()
    assert party.contact is ContactState.MISSING
    assert party._missing_since == 200
    assert party.trouble == "connection lost"
