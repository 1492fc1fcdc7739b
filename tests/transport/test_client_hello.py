"""Whom a caller asks for: ClientHellos of OpenSSL and damaged ones, whole and in pieces, and heads of HTTP."""

import random
import ssl

import pytest

from mpccomm.transport.client_hello import MOST, IncompleteError, asked_for


def hello(name: str | None) -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", ["bob.mpc.example", "b", "a" * 63 + ".example"])
def test_by_sni_in_pieces(name: str) -> None:
    data = hello(name)
    assert asked_for(data + b"more") == name
    for size in range(len(data)):
        with pytest.raises(IncompleteError):
            asked_for(data[:size])


@pytest.mark.parametrize("name", [None, "192.0.2.1"])
def test_none(name: str | None) -> None:
    assert asked_for(hello(name)) == ""


def test_over_several_records() -> None:
    message = hello("bob.mpc.example")[5:]
    pieces = [message[at : at + 100] for at in range(0, len(message), 100)]
    data = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert asked_for(data) == "bob.mpc.example"
    with pytest.raises(IncompleteError):
        asked_for(data[:-1])


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: Bob.mpc.example:8443\r\nX: y\r\n\r\n", "bob.mpc.example"),
        (b"GET / HTTP/1.1\r\nX: y\r\nhost:bob\r\n\r\nrest", "bob"),
        (b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", "2001:db8::1"),
        (b"GET / HTTP/1.1\r\n\r\nHost: bob\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: b\xf6b\r\n\r\n", ""),
    ],
)
def test_by_host(head: bytes, name: str) -> None:
    assert asked_for(head) == name
    with pytest.raises(IncompleteError):
        asked_for(head[:10])


def test_damage_ends_in_a_name_or_none() -> None:
    chance = random.Random(1)
    data = hello("bob.mpc.example")
    for _ in range(3000):
        damaged = bytearray(data[: chance.randrange(len(data)) if chance.random() < 0.3 else None])
        for _ in range(chance.randrange(1, 6)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            assert isinstance(asked_for(bytes(damaged)), str)
        except IncompleteError:
            assert len(damaged) < MOST
    assert asked_for(b"GET " + b"x" * MOST) == ""
    assert asked_for(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(MOST)) == ""
