"""One counter for all receives, as a receiver of tno.mpc.communication has it."""

from mpccomm.protocol.tno_mailbox import CountingMailbox


def mailbox() -> CountingMailbox:
    return CountingMailbox(lambda prefix, number: f"{prefix}{number}")


def test_named_ones_count() -> None:
    box = mailbox()
    assert [box.claim(""), box.claim("", "x"), box.claim(""), box.claim("p"), box.claim("p", "x")] == [
        "0",
        "x",
        "2",
        "p3",
        "px",
    ]


def test_one_that_ended_gives_its_place_back() -> None:
    box = mailbox()
    keys = [box.claim(""), box.claim("", "x"), box.claim("")]
    box.release(keys[2])
    box.release(keys[1])
    box.release(keys[1])  # that it ended twice changes nothing
    assert [box.claim(""), box.claim(""), box.claim("")] == ["1", "2", "3"]


def test_of_very_many_only_the_latest_places_can_be_given_back() -> None:
    box = mailbox()
    keys = [box.claim("") for _ in range(10_001)]
    box.release(keys[0])
    box.release(keys[1])
    assert [box.claim(""), box.claim("")] == ["1", "10001"]


def test_several_places_of_one_id() -> None:
    box = mailbox()
    keys = [box.claim("", "x") for _ in range(2)]
    box.release(keys[0])
    box.release(keys[1])
    assert [box.claim(""), box.claim("")] == ["0", "1"]
