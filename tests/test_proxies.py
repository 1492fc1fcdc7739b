"""How a proxy is named: its URL, the hosts it does not serve, and what must not be seen of it."""

from pathlib import Path
from typing import Any

import pytest

from mpccomm import ConfigurationError, Proxy
from mpccomm.proxies import proxy_of


def test_a_url() -> None:
    proxy = Proxy("http://proxy.corp:3128/")
    assert (proxy.url, proxy.host, proxy.port, proxy.tls) == ("http://proxy.corp:3128", "proxy.corp", 3128, False)
    assert Proxy("https://[2001:db8::1]").url == "https://[2001:db8::1]:443"
    assert str(proxy) == "proxy proxy.corp:3128"


@pytest.mark.parametrize(
    "url",
    [
        "proxy.corp:3128",
        "socks5://proxy.corp:1080",
        "http://",
        "http://proxy/path",
        "http://a b",
        "http://x:99999",
        "http://p?q=1",
    ],
)
def test_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ConfigurationError, match="a proxy is a URL such as"):
        Proxy(url)


def test_no_password_in_a_url_and_none_in_sight() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Proxy("http://me:hunter2@proxy.corp:3128")
    assert "hunter2" not in str(caught.value)
    assert "credentials_file" in str(caught.value)
    proxy = Proxy.with_credentials("http://me:hunt%40er2@proxy.corp:3128")
    assert proxy.authorization == "me:hunt@er2"
    assert "er2" not in f"{proxy!r} {proxy} {proxy.url}"


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    proxy = Proxy("http://proxy.corp", file)
    with pytest.raises(ConfigurationError, match="can't be read"):
        assert proxy.authorization
    file.write_text("me:one\n")
    assert proxy.authorization == "me:one"
    file.write_text("me:two:and more\n# a comment\n")
    assert proxy.authorization == "me:two:and more"
    file.write_text("secret\n")
    with pytest.raises(ConfigurationError, match="no user:password in its first line") as caught:
        assert proxy.authorization
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("bypass", "host", "served"),
    [
        ((), "bob.example", True),
        (("*",), "bob.example", False),
        (("example",), "bob.example", False),
        ((".example",), "bob.example", False),
        (("*.example",), "BOB.example.", False),
        (("ob.example",), "bob.example", True),
        (("bob.example:443",), "bob.example", False),
        (("10.0.0.0/8",), "10.1.2.3", False),
        (("10.1.2.3",), "10.1.2.3", False),
        (("10.1.2.3",), "10.1.2.30", True),
        (("2001:db8::/32",), "2001:db8::5", False),
        (("10.0.0.0/8", "lan"), "bob.example", True),
        (("",), "bob.example", True),
    ],
)
def test_hosts_that_are_reached_directly(bypass: tuple[str, ...], host: str, served: bool) -> None:
    assert Proxy("http://proxy", bypass=bypass).serves(host) is served


def test_of_the_environment() -> None:
    assert proxy_of("env", {}) is None
    assert proxy_of("env", {"HTTP_PROXY": "http://p:1"}) is None
    proxy = proxy_of("env", {"HTTPS_PROXY": "proxy.corp:3128", "NO_PROXY": "lan, .corp"})
    assert proxy is not None
    assert proxy.url == "http://proxy.corp:3128"
    assert not proxy.serves("bob.lan")
    assert not proxy.serves("localhost")
    assert not proxy.serves("127.0.0.1")
    assert proxy.serves("bob.example")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY: a proxy is a URL") as caught:
        proxy_of("env", {"https_proxy": "socks5://me:hunter2@proxy"})
    assert "hunter2" not in str(caught.value)
    assert proxy_of("none") is None
    assert proxy_of(None) is None


@pytest.mark.parametrize("bypass", ["host", 1, None])
def test_hosts_that_are_reached_directly_are_a_list(bypass: Any) -> None:
    with pytest.raises(TypeError, match="bypass= takes a list of hosts, not "):
        Proxy("http://proxy", bypass=bypass)
