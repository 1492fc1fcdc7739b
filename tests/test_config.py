"""The file for all parties: what it may say, and what is said about mistakes in it."""

import asyncio
import inspect
from functools import partial
from pathlib import Path

import pytest

from mpccomm import ConfigurationError, Pool, PortInUseError, Proxy, Settings, SyncPool, Timing
from mpccomm.config import ME, Config, build, line_of
from tests.certificates import LOCAL, Folder, root
from tests.ports import free_ports
from tests.timing import UNIT

LIMIT = 100 * UNIT

FULL = """
timeout = 60
max_retries = 5
ca_cert = "ca.pem"

[settings]
linger = 10
unreachable_timeout = 30
timing.heartbeat = 5

[settings.limits]
window = 1_000_000

[parties.alice]
addr = "alice.example"
port = 8443
listen_addr = "::"
listen_port = 443
cert = "alice.pem"
key = "alice.key"

[parties.bob]
addr = "192.168.0.102"
cert = ["bob.pem", "bob-new.pem"]
"""


def write(path: Path, text: str) -> Path:
    for name in ("ca.pem", "alice.pem", "bob.pem", "bob-new.pem"):
        (path / name).touch()
    file = path / "mpccomm.toml"
    file.write_text(text, encoding="utf-8")
    return file


def plain(path: Path) -> Path:
    ports = free_ports(2)
    text = "".join(
        f'[parties.{name}]\naddr = "{LOCAL}"\nport = {port}\n' for name, port in zip("ab", ports, strict=True)
    )
    return write(path, text)


def test_everything(tmp_path: Path) -> None:
    config = Config.load(write(tmp_path, FULL))
    alice, bob = config.parties.values()
    assert (alice.name, alice.addr, alice.port, alice.listen_port, alice.listens_at) == (
        "alice", "alice.example", 8443, 443, "::",
    )  # fmt: skip
    assert (alice.cert, alice.key) == ((tmp_path / "alice.pem",), tmp_path / "alice.key")
    assert bob.cert == (tmp_path / "bob.pem", tmp_path / "bob-new.pem")
    assert (bob.port, bob.key, bob.listens_at) == (None, None, "0.0.0.0")
    assert (config.ca_cert, config.timeout, config.max_retries, config.tls) == (tmp_path / "ca.pem", 60, 5, True)
    default = Settings()
    assert config.settings.timing == Timing(heartbeat=5)
    assert (config.settings.linger, config.settings.unreachable_timeout) == (10, 30)
    assert config.settings.limits.window == 1_000_000
    assert config.settings.limits.frame_size == default.limits.frame_size
    assert config.settings.retry == default.retry


@pytest.mark.parametrize(
    ("addr", "listens_at"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::1", "::1"),
        ("10.0.0.1", "0.0.0.0"),
        ("fd00::1", "::"),
    ],
)
def test_what_is_found_on_this_machine_listens_on_this_machine(tmp_path: Path, addr: str, listens_at: str) -> None:
    config = Config.load(write(tmp_path, f'[parties.a]\naddr = "{addr}"\n'))
    assert config.parties["a"].listens_at == listens_at


