"""Serialization, as its users call it."""

import dataclasses
import enum
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mpccomm.codec import Serialization, decode, encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import AnnotationError, CommunicationError, DecodingError, EncodingError, RepetitionError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, round_trip

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_registered() -> Iterator[None]:
    Serialization.clear_serialization_logic()
    yield
    Serialization.clear_serialization_logic()


class Share:
    def __init__(self, value: Any, rate: Any = None) -> None:
        self.value = value
        self.rate = rate

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Share) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def serialize(self, **_kwargs: Any) -> dict[str, Any]:
        return {"value": self.value, "rate": self.rate}

    @staticmethod
    def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Share":
        return Share(obj["value"], obj["rate"])


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Settings:
    name: str
    limits: dict[int, float]
    total: float = dataclasses.field(init=False, default=0.0)


@dataclasses.dataclass(frozen=True)
class Frozen:
    left: Any
    right: Any = None


class Colour(enum.Enum):
    RED = enum.auto()
    GREEN = "green"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def test_an_instance_arrives_as_an_instance() -> None:
    Serialization.register_class(Share)
    for value in (Share(5), [Share(2**70), (Share(b"x" * 5000),)], {"a": {1: Share({1, 2})}}, [Share(1)] * 100):
        received = round_trip(value)
        assert received == value
        assert encode(value).ordered


def test_nested_instances_and_whatever_serialize_returns_are_carried() -> None:
    Serialization.register_class(Share)
    value = Share(Share((1, 2**100), {1.5: [Share(None)]}), bytearray(b"x"))
    received = round_trip(value)
    assert received == value
    assert type(received.value.value) is tuple


def test_unregistered_here_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EncodingError, match="register_class"):
        encode(Share(1))
    Serialization.register_class(Share)
    segments = encode([Share(1)]).segments
    Serialization.clear_serialization_logic()
    with pytest.raises(DecodingError, match=r"Share.*register_class"):
        decode(segments)


def test_registered_twice() -> None:
    Serialization.register_class(Share)
    with pytest.raises(RepetitionError) as caught:
        Serialization.register_class(Share)
    assert isinstance(caught.value, CommunicationError)
    Serialization.register_class(Share, overwrite=True)
    assert round_trip(Share(1)) == Share(1)


def test_two_classes_of_one_name_need_a_name() -> None:
    first = Share
    second = type("Share", (Share,), {"deserialize": staticmethod(lambda obj, **_: second(obj["value"], obj["rate"]))})
    Serialization.register_class(first)
    with pytest.raises(RepetitionError, match="name="):
        Serialization.register_class(second, check_annotations=False)
    Serialization.register_class(second, check_annotations=False, name="other.Share")
    received = round_trip([first(1), second(2)])
    assert [type(item) for item in received] == [first, second]


NOTEBOOK = """
import sys
from dataclasses import dataclass
from typing import NamedTuple
from mpccomm.codec import Serialization, decode, encode
from mpccomm.errors import RepetitionError

if {interactive}:
    get_ipython = None

def cell(limit, extra=None):
    namespace = dict(globals(), extra=extra)
    exec('''
class Cell:
    limit = 5
    def serialize(self, **kwargs: object) -> int:
        return sum(n for n in (self.limit,))

    @staticmethod
    def deserialize(obj: int, extra: object = extra, **kwargs: object) -> "Cell":
        return Cell()

@dataclass
class Point:
    x: int

    @property
    def double(self):
        return 2 * self.x

class Pair(NamedTuple):
    a: int
'''.replace("5", str(limit)), namespace)
    return [namespace[name] for name in ("Cell", "Point", "Pair")]

for kind in cell(5):
    Serialization.register_class(kind)
replaced = 0
for kind in cell(5):
    try:
        Serialization.register_class(kind)
    except RepetitionError:
        continue
    replaced += 1
    assert type(decode(encode([kind(1) if kind.__name__ != "Cell" else kind()]).segments)[0]) is kind
for kind in (cell(6)[0], cell(5, extra=1)[0]):
    try:
        Serialization.register_class(kind)
    except RepetitionError:
        continue
    print("another class has taken its place")
print(replaced)
"""


@pytest.mark.parametrize("interactive", [True, False])
def test_a_notebook_cell_that_is_run_again_replaces(interactive: bool) -> None:
    script = NOTEBOOK.replace("{interactive}", str(interactive))
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("3\n" if interactive else "0\n", "")


def test_a_subclass_is_not_taken_for_its_base() -> None:
    class Special(Share):
        pass

    Serialization.register_class(Share)
    with pytest.raises(EncodingError, match="Special"):
        encode(Special(1))


def test_path_leads_into_the_instance() -> None:
    Serialization.register_class(Share)
    with pytest.raises(EncodingError, match=r'^message\["rows"\]\[3\]\.rate is of type builtins\.object'):
        encode({"rows": [0, 1, 2, Share(1, object())]})
    with pytest.raises(EncodingError, match=r"^message\.value\[1\]\.rate is of type"):
        encode(Share([1, Share(1, object())]))


