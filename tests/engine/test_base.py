"""Both faces are one: what doesn't wait stands once, what waits has the same parameters, and all of it can be looked up."""

import concurrent.futures
import copy
import inspect
import logging
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mpccomm import CommunicationTimeoutError, NotReadyError, Pool, SyncPool, UnknownPartyError
from mpccomm.engine.base_channel import BaseChannel
from mpccomm.engine.base_pool import BasePool
from mpccomm.pool.channel import Channel
from mpccomm.pool.groups import Group
from mpccomm.sync.channel import SyncChannel
from mpccomm.sync.groups import SyncGroup
from tests.engine.faces import FACES as KINDS
from tests.engine.faces import faces
from tests.pools import LOCAL, Log, pools, quick
from tests.sync.generate import OWN, generated, target
from tests.timing import UNIT

FACES = ((Pool, SyncPool), (Channel, SyncChannel), (Group, SyncGroup))


def public(kind: type) -> Iterator[str]:
    return (name for name in dir(kind) if not name.startswith("_") or name == "__init__")


def methods() -> Iterator[tuple[type, str]]:
    for both in FACES:
        for kind in both:
            for name in public(kind):
                if callable(getattr(kind, name)):
                    yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(methods()), ids=str)
def test_signatures_can_be_evaluated_and_everything_is_documented(kind: type, name: str) -> None:
    method = getattr(kind, name)
    assert typing.get_type_hints(method)
    signature = inspect.signature(method, eval_str=True)
    assert all(parameter.annotation is not parameter.empty for parameter in list(signature.parameters.values())[1:])
    assert name == "__init__" or inspect.getdoc(method)


@pytest.mark.parametrize(("ours", "theirs"), [(sync, native) for native, sync in FACES])
def test_the_parameters_are_the_same(ours: type, theirs: type) -> None:
    assert {*public(ours)} - {"pool"} == {*public(theirs)}
    for name in public(theirs):
        if not callable(getattr(theirs, name)) or (name == "__init__" and theirs is not Pool):
            continue
        one, other = (inspect.signature(getattr(kind, name), eval_str=True) for kind in (ours, theirs))
        assert list(one.parameters.values()) == list(other.parameters.values()), name


def test_what_does_not_wait_stands_once() -> None:
    for name in ("add_http_server", "add_http_client", "port", "stats", "update_msg_prefix", "from_config", "parties"):
        assert name in vars(BasePool)
        assert name not in vars(Pool)
        assert name not in vars(SyncPool)
    assert "name" in vars(BaseChannel)


@pytest.mark.parametrize("module", OWN)
def test_the_blocking_face_is_that_of_the_other(module: str) -> None:
    assert target(module).read_text(encoding="utf-8") == generated(module), "run python -m tests.sync.generate"


def test_both_faces_of_a_pool_share_everything() -> None:
    with SyncPool(name="Alice", settings=quick()) as pool:
        native = pool.pool
        assert isinstance(native, Pool)
        assert native is pool.pool
        pool.add_http_client("Bob", "127.0.0.1", 1)
        assert native.parties == pool.parties == ("Bob",)
        native.update_msg_prefix("p")
        assert pool.pool_handlers["Bob"].msg_prefix == "p"
        native.channel("x").update_msg_prefix("q")
        future = pool.channel("x").arecv("Bob", "id")
        assert isinstance(future, concurrent.futures.Future)
        assert pool.channel("x") is pool.channel("x")
        assert native.name == pool.name == "Alice"


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda thing: thing.__reduce_ex__(4)], ids=["copy", "deepcopy", "pickle"]
)
def test_nothing_of_a_pool_is_copied(face: type[Pool | SyncPool], duplicate: Callable[[object], object]) -> None:
    pool = face(settings=quick(), name="Alice")
    pool.add_http_client("Bob", LOCAL, 1)
    for thing in (pool, pool.channel("c"), pool.group(["Alice", "Bob"])):
        with pytest.raises(TypeError, match="can't be copied or pickled"):
            duplicate(thing)
    if isinstance(pool, SyncPool):
        pool.shutdown()


@pytest.mark.parametrize("face", [Pool, SyncPool])
def test_what_a_pool_and_a_channel_are_made_with(face: type[Pool | SyncPool]) -> None:
    with pytest.raises(TypeError, match=r"mpccomm\.Settings, not 3 \(int\)"):
        face(settings=3)  # type: ignore[arg-type]
    pool = face(settings=quick())
    with pytest.raises(TypeError, match="name of a channel"):
        pool.channel(3)  # type: ignore[arg-type]
    if isinstance(pool, SyncPool):
        with pytest.raises(ValueError, match="wait_ready can't take -1 seconds"):
            pool.wait_ready(-1)
        pool.shutdown()


async def test_a_deadline_is_entered_either_way() -> None:
    async with pools("Alice", "Bob") as (alice, _):
        with alice.deadline(UNIT / 10), pytest.raises(CommunicationTimeoutError, match="were left of the deadline"):
            await alice.recv("Bob")
        async with alice.deadline(UNIT / 10):
            with pytest.raises(CommunicationTimeoutError, match="were left of the deadline"):
                await alice.recv("Bob")