MISTAKES = [
    (
        "[parties.' alice']\naddr = 'a'",
        "1: parties.' alice': ' alice' can't be the name of a party: it begins or ends with",
    ),
    ('[parties."a\\nb"]\naddr = "a"', r"1: parties.'a\\nb': .* control character"),
    ("tiemout = 3\n[parties.a]\naddr = 'a'", "1: tiemout: unknown; did you mean timeout?"),
    ("[parties.a]\naddr = 'a'\nprot = 3", "3: parties.a.prot: unknown; did you mean port?"),
    ("[parties.a]\naddr = 'a'\nzzz = 3", "3: parties.a.zzz: unknown; there can be addr, port"),
    (
        "[settings]\ntiming.hartbeat = 3\n[parties.a]\naddr = 'a'",
        "2: settings.timing.hartbeat: unknown; did you mean heart",
    ),
    ("[settings]\nprogress.callback = 3\n[parties.a]\naddr = 'a'", "2: settings.progress.callback: unknown"),
    ("[parties.a]\naddr = 'a'\n[parties.b]\naddr = 'b'\n[parties.a]\naddr = 'c'", "5: .*twice.*each party"),
    ("[parties.a]\naddr = 'a'\naddr = 'b'", "3: .*overwrite.*can be there once"),
    ("[parties.a]\naddr = ", "2: "),
    (f"timeout = {'[' * 10_000}", "1: it is nested too deeply"),
    (f"timeout = {'9' * 10_000}", "1: Exceeds the limit"),
    ("parties:\n  a:\n    addr: a", r"1: .* \(the file is read as TOML\)$"),
    ("[parties.'']\naddr = 'a'", "1: parties.'': the name of a party is empty"),
    (
        "[parties.a]\naddr = 'a'\nport = 7\n\n[parties.b]\naddr = 'A'\nport = 7",
        "7: parties.b.port: a port 7 is the address of a",
    ),
    ("[parties.a]\naddr = 'a'\n[parties.b]\naddr = 'a'\nport = 80", "5: parties.b.port: a port 80 is the address of a"),
    ("parties = {a = {addr = 'x'}, b = {addr = 'x'}}", "1: parties.b.addr: x port 80 is the address of a"),
    ("[parties.a]\nport = 3", "1: parties.a: there is no addr; add"),
    ("[parties.a]\naddr = 'a'\nport = '80'", "3: parties.a.port: a whole number is needed, not text"),
    ("[parties.a]\naddr = 'a'\nport = true", "3: parties.a.port: a whole number is needed, not true or false"),
    ("[parties.a]\naddr = 'a'\nport = 65536", "3: parties.a.port: port=65536 is no port"),
    (
        "[parties.a]\naddr = 'a'\ncert = 'none.pem'",
        "3: parties.a.cert: there is no file .*none.pem; paths are relative",
    ),
    ("[parties.a]\naddr = 'a'\ncert = [3]", "3: parties.a.cert: a path or a list"),
    (
        "[parties.a]\naddr = 'a'\ncert = 'alice.pem'\n[parties.b]\naddr = 'b'",
        "4: parties.b: there is no cert, but others",
    ),
    ("[parties.a]\naddr = 'a'\nkey = 'a.key'", "3: parties.a.key: there is a key, but no cert"),
    ("ca_cert = 'no.pem'\n[parties.a]\naddr = 'a'", "1: ca_cert: there is no file"),
    ("timeout = 0\n[parties.a]\naddr = 'a'", "1: timeout: 0 can't be"),
    ("settings.linger = -1\n[parties.a]\naddr = 'a'", "1: settings.linger: Settings\\(linger=-1\\): a number"),
    ("settings.limits.window = 1.5\n[parties.a]\naddr = 'a'", "1: settings.limits.window: a whole number is needed"),
    ("[parties]\na = 'host:80'", r"2: parties.a: a party is a table: write \[parties.a\]"),
    ("timeout = 3", "1: there are no parties"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[expected[:40] for _, expected in MISTAKES])
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match="mpccomm.toml:" + expected) as raised:
        Config.load(file)
    assert str(raised.value).startswith(str(file))


def test_certificates_that_are_still_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "mpccomm.toml").write_text(FULL)
    config = Config.load(tmp_path / "mpccomm.toml", certified=False)
    assert config.parties["bob"].cert == (tmp_path / "bob.pem", tmp_path / "bob-new.pem")
    with pytest.raises(ConfigurationError, match="ca_cert: there is no file"):
        Config.load(tmp_path / "mpccomm.toml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.toml can't be read: No such file"):
        Config.load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="can't be read"):
        Config.load(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a = 1\n\n[b.c]\nd = 2", ("b", "c", "d"), 4),
        ("a = 1\n\n[b.c]\nd = 2", ("b", "c", "e"), 3),
        ("[b.'x.y']\nd = 2", ("b", "x.y", "d"), 2),
        ('b."x y".d = 1', ("b", "x y", "d"), 1),
        ("", ("a",), 1),
    ],
)
def test_lines(text: str, key: tuple[str, ...], line: int) -> None:
    assert line_of(text, key) == line


# -- pools -------------------------------------------------------------------------------------------------------------


def test_two_blocking_pools(tmp_path: Path) -> None:
    file = plain(tmp_path)
    with SyncPool.from_config(file, "a") as a, SyncPool.from_config(file, "b") as b:
        assert (a.name, b.name, a.port) == ("a", "b", Config.load(file).parties["a"].port)
        a.send("b", 1, timeout=LIMIT)
        assert b.recv("a") == 1
        handles = a.pool.group(), b.pool.group()
        assert [group.names for group in handles] == [("a", "b")] * 2


