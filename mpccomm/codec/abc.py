"""What plug-ins, encoder and decoder know each other by, and what they raise.

A plug-in is handed an `Encoder` or a `Decoder`, offers tables of functions (`Plugin`), and raises a `Refusal` for a value that
cannot be carried. Which classes stand behind them, only `mpccomm.codec.encoder` and `mpccomm.codec.decoder` know. Everything else
imports the types from here, so that no two modules of the codec import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from mpccomm.codec.wire import Tag
from mpccomm.memory import Buffer

T = TypeVar("T")


class Encoder(Protocol):
    """What one call of `encode` knows while it turns its value into nodes.

    A node is what ormsgpack packs exactly, with tagged calls (see `mpccomm.codec.wire`) for everything else.
    """

    context: Mapping[str, object]
    """The keyword arguments for the ``serialize`` methods of the user's classes."""
    depth: int
    """The level of nesting; see `enter`."""
    asked: dict[int, object]
    """What objects that have been asked in advance became, by their identity."""

    def lower(self, value: object) -> object:
        """Return the node of *value*."""

    def call(self, tag: Tag, *arguments: object) -> list[object]:
        """Return a tagged call, with arguments that are values (not nodes)."""

    def sequence(self, value: list[Any], owner: object = None) -> object:
        """Return the node of a list, or of the elements of *owner*, another container."""

    def items(self, values: Iterable[object]) -> list[object]:
        """Return the nodes of *values*; a refusal's path names the index at fault."""

    def mapping(self, value: dict[object, object]) -> object:
        """Return the node of a dict."""

    def pairs(self, value: Mapping[Any, Any]) -> tuple[object, object]:
        """Return the keys and the values of a mapping, as the nodes of two lists."""

    def buffer(self, data: bytes | memoryview, *, mutable: bool) -> object:
        """Return the node of a buffer of one dimension in bytes; *mutable* if the caller's program can write to it."""

    def charge(self, memory: int) -> None:
        """Account for memory, in bytes, that the decoder will charge: a message that is too short for it gets ballast."""

    def count(self, elements: int, memory: int) -> None:
        """Account for the elements of a column, each of *memory* bytes, as the decoder will."""

    def count_nodes(self, nodes: int) -> None:
        """Account for elements of the envelope that are not looked at one by one."""

    def enter(self) -> None:
        """Go one level down; the caller subtracts one from `depth` when it is done."""

    def once(self, owner: object, lower: Callable[[Any], object], argument: object) -> object:
        """Return what *lower* makes of *argument*, one level down, worked out once however often *owner* occurs."""

    def became(self, instances: Iterable[object], payloads: list[Any], nodes: int) -> None:
        """Note what stands for objects that aren't containers, before that is lowered, and the *nodes* around each."""

    def keep_order(self) -> None:
        """Note that a class of the user takes part; to be called before its ``serialize`` is."""


class Decoder(Protocol):
    """What one call of `decode` knows while it turns nodes into a value."""

    context: Mapping[str, object]
    """The keyword arguments for the ``deserialize`` methods of the user's classes."""

    def value(self, node: object) -> Any:
        """Return the value of *node*. Lists and dicts are changed in place."""

    def typed(self, node: object, kind: type[T]) -> T:
        """Return the value of *node*, which has to be exactly of type *kind*; TypeError otherwise."""

    def buffer(self, node: object) -> Buffer:
        """Return the buffer of *node*: part of the envelope (bytes), or a segment; a writable one is the caller's own."""

    def count(self, elements: int, memory: int) -> None:
        """Account for objects that are about to be built, each of *memory* bytes, with what is needed meanwhile.

        Raises `DecodingError` when the message has more than it may.
        """

    def charge(self, memory: int) -> None:
        """Account for memory, in bytes, that is about to be taken; the encoder has to have charged as much.

        The nodes are accounted for already, and 224 bytes for each call.
        """


Lower = Callable[[Encoder, Any], object]
"""Turns a value into its node."""
Column = Callable[[Encoder, Any], object | None]
"""Turns a long list of values of one type into a node, or returns None where that is no gain."""
Call = Callable[..., object]
"""Builds the value of a tagged call: it gets the decoder and the nodes of the arguments."""
Leaf = Callable[[bytes], object]
"""Builds the value of a tagged leaf: it gets the data."""


class Plugin(Protocol):
    """What a module for an optional library offers, as module globals."""

    LOWER: dict[type, Lower]
    """How to lower a value of exactly this type."""
    COLUMNS: dict[type, Column]
    """How to lower a long list of values of exactly this type."""
    CALLS: dict[int, Call]
    """The constructors of tagged calls."""
    LEAVES: dict[int, Leaf]
    """The constructors of tagged leaves."""

    def find(self, kind: type) -> Lower | None:
        """Return a way to lower a type that is not in the table, if there is one."""


class Refusal(Exception):  # noqa: N818 -- it becomes an error when its path is complete
    """Why a value cannot be carried; collects the steps of the path to it, innermost first, on the way out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[str] = []

    def __str__(self) -> str:
        steps = self.steps[::-1]
        if len(steps) > 16:
            steps[8:-8] = [" ... "]
        path = "message" + "".join(steps)
        return f"{path} {self.args[0]}"
