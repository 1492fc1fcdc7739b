"""Who may call, on plain HTTP: by source address and declared port. (With certificates: tests/transport/test_tls*.py.)"""

from __future__ import annotations

import logging
from ipaddress import ip_address

import pytest

from mpccomm import ConfigurationError, DuplicatePartyError, Settings
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import Party
from mpccomm.engine.states import ContactEvent, GivenUp
from mpccomm.protocol.states import Cause, CloseCode
from mpccomm.transport.handshake import Caller, NotRecognisedError

HERE = ip_address("127.0.0.1")
ELSEWHERE = ip_address("192.0.2.7")


def new_party(name: str, addr: str = "127.0.0.1", port: int = 1) -> Party:
    return Party(name, addr, port, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings())


def knowing(*parties: Party) -> Authentication:
    authentication = Authentication()
    known: dict[str, Party] = {}
    for party in parties:
        authentication.admit(party, known)
        known[party.name] = party
    authentication.know(known)
    return authentication


async def code_of(authentication: Authentication, caller: Caller, port: int) -> tuple[CloseCode, str]:
    with pytest.raises(NotRecognisedError) as caught:
        await authentication.identify(caller, port)
    return caught.value.code, str(caught.value)


async def test_a_party_is_its_address_and_the_port_that_it_declares() -> None:
    authentication = knowing(new_party("alice", port=1), new_party("bob", port=2))
    caller = Caller(HERE, None)
    await authentication.expect(caller)
    assert (await authentication._recognise(caller, 2)).name == "bob"
    assert await code_of(authentication, caller, 3) == (
        CloseCode.NOT_RECOGNISED,
        "no party was added as 127.0.0.1:3",
    )
    assert await code_of(authentication, caller, 0) == (
        CloseCode.NOT_RECOGNISED,
        "no party was added as 127.0.0.1, without a server of its own",
    )
    with pytest.raises(NotRecognisedError, match="no party was added with that address"):
        await authentication.expect(Caller(ELSEWHERE, None))


async def test_one_without_a_server_is_its_address_where_it_is_the_only_one() -> None:
    authentication = knowing(new_party("alice", "192.0.2.7", port=0))
    assert (await authentication._recognise(Caller(ELSEWHERE, None), 0)).name == "alice"
    authentication = knowing(new_party("alice", "192.0.2.7", port=0), new_party("bob", "192.0.2.7", port=1))
    assert (await code_of(authentication, Caller(ELSEWHERE, None), 0))[0] is CloseCode.NOT_RECOGNISED


async def test_an_ipv4_address_is_the_same_in_the_notation_of_ipv6() -> None:
    authentication = knowing(new_party("alice"))
    with pytest.raises(DuplicatePartyError, match="could not be told apart"):
        authentication.admit(new_party("bob", "::ffff:127.0.0.1"), {"alice": new_party("alice")})


async def test_those_who_are_not_let_in_learn_by_the_code() -> None:
    alice = new_party("alice")
    authentication, caller = knowing(alice), Caller(HERE, None)
    alice._change(ContactEvent.BAR, Cause(GivenUp.BARRED, "too often"))
    assert await code_of(authentication, caller, 1) == (CloseCode.BARRED, "alice (127.0.0.1:1) is kept out: too often")
    alice.give_up(GivenUp.CLOSED)
    assert await code_of(authentication, caller, 1) == (CloseCode.SHUTTING_DOWN, "this pool is shut down")
    with pytest.raises(NotRecognisedError) as caught:
        await authentication.identify(caller, 1)
    assert caught.value.usual  # one that calls as the pool ends is no stranger, and no cause for a warning
    alice = new_party("alice")
    authentication = knowing(alice)
    alice.reputation.offend("a frame of no kind", alice.clock())
    assert (await code_of(authentication, caller, 1))[0] is CloseCode.VIOLATION
    alice.failed()
    assert (await code_of(authentication, caller, 1))[0] is CloseCode.REPLACED


async def test_who_posts_has_to_be_added_as_one_that_posts() -> None:
    authentication = knowing(new_party("alice"))
    with pytest.raises(NotRecognisedError, match="add it with wire="):
        await authentication.correspondent(Caller(HERE, None), 1)


async def test_a_refused_caller_is_told_to_those_who_wait_for_a_party_there() -> None:
    alice = new_party("alice")
    authentication = knowing(alice)
    await alice.host.addresses()
    authentication.refused(ELSEWHERE, "who knows")
    assert alice.trouble == "no answer yet"
    authentication.refused(HERE, "who knows")
    assert alice.trouble == "a caller from its address was refused: who knows"
    assert authentication.parties_at(HERE) == 1


def test_plain_http_elsewhere_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    authentication = knowing(new_party("alice"), new_party("bob", "192.0.2.7"), new_party("carol", "192.0.2.8"))
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["anyone on the way can read" in record.getMessage() for record in warned] == [True]
    with pytest.raises(ConfigurationError, match="has no certificates to read again"):
        authentication.reload()


def test_a_certificate_needs_one_of_our_own() -> None:
    dave = new_party("dave")
    dave.certificates = "dave.pem"
    with pytest.raises(ConfigurationError, match="give it key= and cert="):
        knowing(dave)
