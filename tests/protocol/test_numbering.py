"""Numbers of receives: by prefix, and as a receiver of tno.mpc.communication counts."""

from mpccomm.protocol.mailbox import Mailbox
from mpccomm.protocol.numbering import PrefixNumbering, TnoNumbering


def test_an_id_of_the_callers_takes_no_number() -> None:
    numbers = PrefixNumbering()
    given = [numbers.claim("p"), numbers.claim("p", "x"), numbers.claim("p"), numbers.claim("")]
    assert given == [("p", 0), "px", ("p", 1), ("", 0)]


def test_the_lowest_number_that_is_free_comes_next() -> None:
    numbers = PrefixNumbering()
    given = [numbers.claim("p") for _ in range(3)]
    for key in (given[1], "named", given[0]):
        numbers.release(key)
    assert (numbers.next_key("p", None), numbers.next_key("p", "x"), numbers.next_key("q", None)) == (
        given[0],
        "px",
        ("q", 0),
    )
    assert [numbers.claim("p") for _ in range(3)] == [given[0], given[1], ("p", 3)]
    numbers.forget()
    assert numbers.claim("p") == given[0]


def numbering() -> TnoNumbering:
    return TnoNumbering(lambda prefix, number: f"{prefix}{number}")


def test_named_ones_count() -> None:
    numbers = numbering()
    assert [
        numbers.claim(""),
        numbers.claim("", "x"),
        numbers.claim(""),
        numbers.claim("p"),
        numbers.claim("p", "x"),
    ] == [
        "0",
        "x",
        "2",
        "p3",
        "px",
    ]


def test_one_that_ended_gives_its_place_back() -> None:
    numbers = numbering()
    keys = [numbers.claim(""), numbers.claim("", "x"), numbers.claim("")]
    numbers.release(keys[2])
    numbers.release(keys[1])
    numbers.release(keys[1])  # that it ended twice changes nothing
    assert [numbers.claim(""), numbers.claim(""), numbers.claim("")] == ["1", "2", "3"]


def test_of_very_many_only_the_latest_places_can_be_given_back() -> None:
    numbers = numbering()
    keys = [numbers.claim("") for _ in range(10_001)]
    numbers.release(keys[0])
    numbers.release(keys[1])
    assert [numbers.claim(""), numbers.claim("")] == ["1", "10001"]


def test_several_places_of_one_id() -> None:
    numbers = numbering()
    keys = [numbers.claim("", "x") for _ in range(2)]
    numbers.release(keys[0])
    numbers.release(keys[1])
    assert [numbers.claim(""), numbers.claim("")] == ["0", "1"]


def test_counting_anew() -> None:
    numbers = numbering()
    numbers.release([numbers.claim(""), numbers.claim("")][0])
    numbers.forget()
    assert [numbers.next_key("", None), numbers.claim("", "x"), numbers.claim("")] == ["0", "x", "1"]


def test_a_mailbox_takes_nothing_that_has_no_place_yet() -> None:
    mailbox = Mailbox(numbering())
    assert not mailbox.grabbing
    assert mailbox.take_next("", "x") is None