def test_a_message_that_is_given_first_is_no_name() -> None:
    pool = SyncPool(name="Alice", settings=quick())
    pool.add_http_client("Bob", LOCAL, 1)
    try:
        for send in (pool.send, pool.asend, pool.channel("x").send, pool.channel("x").asend):
            # Of a message nothing is shown, as it may be secret.
            for message, kind in (([1, 2], "list"), (1234, "int")):
                with pytest.raises(
                    TypeError, match=f"^the name of a party is a text, not {kind}; .*: send\\(name, message\\)$"
                ):
                    send(message, "Bob")  # type: ignore[arg-type]
    finally:
        pool.shutdown(0)


async def test_a_message_that_is_given_first_is_no_name_on_asyncio_either() -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, _):
        with pytest.raises(TypeError, match=r"^the name of a party is a text, not list; "):
            await alice.send([1, 2], "Bob")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^the name of a party is a text, not list; "):
            alice.asend([1, 2], "Bob")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (["Bob", "Carol"], "not list; from several parties receive recv_all and recv_any"),
        (5, "not int"),
        ({}, "not dict"),
        (b"Bob", "not bytes"),
        (np.array(["Bob"]), "not ndarray"),
    ],
    ids=["list", "int", "dict", "bytes", "array"],
)
async def test_what_is_no_name_is_told_wherever_one_is_asked_for(kind: str, name: Any, text: str) -> None:
    told = f"^the name of a party is a text, {text}$"
    async with faces(kind, "Bob", "Carol") as (call, _):
        for method in ("recv", "arecv", "accept_restart", "readmit", "remove_http_client"):
            with pytest.raises(TypeError, match=told):
                await call(method, name)
        for method in ("recv_all", "recv_any", "arecv_all", "group"):
            with pytest.raises(TypeError, match=told):
                await call(method, [name, "Alice"])
        for method in ("broadcast", "async_broadcast", "wait_ready"):
            with pytest.raises(TypeError, match=told):
                await call(method, 1, handler_names=[name])
        with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
            await call("group", me=name)
    pool = Pool()
    pool.add_http_client("Bob", LOCAL, 1)
    for found in (pool.stats, pool.pool_handlers):
        with pytest.raises((UnknownPartyError, TypeError), match=told):
            found[name]
    in_place_of_a_name: Any = 5
    assert in_place_of_a_name not in pool.stats


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_list_of_names_is_told_wherever_one_is_asked_for(kind: str) -> None:
    async with faces(kind, "Bob") as (call, _):
        for method in ("recv_all", "recv_any", "as_received", "arecv_all", "group"):
            with pytest.raises(TypeError, match=r"names takes a list of names; not complex$"):
                await call(method, 1j)
        for method in ("broadcast", "async_broadcast", "wait_ready"):
            with pytest.raises(TypeError, match=r"^handler_names takes a list of names; not ellipsis$"):
                await call(method, 1, handler_names=...)


@pytest.mark.parametrize("kind", KINDS)
async def test_names_that_can_be_gone_through_once_are_names_too(kind: str) -> None:
    async with faces(kind, "Bob") as (call, _):
        assert (await call("group", iter(["Bob", "Alice"]))).names == ("Bob", "Alice")
        await call("add_http_client", "Carol", LOCAL, 0)
        # Not as if it were for none.
        with pytest.raises(NotReadyError, match="Carol"):
            await call("wait_ready", 0, handler_names=iter(["Carol"]))


@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize("name", [0, False, (), b""])
def test_what_is_no_name_of_a_pool_does_not_pass_for_none(face: type[Pool | SyncPool], name: Any) -> None:
    with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
        face(name=name)


async def test_the_wrong_way_to_enter_a_pool_names_the_right_one() -> None:
    with pytest.raises(TypeError, match="a Pool is entered by `async with`"), Pool():
        pass
    pool = SyncPool(name="Alice", settings=quick())
    try:
        with pytest.raises(TypeError, match="a SyncPool is entered by `with`"):
            async with pool:  # type: ignore[misc]
                pass
    finally:
        pool.shutdown(0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_for_an_empty_list_of_parties_is_told_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with faces(kind, "Bob") as (call, _):
        for _ in range(2):
            assert await call("recv_all", []) == []
        await call("broadcast", 1, handler_names=[])
        assert len(log.lines("its handler_names are empty", logging.WARNING)) == 1


def test_a_group_of_one_is_no_call_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    with SyncPool(name="Alice", settings=quick()) as pool:
        assert pool.group(["Alice"]).allgather(1) == {"Alice": 1}
    assert not log.lines("is for none")


def test_what_can_not_be_printed_to_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^file= is what to print to, as an open file, not int$"):
        Pool().explain(5)  # type: ignore[arg-type]


def test_a_handle_says_whose_it_is() -> None:
    pool = SyncPool(name="Alice", settings=quick())
    for port, name in enumerate(("Bob", "Carol", "Dave", "Eve"), 1):
        pool.add_http_client(name, LOCAL, port)
    try:
        handle, all_, receive = pool.asend("Bob", 1), pool.async_broadcast(1), pool.arecv("Bob")
        assert repr(handle) == "<handle of a send to Bob, waiting>"
        assert repr(all_) == "<handle of a send to Bob, Carol, Dave and 1 more, waiting>"
        assert repr(receive) == "<handle of a receive from Bob, waiting>"
        with pytest.raises(TimeoutError, match=r"not confirmed by Bob within 0\.001 s; the message may still arrive"):
            handle.result(0.001)
    finally:
        pool.shutdown(0)
    assert repr(handle) == "<handle of a send to Bob, failed>"
