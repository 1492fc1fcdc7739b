"""The doctor, with patients that are well and with ones that are not."""

import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mpccomm import Listener, NotReadyError, Proxy, SyncPool
from mpccomm.cli import Status
from mpccomm.cli import main as mpccomm
from mpccomm.cli.doctor import _look_through
from mpccomm.config import Config, PartyConfig
from mpccomm.pytest_plugin.relays import LocalRelay
from tests.certificates import DAY, LOCAL, Folder, Identity, root, self_signed
from tests.forward_proxy import ForwardProxy
from tests.ports import free_ports
from tests.timing import UNIT


def main(arguments: list[str]) -> int:
    return mpccomm(["doctor", *arguments])


PATIENCE = str(20 * UNIT)
"""Where something is wrong, it is waited for in vain."""
MORE = ("--timeout", str(100 * UNIT))


def setup(tmp_path: Path, certificates: dict[str, Identity] | None = None, **extra: str) -> Path:
    """A configuration for alice and bob; each of the certificates is pinned."""
    folder = Folder(tmp_path)
    text = ""
    for name, port in zip(("alice", "bob"), free_ports(2), strict=True):
        text += f"[parties.{name}]\nport = {port}\n{extra.get(name, f'addr = {json.dumps(LOCAL)}')}\n"
        if certificates:
            text += f'cert = "{folder.cert(certificates[name])}"\nkey = "{folder.key(certificates[name])}"\n'
    file = tmp_path / "mpccomm.toml"
    file.write_text(text)
    return file


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[tuple[str, str], Any]]:
    """Exit status and, by party and check, state, text and remedy."""
    status = main(["--json", "--timeout", PATIENCE, *arguments])
    report = json.loads(capsys.readouterr().out)
    assert report["well"] == (status == 0)
    for one in report["findings"]:
        assert bool(one["remedy"]) == (one["state"] != "ok"), "each that is not well has a remedy"
    return status, {
        (one["party"], one["check"]): (one["state"], one["text"], one["remedy"]) for one in report["findings"]
    }


@contextmanager
def program(file: Path) -> Iterator[SyncPool]:
    """Bob's own program, which is running."""
    with SyncPool.from_config(file, "bob") as pool:
        pool.arecv("alice")
        yield pool


def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path, {name: self_signed(name, LOCAL) for name in ("alice", "bob")})
    with program(file):
        status, found = findings(capsys, str(file), "--me", "alice", *MORE)
        assert status == 0
        assert {key: state for key, (state, _, _) in found.items()} == {
            ("alice", "certificate"): "ok",
            ("alice", "server"): "ok",
            ("bob", "name"): "ok",
            ("bob", "port"): "ok",
            ("bob", "certificate"): "ok",
            ("bob", "connection"): "ok",
        }
        assert "ms" in found["bob", "connection"][1]
        assert main([str(file), "--me", "alice"]) == 0
        assert "  ok    bob: port: " in capsys.readouterr().out


SAID = r"mpccomm doctor, ping or bench|refused|no answer yet|hung up|it is shutting down"
"""What is known of a party of which only a visit was seen: how far that has come."""


