"""What a party makes of what happens to it."""

from mpccomm import Settings
from mpccomm.engine.loop_owner import Home
from mpccomm.engine.party import Party
from mpccomm.protocol.events import News
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL


def test_one_that_was_refused_and_calls_all_the_same_is_dialled_at_once_when_it_is_lost() -> None:
    party = Party("Bob", LOCAL, 1, home=Home(), incarnation=b"a" * 16, settings=Settings(), certified=True)
    party.refused(Verdict("we don't trust it", theirs=False))
    assert party.standing.refusal
    assert not party.urged.is_set()
    party.link.news.append((News.CONNECTED, ""))
    party.flush()
    assert not party.standing.refusal
    assert party.urged.is_set()
