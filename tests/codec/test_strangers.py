"""Values from other sources than these tests: exactly, or not at all."""

import random
import time
from typing import Any

import pytest

from mpccomm.codec import decode, encode
from mpccomm.errors import EncodingError
from tests.codec.exactness import assert_same
from tests.codec.samples import LIBRARIES

for library in LIBRARIES["pandas"]:
    pytest.importorskip(library)
pytest.importorskip("gmpy2")

from tests.codec import strangers  # noqa: E402 -- it needs these

SOURCES = strangers.SOURCES


@pytest.mark.parametrize("source", SOURCES)
def test_arrive_exactly_or_are_refused(source: str) -> None:
    for value in SOURCES[source]():
        try:
            segments = encode(value).segments
        except EncodingError as error:
            assert ";" in str(error)  # noqa: PT017 -- most arrive
            continue
        assert_same(value, decode(list(map(bytes, segments))))


@pytest.mark.parametrize("value", [*strangers.derived(), *strangers.not_data()], ids=lambda value: type(value).__name__)
def test_what_would_arrive_as_something_else_is_refused_with_a_remedy(value: Any) -> None:
    for container in (value, [value], [value] * 40, {"a": [value]}, (1, value)):
        with pytest.raises(EncodingError, match=";"):
            encode(container)


def test_what_arrives_as_something_else_does_so_everywhere() -> None:
    for value, arrives in strangers.converted():
        for make in (lambda it: it, lambda it: [it] * 40, lambda it: [(it, 1)] * 40, lambda it: {"a": it, 1: [it]}):
            assert_same(make(arrives), decode(encode(make(value)).segments))


@pytest.mark.parametrize("container", strangers.CONTAINERS)
@pytest.mark.parametrize("source", SOURCES)
def test_in_containers(source: str, container: str) -> None:
    """What can be sent can be sent in any container, few or many of them: what is encoded can be decoded."""
    made = strangers.CONTAINERS[container]
    values = list(SOURCES[source]())
    random.Random(1).shuffle(values)
    until = time.process_time() + 0.3
    for number, value in enumerate(values):
        if number > 2 and time.process_time() > until:
            break
        try:
            size = sum(map(len, encode(value).segments))
            few, many = made(value, 35), made(value, 400)
        except (EncodingError, TypeError, ValueError):
            continue  # refused as such, or no key
        assert_same(few, decode(list(map(bytes, encode(few).segments))))
        if size < 1000:
            decode(list(map(bytes, encode(many).segments)))
