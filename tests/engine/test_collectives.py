"""What the members of a group do together, as rounds: generators that the test carries between the members."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpccomm import ConfigurationError, DecodingError
from mpccomm.engine import collectives
from mpccomm.engine.collectives import Collective, Members, Round
from mpccomm.errors import EquivocationError, UnexpectedTypeError

NAMES = ("carol", "alice", "bob")
"""Not by alphabet: results are in declared order."""

Tamper = Callable[[str, str, object], object]


def play(make: Callable[[Members], Collective[Any]], tamper: Tamper = lambda _, __, value: value) -> dict[str, Any]:
    """Have each member run its generator, with every message delivered; the results, or errors, by name."""
    running = {name: make(Members(NAMES, name)) for name in NAMES}
    rounds: dict[str, Round] = {}
    results: dict[str, Any] = {}
    box: dict[tuple[str, str, str], object] = {}

    def step(name: str, received: dict[str, Any] | None) -> None:
        try:
            rounds[name] = round_ = running[name].send(received)  # type: ignore[arg-type]  # None: to begin with
        except StopIteration as end:
            results[name] = end.value
        except Exception as error:
            results[name] = error
        else:
            for names, value in round_.outgoing:
                for other in names:
                    box[name, other, round_.phase] = tamper(name, other, value)

    for name in NAMES:
        step(name, None)
    while waiting := [name for name in NAMES if name not in results]:
        ready = [n for n in waiting if all((other, n, rounds[n].phase) in box for other in rounds[n].sources)]
        assert ready, f"{waiting} wait for ever"
        for name in ready:
            step(name, {other: box.pop((other, name, rounds[name].phase)) for other in rounds[name].sources})
    assert not box, "all that is sent is received"
    return results


# -- members ---------------------------------------------------------------------------------------------------------------


def test_members_are_checked() -> None:
    assert Members.of(None, "bob", ["carol", "alice"]).names == ("alice", "bob", "carol")
    members = Members.of(NAMES, "alice", [])
    assert (members.names, members.others) == (NAMES, ("carol", "bob"))
    assert (members.check("alice"), members.check_other("bob")) == ("alice", "bob")
    for bad, text in (
        (lambda: Members.of(NAMES, None, []), "which member of the group is this party"),
        (lambda: Members.of(("alice", "bob", "alice"), "alice", []), "'alice' is twice"),
        (lambda: Members.of(("bob", "carol"), "alice", []), "this party, is not in the group"),
        (lambda: members.check("dave"), "'dave' is not in the group"),
        (lambda: members.check_other("alice"), "this party itself"),
        (lambda: members.check_other("dave"), "'dave' is not in the group"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            bad()


@pytest.mark.parametrize("name", [np.array(["bob"]), np.array(["bob", "carol"]), ["bob"], b"bob", 1, None])
def test_what_is_no_name_is_no_members(name: Any) -> None:
    """Not an array either, which is compared element by element: it would pass for a member."""
    members = Members.of(NAMES, "alice", [])
    for check in (members.check, members.check_other):
        with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
            check(name)


@pytest.mark.parametrize("root", [None, "alice"])
def test_what_can_not_combine_values_is_refused_before_anything_is_sent(root: str | None) -> None:
    not_a_function: Any = 5
    members = Members.of(NAMES, "alice", [])
    with pytest.raises(TypeError, match=r"^what combines two values is a function, not int$"):
        next(collectives.reduce(members, 1, not_a_function, root))
    assert next(collectives.reduce(members, 1, not_a_function, "bob")).outgoing, "only who gets the result calls it"


def test_no_two_groups_have_one_label() -> None:
    groups = [("a", "b"), ("b", "a"), ("a,b",), ("a", "b,"), ("(a", "b)"), ("x" * 100, "y"), ("x" * 100, "z")]
    labels = [Members(names, names[0]).label for names in groups]
    assert len(set(labels)) == len(labels)
    assert labels[0] == "a,b"
    assert all(len(label) <= 64 and not set("()") & set(label) for label in labels)


# -- each of them ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checked", [False, True])
def test_bcast(checked: bool) -> None:
    bcast = collectives.checked_bcast if checked else collectives.bcast
    assert play(lambda m: bcast(m, {"x": 1} if m.me == "bob" else None, "bob")) == {name: {"x": 1} for name in NAMES}


def test_gather_and_scatter() -> None:
    gathered = play(lambda m: collectives.gather(m, m.me, "alice"))
    assert gathered == {"carol": None, "bob": None, "alice": {name: name for name in NAMES}}
    assert tuple(gathered["alice"]) == NAMES
    values = {name: name.upper() for name in NAMES}
    assert play(lambda m: collectives.scatter(m, values if m.me == "bob" else None, "bob")) == values


def test_allgather_and_alltoall_are_in_declared_order() -> None:
    for results in (
        play(lambda m: collectives.allgather(m, m.me)),
        play(lambda m: collectives.alltoall(m, dict.fromkeys(NAMES, m.me))),
    ):
        assert results == {each: {name: name for name in NAMES} for each in NAMES}
        assert all(tuple(result) == NAMES for result in results.values())
    each = play(lambda m: collectives.alltoall(m, {name: (m.me, name) for name in NAMES}))
    assert each["bob"] == {name: (name, "bob") for name in NAMES}


def test_barrier_and_values_as_they_come() -> None:
    assert play(collectives.barrier) == dict.fromkeys(NAMES)
    rest = play(lambda m: collectives.as_received(m, m.me))
    assert rest["alice"] == {"carol": "carol", "bob": "bob"}


@pytest.mark.parametrize("root", [None, "bob"])
def test_reduce_combines_in_declared_order(root: str | None) -> None:
    results = play(lambda m: collectives.reduce(m, m.me[0], operator.add, root))
    assert results == {name: "cab" if root in (None, name) else None for name in NAMES}


def test_exchange_is_of_two() -> None:
    running = collectives.exchange("mine", "bob")
    assert next(running) == Round([(("bob",), "mine")], ("bob",))
    with pytest.raises(StopIteration) as end:
        running.send({"bob": "his"})
    assert end.value.value == "his"


@pytest.mark.parametrize("make", [collectives.alltoall, lambda m, v: collectives.scatter(m, v, m.me)])
def test_values_without_names(make: Any) -> None:
    with pytest.raises(TypeError, match="a value for each member is a mapping, with their names as keys; not list"):
        next(make(Members(NAMES, "alice"), [1, 2, 3]))


@pytest.mark.parametrize("values", [None, {}, {"alice": 1, "bob": 2}, dict.fromkeys((*NAMES, "dave"), 1)])
@pytest.mark.parametrize(
    "make", [lambda m, v: collectives.alltoall(m, v), lambda m, v: collectives.scatter(m, v, m.me)]
)
def test_one_value_for_each(make: Any, values: dict[str, int] | None) -> None:
    with pytest.raises(ConfigurationError, match="one value is needed for each of carol, alice, bob"):
        next(make(Members(NAMES, "alice"), values))


def test_what_is_expected_is_part_of_each_round() -> None:
    members = Members(NAMES, "alice")
    makes: list[Collective[Any]] = [
        collectives.bcast(members, None, "bob", int),
        collectives.gather(members, 1, "alice", int),
        collectives.scatter(members, None, "bob", int),
        collectives.allgather(members, 1, expect=int),
        collectives.alltoall(members, dict.fromkeys(NAMES, 1), int),
        collectives.exchange(1, "bob", int),
        collectives.as_received(members, 1, int),
        collectives.reduce(members, 1, operator.add, None, int),
        collectives.reduce(members, 1, operator.add, "alice", int),
    ]
    assert [next(made).expect for made in makes] == [int] * len(makes)


# -- telling all the same ------------------------------------------------------------------------------------------------------


def test_one_who_tells_two_things_is_found_out_by_all() -> None:
    other = collectives._pack("another thing")

    def tamper(sender: str, receiver: str, value: object) -> object:
        return other if (sender, receiver) == ("bob", "carol") and isinstance(value, list) else value

    results = play(lambda m: collectives.checked_bcast(m, "one thing" if m.me == "bob" else None, "bob"), tamper)
    for error in results.values():
        assert isinstance(error, EquivocationError)
        assert error.root == "bob"
        assert error.digests["alice"] == error.digests["bob"] != error.digests["carol"]


@pytest.mark.parametrize("digest", [b"short", "text", None, 7])
def test_one_who_says_nonsense_of_what_it_was_told_is_named(digest: object) -> None:
    def tamper(sender: str, receiver: str, value: object) -> object:
        return digest if sender == "carol" else value

    results = play(lambda m: collectives.checked_bcast(m, 1 if m.me == "bob" else None, "bob"), tamper)
    assert isinstance(results["alice"], EquivocationError)
    assert results["alice"].digests["carol"] == "nothing readable"


@pytest.mark.parametrize("told", ["text", [], [1], {"a": b""}])
def test_what_is_no_checked_broadcast_says_so_to_all(told: object) -> None:
    def tamper(sender: str, receiver: str, value: object) -> object:
        return told if sender == "bob" and isinstance(value, list) else value

    results = play(lambda m: collectives.checked_bcast(m, 1 if m.me == "bob" else None, "bob"), tamper)
    assert all(isinstance(error, EquivocationError | DecodingError) for error in results.values())
    with pytest.raises(DecodingError, match="it has to call bcast with checked=True as well"):
        collectives._unpack(told, "bob")


def test_a_checked_value_is_as_expected() -> None:
    results = play(lambda m: collectives.checked_bcast(m, "text" if m.me == "bob" else None, "bob", int))
    assert isinstance(results["alice"], UnexpectedTypeError)


def test_a_digest_tells_where_each_part_ends() -> None:
    digests = {collectives._digest(parcel) for parcel in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""])}
    assert len(digests) == 4
