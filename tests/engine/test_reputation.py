"""Refusals that become final, offences that bar a party, and how both are forgiven."""

import pytest

from mpccomm.engine.reputation import Reputation
from mpccomm.protocol.states import CloseCode
from mpccomm.settings import Retry, Strangers
from mpccomm.transport.tls import Verdict

RETRY = Retry(first=1, cap=5, doubt=10)
OURS, THEIRS = Verdict("we don't trust it", theirs=False), Verdict("it does not trust us", theirs=True)


def reputation(*, certified: bool = True) -> Reputation:
    return Reputation(RETRY, Strangers(offences=3), certified=certified)


def test_what_we_find_is_final() -> None:
    one = reputation()
    assert one.refuse(OURS, 0)
    assert one.refusals == 1


def test_what_they_say_may_change() -> None:
    one = reputation()
    assert not one.refuse(THEIRS, 0)
    assert not one.refuse(THEIRS, 9)
    assert one.refusals == 0
    assert one.refuse(THEIRS, 10)
    one.clear()
    assert not one.refuse(THEIRS, 11)


def test_a_party_known_by_its_certificate_is_barred() -> None:
    one = reputation()
    third = "it broke the protocol 3 times, at last by this: offence 3"
    assert [one.offend(f"offence {number}", 0) for number in (1, 2, 3)] == ["", "", third]
    one.readmit()
    assert not one.offend("again", 0)


@pytest.mark.parametrize("certified", [True, False])
def test_pauses_grow(certified: bool) -> None:
    one = Reputation(RETRY, Strangers(offences=100), certified=certified)
    pauses = []
    for _ in range(5):
        one.offend("x", 100)
        pauses.append(one.not_before - 100)
    assert pauses == [2, 4, 5, 5, 5]


def test_a_party_known_by_its_address_is_never_barred_and_starts_anew() -> None:
    one = reputation(certified=False)
    assert not any(one.offend("x", 0) for _ in range(1000))
    one.offend("x", 100)
    assert one.not_before == 102


def test_pauses_after_failures() -> None:
    one = reputation()
    pauses = []
    for now in (100, 101, 102, 103, 200):
        one.fail(now)
        pauses.append(one.not_before - now)
    assert pauses == [2, 4, 5, 5, 2]
    assert (one.why, one.code) == (
        "a part of this pool failed in a connection with it a moment ago",
        CloseCode.REPLACED,
    )
    assert not one.offend("x", 200), "what fails here is no offence"
    assert one.code is CloseCode.VIOLATION
