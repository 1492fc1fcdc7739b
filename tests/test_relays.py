"""Relays as programs and files name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpccomm import ConfigurationError
from mpccomm.relays import Relay, relays_of


@pytest.mark.parametrize(
    ("url", "form", "host", "tls", "where"),
    [
        ("https://relay.example", "https://relay.example:443", "relay.example", True, "relay.example:443"),
        ("http://localhost", "http://localhost:80", "localhost", False, "localhost:80"),
        (
            "https://Relay.Example:8443/mpc/",
            "https://relay.example:8443/mpc",
            "relay.example",
            True,
            "relay.example:8443",
        ),
        ("https://[::1]:1", "https://[::1]:1", "::1", True, "[::1]:1"),
    ],
)
def test_one_form(url: str, form: str, host: str, tls: bool, where: str) -> None:
    relay = Relay(url)
    assert (relay.url, relay.host, relay.tls, relay.where) == (form, host, tls, where)
    assert str(relay) == f"relay {where}"
    assert relay == Relay(form)
    assert hash(relay) == hash(Relay(form))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example",
        "ftp://relay.example",
        "https://",
        "https://relay.example:99999",
        "https://user:secret@relay.example",
        "https://relay.example/?token=secret",
        "https://relay.example/#secret",
    ],
)
def test_what_is_none_is_refused_without_what_may_be_secret_in_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="a relay is a URL such as") as caught:
        Relay(url)
    assert "secret" not in str(caught.value)


def test_it_is_a_text() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        Relay(b"https://relay.example")  # type: ignore[arg-type]


def test_files_are_paths() -> None:
    relay = Relay("https://relay.example", "token", "ca.pem")
    assert (relay.token_file, relay.ca_cert) == (Path("token"), Path("ca.pem"))
    assert Relay("https://relay.example").token_file is None


@pytest.mark.parametrize(
    ("url", "refused"),
    [("http://relay.example", True), ("http://localhost", False), ("http://127.0.0.1", False), ("http://[::1]", False)],
)
def test_a_token_does_not_go_where_everybody_can_read_it(url: str, refused: bool) -> None:
    Relay(url)
    if refused:
        with pytest.raises(ConfigurationError, match="would get a token that everybody on the way can read"):
            Relay(url, "token")
    else:
        Relay(url, "token")


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        (None, []),
        ([], []),
        ("https://a.example", ["a"]),
        (Relay("https://a.example"), ["a"]),
        (["https://b.example", Relay("https://a.example"), "https://b.example:443"], ["b", "a"]),
    ],
)
def test_each_that_is_given_counts_once_in_that_order(given: Any, urls: list[str]) -> None:
    assert [relay.url for relay in relays_of(given)] == [f"https://{name}.example:443" for name in urls]


@pytest.mark.parametrize("given", [1, True, 1j, [1]])
def test_what_is_no_list_of_them_is_told_as_what_is_none(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^a relay is the text of a URL, as https://relay.example, not "):
        relays_of(given)
