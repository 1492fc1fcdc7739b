"""What a party makes of what happens to it."""

from mpccomm import Settings
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import Party
from mpccomm.protocol.events import Connected
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL


def test_one_that_was_refused_and_calls_all_the_same_is_dialled_at_once_when_it_is_lost() -> None:
    party = Party("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings(), certified=True)
    party.refused(Verdict("we don't trust it", theirs=False))
    assert party.reputation.refusal
    assert not party.retry_now.is_set()
    party.link.events.append(Connected(False))
    party.flush()
    assert not party.reputation.refusal
    assert party.retry_now.is_set()