@pytest.mark.parametrize("face", [Pool, SyncPool])
async def test_a_pool_of_a_file_has_its_name_from_there(
    face: type[Pool | SyncPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = plain(tmp_path)
    monkeypatch.setenv(ME, "a")
    for make in (partial(face.from_config, file, "a"), partial(face.from_config, file), partial(face.from_env, file)):
        pool = make()
        with pytest.raises(ConfigurationError, match="'a' is this pool's own name"):
            pool.add_http_client("a", LOCAL, 1)
        await (asyncio.to_thread(pool.shutdown, 0) if isinstance(pool, SyncPool) else pool.shutdown(0))


async def test_two_pools_with_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, folder = root(), Folder(tmp_path)
    ports = dict(zip(("alice", "bob"), free_ports(2), strict=True))
    text = f'ca_cert = "{Path(folder.cert(authority)).name}"\n'
    for name, port in ports.items():
        identity = authority.issue(name, LOCAL)
        cert, key = (Path(path).name for path in (folder.cert(identity), folder.key(identity)))
        text += f'[parties.{name}]\naddr = "{LOCAL}"\nport = {port}\ncert = "{cert}"\nkey = "{key}"\n'
    file = write(tmp_path, text)
    monkeypatch.setenv(ME, "bob")
    async with Pool.from_config(file, me="alice") as alice, Pool.from_config(file) as bob:
        await asyncio.gather(alice.wait_ready(LIMIT), bob.wait_ready(LIMIT))
        await alice.send("bob", "secret", timeout=LIMIT)
        assert await bob.recv("alice") == "secret"


def test_who_is_this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = plain(tmp_path)
    monkeypatch.delenv(ME, raising=False)
    with pytest.raises(ConfigurationError, match=r"which party is this\? .*mpccomm.toml has 'a', 'b'"):
        SyncPool.from_config(file)
    for odd in (1, ["a"], b"a"):
        with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
            SyncPool.from_config(file, odd)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"mpccomm.toml has no party 'c'; it has 'a', 'b'"):
        SyncPool.from_config(file, "c")


def test_certificates_that_this_party_lacks(tmp_path: Path) -> None:
    file = write(tmp_path, FULL)
    with pytest.raises(ConfigurationError, match=r"there is no .*alice.key, the key of alice; copy it"):
        SyncPool.from_config(file, "alice")
    file = write(tmp_path, "ca_cert = 'ca.pem'\n[parties.a]\naddr = 'a'")
    with pytest.raises(ConfigurationError, match="a has no cert"):
        SyncPool.from_config(file, "a")


def test_a_port_in_use_leaves_nothing_open(tmp_path: Path) -> None:
    file = plain(tmp_path)
    with SyncPool.from_config(file, "a"), pytest.raises(PortInUseError):
        SyncPool.from_config(file, "a")


@pytest.mark.parametrize("name", ["from_config", "from_env"])
def test_both_faces_have_the_same(name: str) -> None:
    ours, theirs = getattr(SyncPool, name), getattr(Pool, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__doc__ == theirs.__doc__


# -- relays ------------------------------------------------------------------------------------------------------------

RELAYED = """
relay = "https://relay.example"
[parties.a]
addr = "a.example"
cert = "alice.pem"
[parties.b]
cert = "alice.pem"
relay = [{url = "https://relay.b:8443/mpc/", token_file = "b.token", ca_cert = "ca.pem"}, "https://other.b"]
[parties.c]
addr = "c.example"
cert = "alice.pem"
relay = []
"""


def test_relays_of_the_file_and_of_a_party(tmp_path: Path) -> None:
    parties = Config.load(write(tmp_path, RELAYED)).parties
    (common,) = parties["a"].relays
    one, other = parties["b"].relays
    assert common.url == "https://relay.example:443"
    assert (one.url, one.token_file, one.ca_cert) == (
        "https://relay.b:8443/mpc",
        tmp_path / "b.token",
        tmp_path / "ca.pem",
    )
    assert (other.url, other.token_file) == ("https://other.b:443", None)
    assert not parties["c"].relays
    assert [party.listens for party in parties.values()] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("relay = 'relay.example'\n[parties.a]\naddr = 'a'", "1: relay: a relay is a URL such as"),
        ("relay = 'https://u:p@relay.example'\n[parties.a]\naddr = 'a'", "1: relay: a relay is a URL such as"),
        ("relay = 3\n[parties.a]\naddr = 'a'", "1: relay: text or a table or a list is needed"),
        ("relay = {token_file = 'x'}\n[parties.a]\naddr = 'a'", "1: relay: a relay is the text of a URL, or a table"),
        ("[parties.a]\naddr = 'a'\nrelay = {url = 'https://r', tokne = 'x'}", "3: parties.a.relay.tokne: unknown"),
        ("[parties.a]\nrelay = 'https://r'", "1: parties.a: there is no addr; .*, or its cert and a relay"),
        ("[parties.a]\naddr = 'a'\nrelay = 'https://r'", "1: parties.a: a relay needs certificates"),
        (
            "[parties.a]\naddr = 'a'\nrelay = {url = 'http://r.example', token_file = 'x'}",
            "3: parties.a.relay: .*use https",
        ),
    ],
)
def test_relays_that_can_not_be(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=f"mpccomm.toml:{error}"):
        Config.load(write(tmp_path, text))


