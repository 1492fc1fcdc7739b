"""Addresses as people write them: what is refused, what is compared, and how they are shown."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from mpccomm import Pool, SyncPool
from mpccomm.address import (
    IPAddress,
    ascii_name,
    check_host,
    check_name,
    check_port,
    equivalents,
    join,
    literal,
    normalise,
    of_socket,
)
from mpccomm.errors import ConfigurationError

LINK = socket.if_indextoname(1)
"""The first interface there is; on Linux the loopback."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("2001:db8::1%7", "2001:db8::1"),
        (f"fe80::1%{LINK}", "fe80::1%1"),
        ("fe80::1%12", "fe80::1%12"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    assert normalise(text) == ip_address(expected)


def test_the_same_address_on_another_link_is_another_machine() -> None:
    assert normalise("fe80::b%1") != normalise("fe80::b%2")
    assert of_socket(("fe80::b", 7, 0, 2)) == normalise("fe80::b%2")
    assert of_socket(("::ffff:10.0.0.1", 7, 0, 0)) == of_socket(("10.0.0.1", 7)) == IPv4Address("10.0.0.1")


def test_each_loopback_stands_for_both_and_is_shown_as_it_is() -> None:
    both = {IPv4Address("127.0.0.1"), IPv6Address("::1")}
    assert equivalents(normalise("127.0.0.1")) == equivalents(normalise("::1")) == both
    assert equivalents(normalise("127.0.0.2")) == {IPv4Address("127.0.0.2")}
    assert str(normalise("::1")) == "::1"


@pytest.mark.parametrize("text", ["localhost", "bob.example", "", "10.0.0", "1.2.3.4.5", "::g", "fe80::1%no-such-link"])
def test_names_are_no_addresses(text: str) -> None:
    assert literal(text) is None
    with pytest.raises(ValueError):
        normalise(text)


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("::1", 80, "[::1]:80"),
        ("bob", 1, "bob:1"),
        ("::", None, "[::]"),
        (IPv6Address("::2"), 3, "[::2]:3"),
    ],
)
def test_as_people_write_it(host: str | IPAddress, port: int | None, shown: str) -> None:
    assert join(host, port) == shown


def test_one_normal_form_of_names() -> None:
    assert ascii_name("fa\u00df.example") == ascii_name("FA\u00df.example.") == "xn--fa-hia.example"
    assert ascii_name("fass.example") == "fass.example"
    assert ascii_name("B\u00fccher.example") == "xn--bcher-kva.example"
    assert ascii_name("my_service") == "my_service"
    assert ascii_name("*.Example") == "*.example"


GOOD_HOSTS = [
    "bob",
    "bob.example",
    "10.0.0.1",
    "::1",
    "my_service",
    "fa\u00df.example",
    f"fe80::1%{LINK}",
    "a-b.c",
    "127.1.2.3",
]
BAD_HOSTS = {
    "": "is empty",
    "http://bob.example": "is a URL",
    "bob:8080": "as port=",
    "[::1]": "without brackets",
    "[::1]:80": "without brackets",
    "10.0.0.300": "no IP address",
    "10.0.1": "no IP address",
    "fe80::1": "say of which",
    "fe80::1%no-such-link": "no network interface",
    "::g": "no IP address",
    "bob example": "neither",
    "bob\n": "begins or ends with blanks",
    " bob": "begins or ends with blanks",
    "a" * 64: "neither",
    "-bob": "neither",
    "bob..example": "neither",
    ".".join(["abcdefgh"] * 40): "neither",
}


@pytest.mark.parametrize(
    ("host", "what", "port_as", "remedy"),
    [
        ("bob:8080", "addr", "", "give the address alone, and the port as port="),
        ("127.0.0.1:33451", "address", "--port", "give the address alone, and the port as --port"),
        ("[::1]:80", "address", "--port", "give the address alone, without brackets, and the port as --port"),
        ("bob:8080", "address", "", "give the address alone"),
    ],
)
def test_what_has_a_port_is_told_where_that_belongs(host: str, what: str, port_as: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_host(host, what, port_as)
    assert str(caught.value) == f"{what}={host!r}: {remedy}"


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_hosts_that_can_be(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(("host", "why"), BAD_HOSTS.items())
@pytest.mark.parametrize("face", [Pool, SyncPool])
def test_hosts_that_cannot_be_are_refused_at_the_call(face: type[Pool | SyncPool], host: str, why: str) -> None:
    pool = face()
    with pytest.raises(ConfigurationError, match=why):
        pool.add_http_client("bob", host, 8080)
    with pytest.raises(ConfigurationError, match=why):
        pool.add_http_server(0, host)
    assert not pool.pool_handlers


@pytest.mark.parametrize("port", ["8402", 80.0, None, True, b"80"])
def test_ports_of_the_wrong_kind(port: object) -> None:
    with pytest.raises(TypeError, match="whole number"):
        check_port(port)


@pytest.mark.parametrize("port", [-1, 0, 65536, 70000])
@pytest.mark.parametrize("face", [Pool, SyncPool])
def test_ports_out_of_range_are_refused_at_the_call(face: type[Pool | SyncPool], port: int) -> None:
    pool = face()
    if port:
        with pytest.raises(ConfigurationError, match="or 0 for a party without a server"):
            pool.add_http_client("bob", "127.0.0.1", port)
    with pytest.raises(ConfigurationError, match="external_port"):
        pool.add_http_server(0, "127.0.0.1", port)
    if port:
        with pytest.raises(ConfigurationError, match="or 0 for any"):
            pool.add_http_server(port, "127.0.0.1")


@pytest.mark.parametrize("name", [None, 7, b"bob", ["bob"]])
def test_names_of_parties_are_texts(name: object) -> None:
    with pytest.raises(TypeError, match="name of a party"):
        Pool().add_http_client(name, "127.0.0.1", 80)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is empty"):
        Pool().add_http_client("", "127.0.0.1", 80)


@pytest.mark.parametrize("name", ["Bob ", " Bob", "Bob\n", "\t", "\u00a0Bob"])
def test_names_of_parties_have_no_blanks_around_them(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"begins or ends with blanks.*Leave them out"):
        Pool().add_http_client(name, "127.0.0.1", 80)
    with pytest.raises(ConfigurationError, match="begins or ends with blanks"):
        Pool(name=name)


CONTROLS = ["Bob\nERROR all is lost", "\x1b[31mBob", "B\u2028ob", "B\u202eob", "B\0ob", "B\u200bob"]


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("face", [Pool, SyncPool])
def test_names_of_parties_steer_no_log(face: type[Pool | SyncPool], name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"has the control character .*Leave it out") as caught:
        face().add_http_client(name, "127.0.0.1", 80)
    assert str(caught.value).isprintable()
    with pytest.raises(ConfigurationError, match="has the control character"):
        face(name=name)


@pytest.mark.parametrize(
    "name",
    ["Bob and Carol", "B\u00fccher", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "a\u00a0b", "*/:%s"],
)
def test_names_of_parties_are_in_any_language(name: str) -> None:
    assert check_name(name) == name


def test_an_address_of_another_machine_is_told_as_such() -> None:
    for addr in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(
            ConfigurationError, match=f"can't listen at {addr}:0, which is no address of this machine .*addr="
        ):
            Pool().add_http_server(0, addr)