def test_what_the_users_code_raises_is_the_cause() -> None:
    class Broken(Share):
        def serialize(self, **_kwargs: Any) -> dict[str, Any]:
            if self.value:
                raise ZeroDivisionError("mine")
            return {}

        @staticmethod
        def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Broken":
            raise LookupError("mine too")

    Serialization.register_class(Broken)
    with pytest.raises(EncodingError, match=r"message\[0\].*serialize of Broken raised ZeroDivisionError") as caught:
        encode([Broken(1)])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.__cause__.__traceback__ is not None
    with pytest.raises(DecodingError, match="deserialize of Broken raised LookupError") as failed:
        round_trip([Broken(0)])
    assert isinstance(failed.value.__cause__, LookupError)


def test_long_lists_of_instances() -> None:
    Serialization.register_class(Share)
    Serialization.register_class(Point)
    Serialization.register_class(Colour)
    values: list[Any] = [
        [Share(number, number / 3) for number in range(100)],
        [Share(Share(number)) for number in range(100)],
        [Share([Share(number)] * number) for number in range(40)],
        [Point(number, "text") for number in range(100)],
        [*Colour] * 50,
        [Share(1), Point(1, 2)] * 50,
        {number: Share(number) for number in range(100)},
    ]
    for value in [*values, values]:
        segments = encode(value).segments
        assert_same(value, decode(segments))
        assert bytes([0xC7, 0, Tag.EACH]) in bytes(segments[0])


def test_errors_within_long_lists_of_instances() -> None:
    Serialization.register_class(Share)
    shares = [Share(number) for number in range(100)]
    shares[70] = Share([1, object()])
    with pytest.raises(EncodingError, match=r'^message\["a"\]\[70\]\.value\[1\] is of type builtins\.object'):
        encode({"a": shares})
    shares[70] = Share(1)
    shares[70].__dict__ = {}
    with pytest.raises(EncodingError, match=r'^message\["a"\]\[70\] cannot be sent: serialize of Share raised Attr'):
        encode({"a": shares})
    payloads: list[Any] = [{"value": 1, "rate": 2}] * 40
    assert decode_node(call(Tag.EACH, "Share", payloads)) == [Share(1, 2)] * 40
    with pytest.raises(DecodingError, match="deserialize of Share raised TypeError"):
        decode_node(call(Tag.EACH, "Share", [*payloads, 5]))
    malformed: list[list[Any]] = [[], ["Share"], ["Share", 5], ["Share", {}], ["Other", payloads], [[], payloads]]
    for nodes in malformed:
        with pytest.raises(DecodingError):
            decode_node(call(Tag.EACH, *nodes))
    with pytest.raises(DecodingError, match="more memory than its size"):
        decode_node(call(Tag.EACH, "Share", [None] * 100_000))


def test_instances_that_come_to_too_many_are_refused_early() -> None:
    Serialization.register_class(Share)
    value = Share(1)
    for _ in range(40):
        value = Share([value, value])
    began = time.process_time()
    with pytest.raises(EncodingError, match="more elements than a message may have"):
        encode([value])
    assert time.process_time() - began < 5
    value.value.append(value)
    with pytest.raises(EncodingError, match=r"contains itself|more elements"):
        encode(value)
    one = Share(1)
    received = round_trip([[one, one] for _ in range(10_000)])
    assert received == [[one, one]] * 10_000


def test_the_methods_of_a_class_are_called_in_the_order_of_its_instances() -> None:
    calls: list[int] = []

    class Counted(Share):
        def serialize(self, **_kwargs: Any) -> Any:
            calls.append(len(calls))
            return calls[-1]

        @staticmethod
        def deserialize(obj: Any, **_kwargs: Any) -> "Counted":
            return Counted(obj)

    Serialization.register_class(Counted)
    for size in (3, 100):
        calls.clear()
        assert round_trip([Counted(None)] * size) == [Counted(number) for number in range(size)]


def test_methods_are_told_the_context() -> None:
    told: list[dict[str, Any]] = []

    class Curious(Share):
        def serialize(self, **kwargs: Any) -> Any:
            told.append(kwargs)
            return Serialization.serialize(self.value, **kwargs)

        @staticmethod
        def deserialize(obj: Any, **kwargs: Any) -> "Curious":
            told.append(kwargs)
            return Curious(Serialization.deserialize(obj, **kwargs))

    Serialization.register_class(Curious)
    segments = encode(Curious(Curious(5)), context={"destination": "Bob"}).segments
    received: Any = decode(segments, context={"origin": "Alice"})
    assert told == [{"destination": "Bob"}] * 2 + [{"origin": "Alice"}] * 2
    assert received.value.value == 5


def test_serialize_and_deserialize_undo_each_other() -> None:
    Serialization.register_class(Share)
    for value in (5, [1, (2,)], Share(3), {"a": Share(1)}):
        assert Serialization.deserialize(Serialization.serialize(value)) == value
    assert Serialization.serialize([1]) == [1]