# -- proxies -----------------------------------------------------------------------------------------------------------

BEHIND = """
proxy = "http://proxy.example:3128"
[parties.a]
addr = "a.example"
cert = "alice.pem"
[parties.b]
addr = "b.example"
cert = "alice.pem"
proxy = {url = "https://proxy.b:8443", credentials_file = "b.password", ca_cert = "ca.pem", bypass = ["a.example"]}
[parties.c]
addr = "c.example"
cert = "alice.pem"
proxy = "env"
"""


def test_proxies_of_the_file_and_of_a_party(tmp_path: Path) -> None:
    config = Config.load(write(tmp_path, BEHIND))
    a, b, c = (party.proxy for party in config.parties.values())
    assert a == Proxy("http://proxy.example:3128")
    assert b == Proxy("https://proxy.b:8443", tmp_path / "b.password", tmp_path / "ca.pem", ["a.example"])
    assert c == "env"
    with pytest.raises(
        ConfigurationError, match=r"there is no .*b\.password, the password for the proxy proxy\.b:8443"
    ):
        build(Pool, config, "b", None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("proxy = 'proxy.example'\n[parties.a]\naddr = 'a'", "1: proxy: a proxy is a URL such as"),
        ("proxy = 'http://u:p@proxy.example'\n[parties.a]\naddr = 'a'", "1: proxy: the URL of a proxy has a password"),
        ("proxy = 3\n[parties.a]\naddr = 'a'", "1: proxy: text or a table is needed"),
        ("proxy = {ca_cert = 'x'}\n[parties.a]\naddr = 'a'", "1: proxy: a proxy is the text of a URL, or a table"),
        ("[parties.a]\naddr = 'a'\nproxy = {url = 'http://r', bypas = []}", "3: parties.a.proxy.bypas: unknown"),
        (
            "[parties.a]\naddr = 'a'\nproxy = {url = 'http://r', bypass = [1]}",
            "3: parties.a.proxy.bypass: a list of host",
        ),
        ("[parties.a]\naddr = 'a'\nproxy = 'http://r'", "1: parties.a: a proxy needs certificates"),
    ],
)
def test_proxies_that_can_not_be(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=f"mpccomm.toml:{error}"):
        Config.load(write(tmp_path, text))


# -- several behind one address ----------------------------------------------------------------------------------------

ONE_ADDRESS = """
[parties.a]
addr = "a.example"
cert = "alice.pem"
[parties.b]
addr = "mpc.example"
cert = "ca.pem"
server_name = "b.mpc.example"
[parties.c]
addr = "mpc.example"
cert = "bob.pem"
server_name = "c.mpc.example"
"""


def test_parties_behind_one_address_have_names_there(tmp_path: Path) -> None:
    text = ONE_ADDRESS
    parties = Config.load(write(tmp_path, text)).parties
    assert [party.server_name for party in parties.values()] == [None, "b.mpc.example", "c.mpc.example"]
    with pytest.raises(ConfigurationError, match=r"mpc\.example port 443 is the address of b"):
        Config.load(write(tmp_path, text.replace("c.mpc.example", "b.mpc.example")))
    with pytest.raises(ConfigurationError, match=r"parties\.c\.server_name: server_name='192\.0\.2\.1' is an address"):
        Config.load(write(tmp_path, text.replace("c.mpc.example", "192.0.2.1")))