@pytest.mark.parametrize("command", ["doctor", "ping", "bench"])
def test_the_program_takes_no_note_of_it(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits for the party goes on waiting, and gets what that sends."""
    file = setup(tmp_path)
    options = {
        "doctor": MORE,
        "ping": ("--count", "1", "--interval", str(UNIT), *MORE),
        "bench": ("--wait", str(5 * UNIT)),
    }[command]
    with SyncPool.from_config(file, "bob") as bob:
        handle = bob.arecv("alice")
        expected = Status.TIMED_OUT if command == "bench" else Status.WELL
        assert mpccomm([command, str(file), "--me", "alice", *options]) == expected
        if command == "bench":
            assert "bob is connected, but runs no bench" in capsys.readouterr().err
        with pytest.raises(NotReadyError, match=SAID):
            bob.wait_ready(UNIT)
        assert not handle.done()
        assert bob.stats["alice"].messages_received == bob.stats["alice"].reconnects == 0
        with SyncPool.from_config(file, "alice") as alice:
            alice.send("bob", "the real one", timeout=100 * UNIT)
            assert handle.result(100 * UNIT) == "the real one"


def test_without_certificates_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with program(file):
        status, found = findings(capsys, str(file), "--me", "alice", *MORE)
    assert status == 0
    assert found["alice", "encryption"][0] == "warning"
    assert found["bob", "program"][1] == "mpccomm answers"


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = findings(capsys, str(setup(tmp_path)), "--me", "alice")
    assert status == 1
    assert "connection refused" in found["bob", "port"][1]
    assert "start the program" in found["bob", "port"][2]
    assert "refused" in found["bob", "connection"][1]


def test_a_name_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = findings(capsys, str(setup(tmp_path, bob="addr = 'no-such-host.invalid'")), "--me", "alice")
    assert status == 1
    assert "no-such-host.invalid can't be resolved" in found["bob", "name"][1]


def test_something_else_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    port = int(file.read_text().rpartition("port = ")[2].splitlines()[0])
    with socket.create_server((LOCAL, port)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-other\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        status, found = findings(capsys, str(file), "--me", "alice")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert status == 1
    assert found["bob", "program"][:2] == ("wrong", "something answers, but not mpccomm")


def test_the_other_side_does_not_recognise_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with SyncPool() as bob:
        bob.add_http_server(int(file.read_text().rpartition("port = ")[2].splitlines()[0]), LOCAL)
        bob.add_http_client("alice", LOCAL, 1)
        bob.arecv("alice")
        status, found = findings(capsys, str(file), "--me", "alice")
    assert status == 1
    assert found["bob", "port"][0] == "ok"
    assert "does not recognise us" in found["bob", "connection"][1]


def test_the_other_side_sees_no_stranger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = setup(tmp_path, {name: self_signed(name, LOCAL) for name in ("alice", "bob")})
    with program(file):
        status, _ = findings(capsys, str(file), "--me", "alice")
    assert status == 0
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_another_certificate_than_agreed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identities = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    file = setup(tmp_path, identities)
    theirs = tmp_path / "theirs.toml"
    folder, eve = Folder(tmp_path / "eve"), self_signed("eve", LOCAL)
    (tmp_path / "eve").mkdir()
    head, _, last = file.read_text().rpartition("cert = ")
    key = last.splitlines()[1]
    theirs.write_text(
        f'{head}cert = "{folder.cert(eve)}"\n' + last.split("\n", 1)[1].replace(key, f'key = "{folder.key(eve)}"')
    )
    with program(theirs):
        status, found = findings(capsys, str(file), "--me", "alice")
    assert status == 1
    assert "not the agreed one" in found["bob", "identity"][1]
    assert found["bob", "connection"][0] == "wrong"


@pytest.mark.parametrize(
    ("start", "end", "state", "remedy"),
    [
        (-2 * DAY, -DAY, "wrong", "issue a new one"),
        (DAY, 2 * DAY, "wrong", "clocks"),
        (-30 * DAY, 3 * DAY, "warning", "soon"),
        (-DAY, 3 * DAY, "ok", ""),
    ],
)
def test_the_time_of_certificates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], start: timedelta, end: timedelta, state: str, remedy: str
) -> None:
    alice = self_signed("alice", LOCAL, start=start, end=end)
    status, found = findings(
        capsys, str(setup(tmp_path, {"alice": alice, "bob": self_signed("bob", LOCAL)})), "--me", "alice"
    )
    assert status == 1, "Bob is not there"
    assert found["alice", "certificate"][0] == state
    assert remedy in found["alice", "certificate"][2]


def encrypt(file: Path, identity: Identity, password: str) -> Path:
    """Put the key of alice under a password; the file that has it."""
    key = Path(file.read_text().partition('key = "')[2].partition('"')[0])
    key.write_bytes(identity.key_bytes(password=password.encode()))
    secret = file.with_name("password")
    secret.write_text(f"{password}\n")
    return secret


def test_a_key_under_a_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    file = setup(tmp_path, identities)
    secret = encrypt(file, identities["alice"], "open sesame")
    with program(file):
        assert findings(capsys, str(file), "--me", "alice", "--password-file", str(secret), *MORE)[0] == 0
        # A terminal is asked, once.
        answers = ["open sesame"]
        monkeypatch.setattr("mpccomm.cli.arguments.getpass", lambda _: answers.pop())
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        assert findings(capsys, str(file), "--me", "alice", *MORE)[0] == 0
        monkeypatch.undo()
    status, found = findings(capsys, str(file), "--me", "alice")
    assert status == 1
    assert "is encrypted" in found["alice", "certificate"][1]
    assert "--password-file" in found["alice", "certificate"][2]
    secret.write_text("wrong")
    status, found = findings(capsys, str(file), "--me", "alice", "--password-file", str(secret))
    assert "is the password right?" in found["alice", "certificate"][1]
    assert main([str(file), "--me", "alice", "--password-file", str(tmp_path / "none")]) == 2
    assert "none can't be read: No such file" in capsys.readouterr().err


def test_a_certificate_for_another_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, folder = root(), Folder(tmp_path)
    file = setup(tmp_path, {name: authority.issue(name, f"{name}.example") for name in ("alice", "bob")})
    text = f'ca_cert = "{folder.cert(authority)}"\n' + file.read_text()
    bob = text.index("[parties.bob]")
    text = text[:bob] + "\n".join(line for line in text[bob:].splitlines() if not line.startswith(("cert", "key")))
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    with program(file):
        status, found = findings(capsys, str(mine), "--me", "alice")
    assert status == 1
    assert "it is for bob.example, not for 127.0.0.1" in found["bob", "identity"][1]


def test_the_own_program_is_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with SyncPool.from_config(file, "alice"):
        status, found = findings(capsys, str(file), "--me", "alice")
    assert status == 1
    assert "stop this party's own program" in found["alice", "server"][2]


def test_all_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    statuses: list[int] = []

    def other() -> None:
        statuses.append(main([str(file), "--me", "bob", "--together", "--timeout", str(100 * UNIT)]))

    thread = threading.Thread(target=other)
    thread.start()
    statuses.append(main([str(file), "--me", "alice", "--together", "--timeout", str(100 * UNIT)]))
    thread.join()
    output = capsys.readouterr().out
    for check in ("version: there mpccomm", "clock: the clock there is 0.0", "MiB/s to there"):
        assert output.count(check) == 2, output


def test_together_with_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    with program(file):
        status, found = findings(capsys, str(file), "--me", "alice", "--together")
    assert status == 1
    assert "no doctor answers" in found["bob", "comparison"][1]


def test_the_others_start_some_seconds_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    listening, looked = threading.Event(), threading.Event()

    def other() -> None:
        listening.wait()
        with program(file):
            looked.wait(100 * UNIT)  # what leaves at once can't be looked at

    thread = threading.Thread(target=other)
    thread.start()
    threading.Timer(5 * UNIT, listening.set).start()
    status, found = findings(capsys, str(file), "--me", "alice", *MORE)
    looked.set()
    thread.join()
    assert status == 0, found


def test_a_party_that_only_dials_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    mine, theirs = (int(line.removeprefix("port = ")) for line in file.read_text().splitlines() if "port = " in line)
    with SyncPool(name="bob") as bob:
        # Its server can't be reached at the port that alice has been told.
        bob.add_http_server(0, LOCAL, external_port=theirs)
        bob.add_http_client("alice", LOCAL, mine)
        bob.arecv("alice")
        status, found = findings(capsys, str(file), "--me", "alice", *MORE)
    assert status == 0
    assert found["bob", "connection"][0] == found["bob", "port"][0] == "ok"
    assert "none of that is needed" in found["bob", "port"][1]


def test_nothing_but_the_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mpccomm", "doctor", str(setup(tmp_path)), "--me", "alice", "--timeout", PATIENCE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert all(re.match(r"  (ok   |!    |WRONG) \w+: |          -> ", line) for line in done.stdout.splitlines())


def test_every_remedy_is_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = setup(tmp_path)
    file.write_text(file.read_text() + "[parties.carol]\naddr = 'no-such-host.invalid'\n")
    _, found = findings(capsys, str(file), "--me", "alice")
    wrong = {key: remedy for key, (state, _, remedy) in found.items() if state == "wrong"}
    assert len(wrong) == len(set(wrong.values())) == 4


def test_which_party_this_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPCCOMM_PARTY", raising=False)
    assert main([str(setup(tmp_path))]) == 2
    assert "--me NAME" in capsys.readouterr().err


def test_what_cannot_be_examined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.toml"), "--me", "alice"]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert main([str(setup(tmp_path)), "--me", "zoe"]) == 2
    assert "no party 'zoe'" in capsys.readouterr().err


# -- through a relay ---------------------------------------------------------------------------------------------------


def relayed(tmp_path: Path, relay: str) -> Path:
    """A configuration for alice and bob, who let nothing in."""
    folder = Folder(tmp_path)
    text = f"relay = {relay}\n"
    for name in ("alice", "bob"):
        identity = self_signed(name)
        text += f'[parties.{name}]\ncert = "{folder.cert(identity)}"\nkey = "{folder.key(identity)}"\n'
    file = tmp_path / "mpccomm.toml"
    file.write_text(text)
    return file


def table_of(relay: LocalRelay, token: Path | None = None) -> str:
    return f'{{url = "{relay.relay.url}", token_file = "{token or relay.relay.token_file}"}}'


def test_all_is_well_through_a_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalRelay(tmp_path) as relay:
        file = relayed(tmp_path, table_of(relay))
        with program(file):
            status, found = findings(capsys, str(file), "--me", "alice", *MORE)
    assert status == 0
    assert "lets this party in; in the file it is the relay of alice, bob" in found["alice", "relay"][1]
    assert "through a relay" in found["bob", "connection"][1]
    assert "it calls, and is called" in found["alice", "server"][1]


def test_a_party_that_is_not_at_the_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalRelay(tmp_path) as relay:
        status, found = findings(capsys, str(relayed(tmp_path, table_of(relay))), "--me", "alice")
    assert status == 1
    assert found["alice", "relay"][0] == "ok"
    assert "not at the relay" in found["bob", "connection"][1]
    assert "with the same relay in its file" in found["bob", "connection"][2]


def test_a_relay_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    status, found = findings(capsys, str(relayed(tmp_path, f'"https://{LOCAL}:{port}"')), "--me", "alice")
    assert status == 1
    assert "connection refused" in found["alice", "relay"][1]
    assert "start the relay" in found["alice", "relay"][2]


def test_a_relay_that_does_not_let_us_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "wrong.token"
    token.write_text("no token that anybody takes")
    with LocalRelay(tmp_path) as relay:
        status, found = findings(capsys, str(relayed(tmp_path, table_of(relay, token))), "--me", "alice")
    assert status == 1
    assert "add the fingerprint" in found["alice", "relay"][2]
    assert found["bob", "connection"][2] == "first do what is said of the relay, then look again"


def test_neither_side_lets_anything_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An address from which nothing comes back, as behind a firewall that drops."""
    with socket.socket() as full:
        # A queue that is full: the system drops what comes.
        full.bind((LOCAL, 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex((LOCAL, port))
            file = setup(tmp_path)
            file.write_text(re.sub(r"(bob\]\nport = )\d+", rf"\g<1>{port}", file.read_text()))
            status, found = findings(capsys, str(file), "--me", "alice")
        finally:
            for one in waiting:
                one.close()
    assert status == 1
    assert "neither side lets anything in: use a relay" in found["bob", "connection"][2]


# -- proxies, and several behind one address ---------------------------------------------------------------------------


def behind(proxy: str, **more: str) -> str:
    """The lines of a party that only a proxy lets out."""
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {"url": proxy, **more}.items())
    return f"addr = {json.dumps(LOCAL)}\nproxy = {{{table}}}"


def test_through_a_proxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "password").write_text("alice:open sesame\n")
    who = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    with ForwardProxy(credentials="alice:open sesame") as proxy:
        file = setup(tmp_path, who, alice=behind(proxy.url, credentials_file="password"))
        with program(file):
            status, found = findings(capsys, str(file), "--me", "alice", *MORE)
        assert status == 0
        assert "makes connections to 127.0.0.1 port" in found["bob", "proxy"][1]
        assert found["bob", "certificate"][0] == "ok"
        assert "round trip" in found["bob", "connection"][1]


@pytest.mark.parametrize(
    ("answer", "words", "remedy"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "(403)", "many allow port 443 alone"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "page of its own", "with a browser"),
    ],
)
def test_a_proxy_that_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, words: str, remedy: str
) -> None:
    who = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    with ForwardProxy(answer=answer) as proxy:
        status, found = findings(capsys, str(setup(tmp_path, who, alice=behind(proxy.url))), "--me", "alice")
    assert status == 1
    for check in ("proxy", "connection"):
        assert words in found["bob", check][1]
        assert remedy in found["bob", check][2]


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (
            b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
            'write proxy = {url = "...", credentials_file',
        ),
        (b"HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\n\r\n", "run a helper"),
        (b"HTTP/1.1 502 No\r\n\r\n", "start the program, or doctor, of bob"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "with a browser"),
        (b"hello\r\n", "check the URL of the proxy"),
    ],
)
def test_each_refusal_has_its_remedy(answer: bytes, remedy: str) -> None:
    bob = PartyConfig("bob", "bob.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with ForwardProxy(answer=answer) as proxy:
        (found,) = _look_through(Proxy(proxy.url), Config({"bob": bob}), bob, 443, context, 100 * UNIT)
    assert (found.party, found.check, found.state) == ("bob", "proxy", "wrong")
    assert remedy in found.remedy


def test_a_proxy_of_the_environment_that_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    # An address that is no machine's: what is sent there is dropped, or there is no way.
    monkeypatch.setattr(socket, "create_connection", lambda *_: (_ for _ in ()).throw(TimeoutError()))
    _, found = findings(capsys, str(setup(tmp_path)), "--me", "alice")
    assert 'write proxy = "env"' in found["bob", "port"][2]


def test_an_address_that_leads_to_another_party(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = {name: self_signed(name, LOCAL) for name in ("alice", "bob")}
    file = setup(tmp_path, who)
    carol = Folder(tmp_path / "carol")
    (tmp_path / "carol").mkdir()
    port = re.findall(r"port = (\d+)", file.read_text())[1]
    text = (
        f"[parties.carol]\naddr = {json.dumps(LOCAL)}\nport = {port}\nserver_name = 'carol.mpc.example'\n"
        f"cert = {json.dumps(carol.cert(self_signed('carol', LOCAL)))}\n"
    )
    file.write_text(file.read_text() + text)
    with program(file):
        status, found = findings(capsys, str(file), "--me", "alice")
    assert status == 1
    assert (
        "it is that of bob: what is at 127.0.0.1 leads callers for carol.mpc.example there"
        in found["carol", "identity"][1]
    )
    assert "each needs a server_name" in found["carol", "identity"][2]


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain HTTP"])
def test_a_port_that_several_parties_share(secure: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who = {name: self_signed(name, LOCAL) for name in ("alice", "bob")} if secure else None
    file = setup(tmp_path, who)
    ports = list(map(int, re.findall(r"port = (\d+)", file.read_text())))
    before, port, after = file.read_text().partition(f"port = {ports[1]}")
    (tmp_path / "bob").mkdir()
    folder = Folder(tmp_path / "bob")
    own = (folder.key(who["bob"]), folder.cert(who["bob"])) if who else ()
    with Listener(ports[1], LOCAL) as listener, SyncPool(*own, name="bob") as bob:
        bob.add_http_server(listener=listener, server_name="bob.mpc.example")
        for name in ("bob", "bbo"):
            file.write_text(f"{before}{port}\nserver_name = '{name}.mpc.example'{after}")
            _, found = findings(capsys, str(file), "--me", "alice")
            state, _, remedy = found["bob", "certificate" if secure else "program"]
            assert state == ("ok" if name == "bob" else "wrong")
            assert ("no party there is called 'bbo.mpc.example': correct server_name" in remedy) is (name == "bbo")