def test_pack_and_unpack() -> None:
    Serialization.register_class(Share)
    for value in (5, [1, (2,)], Share(b"x" * 5000), {"a": [Share(1)]}):
        packed = Serialization.pack(value)
        assert type(packed) is bytes
        assert Serialization.unpack(packed) == value
    with pytest.raises(DecodingError):
        Serialization.unpack(b"nonsense")
    with pytest.raises(EncodingError):
        Serialization.pack(object())


def test_functions_for_a_class_that_is_not_ones_own() -> None:
    class Foreign:
        def __init__(self, value: int) -> None:
            self.value = value

    def to_int(obj: Foreign, **_kwargs: Any) -> int:
        return obj.value

    def from_int(obj: int, **_kwargs: Any) -> Foreign:
        return Foreign(obj)

    Serialization.register(to_int, from_int, Foreign)
    assert round_trip([Foreign(5)])[0].value == 5
    with pytest.raises(RepetitionError):
        Serialization.register(to_int, from_int, Foreign)
    Serialization.clear_serialization_logic()
    Serialization.register(to_int, from_int, "Foreign", check_annotations=False)
    assert round_trip([Foreign(6)])[0].value == 6


def test_register_wants_functions_and_types() -> None:
    for arguments in ((1, 2, Share), (print, 2, Share), (print, print)):
        with pytest.raises(TypeError):
            Serialization.register(*arguments, check_annotations=False)


@pytest.mark.parametrize("kind", [int, str, dict, tuple])
def test_what_the_library_carries_is_taken(kind: type) -> None:
    def there(obj: Any, **_kwargs: Any) -> Any:
        return obj

    with pytest.raises(RepetitionError):
        Serialization.register(there, there, kind)


def test_what_the_library_carries_can_be_overruled_where_that_is_possible() -> None:
    def there(obj: Any, **_kwargs: Any) -> str:
        return str(obj)

    def back(obj: str, **_kwargs: Any) -> Any:
        return f"range: {obj}"

    Serialization.register(there, back, range, overwrite=True)
    assert round_trip([range(3)]) == ["range: range(0, 3)"]
    with pytest.raises(TypeError):
        Serialization.register(there, back, int, overwrite=True)


def test_dataclasses_named_tuples_and_enums_need_no_methods() -> None:
    for kind in (Point, Settings, Frozen, Colour, Rights):
        Serialization.register_class(kind)
    settings = Settings("name", {1: 2.5})
    settings.total = 7.5
    values = [
        Point(1, (2**70,)),
        settings,
        Frozen([1], Point(1, 2)),
        Colour.RED,
        Colour.GREEN,
        Rights.READ | Rights.WRITE,
    ]
    received = round_trip(values)
    assert received == values
    assert [type(value) for value in received] == [type(value) for value in values]
    assert received[3] is Colour.RED
    assert round_trip({Colour.GREEN: 1, "green": 2}) == {Colour.GREEN: 1, "green": 2}


def test_fields_from_the_wire_have_to_be_those_of_the_class() -> None:
    Serialization.register_class(Frozen)
    segments = encode(Frozen(1)).segments
    Serialization.clear_serialization_logic()
    Serialization.register_class(dataclasses.make_dataclass("Frozen", ["left"]))
    with pytest.raises(DecodingError, match="Frozen"):
        decode(segments)


def test_it_can_decorate() -> None:
    @Serialization.register_class
    class Decorated(Share):
        @staticmethod
        def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Decorated":
            return Decorated(obj["value"])

    assert type(round_trip(Decorated(1))) is Decorated


def test_a_class_without_methods() -> None:
    class Plain:
        pass

    class Half:
        def serialize(self, **_kwargs: Any) -> int:
            return 1

    for kind in (Plain, Half):
        with pytest.raises(AttributeError) as caught:
            Serialization.register_class(kind)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, AnnotationError)
    with pytest.raises(TypeError):
        Serialization.register_class(Plain())  # type: ignore[type-var]


def test_order_of_a_plain_value_is_that_of_its_bytes() -> None:
    assert_same([1, 2], round_trip([1, 2]))
    assert not encode([1, 2]).ordered


def test_begin_is_called_once_before_the_first_of_the_users_methods() -> None:
    calls: list[str] = []

    class Watched(Share):
        def serialize(self, **_kwargs: Any) -> dict[str, Any]:
            calls.append("serialize")
            return super().serialize()

    Serialization.register_class(Watched, check_annotations=False)
    encode([1, (2, {3})], begin=lambda: calls.append("begin"))
    assert not calls
    assert encode([Watched(1), Watched(Watched(2))], begin=lambda: calls.append("begin")).ordered
    assert calls == ["begin", *["serialize"] * 3]
    calls.clear()
    assert encode(Serialization.serialize(Watched(1)), begin=lambda: calls.append("begin")).ordered
    assert calls == ["serialize", "begin"]


def test_the_elements_of_all_else_are_carried_as_they_are() -> None:
    for kind in (list, dict):
        with pytest.raises(TypeError, match="cannot be changed"):
            Serialization.register(len, len, kind, check_annotations=False, overwrite=True)
