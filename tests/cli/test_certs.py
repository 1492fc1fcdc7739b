"""`mpccomm certs`: what it makes can be used as it is, is nobody else's to read, and is never overwritten."""

import asyncio
import base64
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from mpccomm import Pool
from mpccomm.cli import main as mpccomm
from mpccomm.transport.identity import read_certificates
from tests.certificates import CLIENT_ONLY, DAY, Folder, root
from tests.pools import LOCAL
from tests.ports import free_ports
from tests.timing import UNIT


def main(arguments: list[str]) -> int:
    return mpccomm(["certs", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with an authority in it."""
    assert main(["init", "--folder", str(tmp_path)]) == 0
    return tmp_path


def issue(folder: Path, *arguments: str) -> int:
    return main(["issue", "--folder", str(folder), *arguments])


def test_one_that_outlasts_its_authority(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue(folder, "Alice", LOCAL) == 0
    assert "note:" not in capsys.readouterr().err
    assert issue(folder, "--days", "9000", "Bob", LOCAL) == 0
    assert "count no longer than their authority, which expires in 1824 days" in capsys.readouterr().err


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


async def test_ready_to_use(folder: Path) -> None:
    pools = {}
    for name in ("Alice", "Bob"):
        assert issue(folder, name, LOCAL, "localhost") == 0
        own = folder / name
        pools[name] = Pool(own / f"{name}.key.pem", own / f"{name}.cert.pem", own / "ca.cert.pem")
        pools[name].add_http_server(0, LOCAL)
    alice, bob = pools.values()
    try:
        alice.add_http_client("Bob", "localhost", bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port, folder / "Alice" / "Alice.cert.pem")
        await asyncio.gather(alice.wait_ready(100 * UNIT), bob.wait_ready(100 * UNIT))
        await alice.send("Bob", "hello")
        assert await bob.recv("Alice") == "hello"
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))


def test_it_says_what_a_party_and_what_a_relay_does_with_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue(folder, "relay", LOCAL) == 0
    printed = capsys.readouterr().out
    assert (
        "as a party:\n    pool = Pool(key='relay.key.pem', cert='relay.cert.pem', ca_cert='ca.cert.pem')\n" in printed
    )
    assert printed.endswith(
        "or as a relay server:\n    mpccomm relay --cert relay.cert.pem --key relay.key.pem --ca ca.cert.pem\n"
    )


def test_what_is_in_them(folder: Path) -> None:
    assert (
        issue(folder, "Bob", "bob.example.", "10.0.0.2", "2001:DB8::1", "faß.example", "Bücher.example", "my_service")
        == 0
    )
    (bob,) = read_certificates(folder / "Bob" / "Bob.cert.pem")
    (authority,) = read_certificates(folder / "Bob" / "ca.cert.pem")
    assert (bob.subject, bob.issuer) == ("CN=Bob", authority.subject)
    assert bob.hosts == ("bob.example", "xn--fa-hia.example", "xn--bcher-kva.example", "my_service")
    assert list(map(str, bob.addresses)) == ["10.0.0.2", "2001:db8::1"]
    assert bob.uses == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    assert 396 <= (bob.not_after - bob.not_before).days <= 398
    assert (authority.not_after - authority.not_before).days == 5 * 365


def test_openssl_agrees(folder: Path) -> None:
    assert issue(folder, "Bob", LOCAL) == 0
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-verify_ip", LOCAL]
        files = ["-CAfile", str(folder / "Bob" / "ca.cert.pem"), str(folder / "Bob" / "Bob.cert.pem")]
        try:
            run = subprocess.run(
                [*command, *files], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            pytest.skip("needs the command openssl: install OpenSSL")
        assert run.returncode == 0, run.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access rights elsewhere")
def test_keys_are_their_owners_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert issue(folder, "Bob", LOCAL) == 0
    finally:
        os.umask(before)
    found = modes(folder)
    assert {name: mode for name, mode in found.items() if name.endswith(".key.pem")} == {
        "authority.key.pem": 0o600,
        "Bob/Bob.key.pem": 0o600,
    }
    assert found["Bob"] == 0o700
    assert not any("authority.key" in name and "/" in name for name in found)


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue(folder, "Bob", LOCAL) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert main(["init", "--folder", str(folder)]) == 1
    assert issue(folder, "Bob", LOCAL) == 1
    (folder / "authority.key.pem").rename(folder / "elsewhere.pem")
    assert main(["init", "--folder", str(folder)]) == 1
    (folder / "elsewhere.pem").rename(folder / "authority.key.pem")
    assert before == {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert capsys.readouterr().err.count("is there already; nothing was changed") == 3


def test_no_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert issue(tmp_path, "Bob", LOCAL) == 2
    assert f"make one with mpccomm certs init --folder {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_authority_that_has_expired(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = root()
    (folder / "authority.cert.pem").write_bytes(old.issue("x", start=-9 * DAY, end=-5 * DAY).pem())
    assert issue(folder, "Bob", LOCAL) == 2
    assert "expired 5 days ago" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["Bob"],
        ["Bob", f"{LOCAL}:8080"],
        ["Bob", "10.0.0.300"],
        ["Bob", "0.0.0.0"],
        ["Bob", "fe80::1%1"],
        ["Bob", "224.0.0.1"],
        ["Bob", "a" * 64 + ".example"],
        ["", LOCAL],
        ["B" * 65, LOCAL],
        ["Bob ", LOCAL],
        ["B\N{RIGHT-TO-LEFT OVERRIDE}ob", LOCAL],
        ["Bob", "https://bob.example"],
        ["Bob", "bob..example"],
        ["Bob", "*.example"],
        ["Bob", ""],
        ["../Bob", LOCAL],
        ["authority", LOCAL],
        [".Bob", LOCAL],
        ["Bob\n", LOCAL],
        ["--days", "0", "Bob", LOCAL],
        ["--days", "many", "Bob", LOCAL],
    ],
)
def test_not_to_be_issued(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        issue(folder, *arguments)
    assert end.value.code == 2
    assert "mpccomm certs issue" in capsys.readouterr().err
    assert not list(folder.glob("*/*"))


def test_what_is_wrong_with_an_argument_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["Al ice ", LOCAL], "'Al ice ' can't be the name of a party: it begins or ends with blanks"),
        (["Dave", "http://d"], "address='http://d' is a URL: give the host name or IP address alone\n"),
        (["Dave", " d"], "address=' d' begins or ends with blanks: leave them out"),
    ):
        with pytest.raises(SystemExit):
            issue(folder, *arguments)
        assert text in capsys.readouterr().err


CONFIG = """
ca_cert = "certs/ca.pem"

[parties.alice]
addr = "127.0.0.1"
port = {}
listen_addr = "127.0.0.1"
cert = "certs/alice.pem"
key = "key.pem"

[parties.bob]
addr = "LOCALHOST"
port = {}
listen_addr = "0.0.0.0"
cert = "certs/bob.pem"
key = "key.pem"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file for alice and bob; nothing that it names exists."""
    file = tmp_path / "mpccomm.toml"
    file.write_text(CONFIG.format(*free_ports(2)))
    return file


def issue_all(folder: Path, config: Path) -> int:
    return issue(folder, "--config", str(config))


async def test_a_folder_for_each_party_of_a_file(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert issue_all(folder, config) == 0
    assert "pool = Pool.from_config('mpccomm.toml', me='bob')" in capsys.readouterr().out
    names = {"mpccomm.toml", "key.pem", "certs/ca.pem", "certs/alice.pem", "certs/bob.pem"}
    for name in ("alice", "bob"):
        assert {str(path) for path in map(Path, modes(folder / name))} == names | {"certs"}
    assert (folder / "alice/key.pem").read_bytes() != (folder / "bob/key.pem").read_bytes()
    pools = [Pool.from_config(folder / name / "mpccomm.toml", me=name) for name in ("alice", "bob")]
    async with pools[0] as alice, pools[1] as bob:
        await asyncio.gather(alice.wait_ready(100 * UNIT), bob.wait_ready(100 * UNIT))
        await alice.send("bob", "hello")
        assert await bob.recv("alice") == "hello"


def test_what_is_in_those_of_a_file(folder: Path, config: Path) -> None:
    text = config.read_text().replace('listen_addr = "127.0.0.1"', 'listen_addr = "192.168.0.7"')
    config.write_text(text)
    assert issue(folder, "--days", "3", "--config", str(config)) == 0
    (alice,) = read_certificates(folder / "bob/certs/alice.pem")
    (bob,) = read_certificates(folder / "alice/certs/bob.pem")
    assert (alice.hosts, list(map(str, alice.addresses))) == ((), ["127.0.0.1", "192.168.0.7"])
    assert (bob.hosts, bob.addresses) == (("localhost",), ())
    assert 3 <= (bob.not_after - bob.not_before).total_seconds() / 86400 < 3.1


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps access rights elsewhere")
def test_what_a_relay_is_known_by_is_shared(folder: Path, config: Path) -> None:
    relay = 'relay = {url = "https://relay.example", ca_cert = "relay.ca.pem"}\n'
    config.write_text(relay + config.read_text())
    assert issue_all(folder, config) == 0
    for name in ("alice", "bob"):
        assert (folder / name / "relay.ca.pem").read_bytes() == (folder / name / "certs/ca.pem").read_bytes()


def test_keys_of_a_file_are_their_owners_alone(folder: Path, config: Path) -> None:
    before = os.umask(0)
    try:
        assert issue_all(folder, config) == 0
    finally:
        os.umask(before)
    found = modes(folder)
    assert (found["alice"], found["alice/certs"], found["alice/key.pem"]) == (0o700, 0o700, 0o600)


def test_a_place_outside_the_folder(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace('"key.pem"', '"/run/secrets/key.pem"'))
    assert issue_all(folder, config) == 0
    assert (folder / "alice" / "key.pem").is_file()
    assert capsys.readouterr().out.count(f"key.pem belongs at {Path('/run/secrets/key.pem')}") == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'cert = "certs/bob.pem"\nkey = "key.pem"',
            "",
            'bob has no cert; say where it is to be: cert = "bob.cert.pem"',
        ),
        ('certs/bob.pem"\nkey = "key.pem"', 'certs/bob.pem"', "bob has no key; say where"),
        ('"certs/bob.pem"', '["old.pem", "new.pem"]', "mpccomm certs issue bob LOCALHOST"),
        ('"certs/bob.pem"', '"certs/alice.pem"', "would be two files; name them differently"),
        ('"certs/bob.pem"', '"mpccomm.toml"', "would be two files; name them differently"),
        ('"certs/bob.pem"', '"/elsewhere/key.pem"', "would be two files; name them differently"),
        ("LOCALHOST", "*.example", "bob.addr: addr='*.example' is neither a host name nor an IP address"),
        ("0.0.0.0", "eth 0", "bob.listen_addr: listen_addr='eth 0' is neither a host name nor an IP address"),
        ("parties.bob", "parties.authority", "authority: 'authority' can't be the name of a folder"),
        ("listen_addr", "listen_adr", "unknown; did you mean listen_addr?"),
    ],
)
def test_files_that_nothing_can_be_issued_for(
    old: str, new: str, expected: str, folder: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    assert issue_all(folder, config) == 2
    assert re.search(rf"mpccomm certs: .*mpccomm\.toml.*{re.escape(expected)}", capsys.readouterr().err)
    assert not list(folder.glob("*/"))


def test_nothing_of_a_file_is_overwritten(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bob").mkdir()
    assert issue_all(folder, config) == 1
    said = capsys.readouterr().err
    assert f"{folder / 'bob'} is there already; nothing was changed: {Path('certs/bob.pem')} is not in it" in said
    assert list(folder.glob("*/")) == [folder / "bob"]
    (folder / "bob").rmdir()
    assert issue_all(folder, config) == 0
    before = contents(folder)
    assert issue_all(folder, config) == 1
    said = capsys.readouterr().err
    assert f"{folder / 'alice'} is there already; nothing was changed: move that folder away first" in said
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add_carol(config: Path) -> None:
    (port,) = free_ports(1)
    text = f'[parties.carol]\naddr = "localhost"\nport = {port}\ncert = "certs/carol.pem"\nkey = "key.pem"\n'
    config.write_text(f"{config.read_text()}\n{text}")


async def test_a_party_is_added_to_those_that_have_certificates(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert issue_all(folder, config) == 0
    add_carol(config)
    before = contents(folder)
    capsys.readouterr()
    assert issue_all(folder, config) == 0
    said = capsys.readouterr().out
    assert said.count("pool = Pool.from_config(") == 1
    files = f"mpccomm.toml, {Path('certs/carol.pem')}"
    assert (
        f"alice and bob had a folder before: nothing in it was changed. Copy there, from {folder / 'carol'}: {files}"
        in said
    )
    after = contents(folder)
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(folder).parts[0] for path in after.keys() - before.keys()} == {"carol"}
    for path in ("mpccomm.toml", "certs/carol.pem"):
        (folder / "alice" / path).write_bytes((folder / "carol" / path).read_bytes())
    pools = [Pool.from_config(folder / name / "mpccomm.toml", me=name) for name in ("alice", "carol")]
    async with pools[0] as alice, pools[1] as carol:
        await asyncio.gather(
            *(pool.wait_ready(100 * UNIT, [name]) for pool, name in ((alice, "carol"), (carol, "alice")))
        )


def test_a_file_and_a_name_are_one_too_many(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        issue(folder, "Bob", LOCAL, "--config", str(config))
    assert end.value.code == 2
    assert "names and addresses are in the file" in capsys.readouterr().err


def test_show(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = root("Big authority")
    bob = authority.issue("Middle", authority=True).issue("Bob", LOCAL, "bob.example", uses=CLIENT_ONLY)
    old = authority.issue("Old", start=-9 * DAY, end=-5 * DAY)
    files = Folder(tmp_path)
    capsys.readouterr()
    assert main(["show", files.cert(bob), files.write(old.der)]) == 0
    shown = capsys.readouterr().out
    assert "1. CN=Bob" in shown
    assert "2. CN=Middle" in shown
    assert "issued by  CN=Middle" in shown
    assert f"for        bob.example, {LOCAL}" in shown
    assert "expires in 29 days" in shown
    assert re.search(r"expired 5 days ago  <-- NOT VALID NOW", shown)
    digits = re.findall(r"[0-9A-F]{2}(?::[0-9A-F]{2}){15}", shown)
    assert ":".join(digits[:2]) == read_certificates(files.cert(bob))[0].fingerprint


@pytest.mark.parametrize("password", [None, "open sesame"])
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_show_a_key(form: str, password: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = root().issue("Bob", LOCAL)
    data = identity.key_bytes(password=None if password is None else password.encode())
    if form == "DER":
        data = base64.b64decode(b"".join(data.splitlines()[1:-1]))
    assert main(["show", Folder(tmp_path).write(data)]) == 2
    assert "holds a private key, not a certificate" in capsys.readouterr().err


def test_keys_under_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("authority", "party", "wrong", "empty"):
        (tmp_path / name).write_text("" if name == "empty" else f"the {name}'s\n")
    own = ("--password-file", str(tmp_path / "party"))
    folder = tmp_path / "new"
    assert main(["init", "--folder", str(folder), "--password-file", str(tmp_path / "empty")]) == 2
    assert "no password in its first line" in capsys.readouterr().err
    assert main(["init", "--folder", str(folder), "--password-file", str(tmp_path / "authority")]) == 0
    assert issue(folder, "Bob", LOCAL, *own) == 2
    assert "say --authority-password-file" in capsys.readouterr().err
    assert issue(folder, "Bob", LOCAL, *own, "--authority-password-file", str(tmp_path / "wrong")) == 2
    assert "is the password right?" in capsys.readouterr().err
    assert not (folder / "Bob").exists()
    assert issue(folder, "Bob", LOCAL, *own, "--authority-password-file", str(tmp_path / "authority")) == 0
    assert "ca_cert='ca.cert.pem', password=...)" in capsys.readouterr().out
    bob = folder / "Bob" / "Bob"
    Pool(f"{bob}.key.pem", f"{bob}.cert.pem", folder / "Bob" / "ca.cert.pem", password="the party's")
    for key in (f"{bob}.key.pem", folder / "authority.key.pem"):
        assert b"ENCRYPTED PRIVATE KEY" in Path(key).read_bytes()


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_an_authority_that_can_not_be_called_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["init", "--folder", str(tmp_path), "--name", name])
    assert end.value.code == 2
    assert not list(tmp_path.iterdir())


def test_show_nothing_of_the_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = Folder(tmp_path)
    nothing, root_certificate = files.write(b"nothing"), files.cert(root("Big authority"))
    assert main(["show", nothing, root_certificate]) == 2
    shown = capsys.readouterr()
    assert f"{nothing} holds no certificate" in shown.err
    assert "1. CN=Big authority" in shown.out, "the others are shown"


@pytest.mark.parametrize("command", ["init", "issue", "show"])
def test_without_cryptography(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    arguments = {
        "init": ["init", "--folder", str(folder / "new")],
        "issue": ["issue", "--folder", str(folder), "Bob", LOCAL],
        "show": ["show", str(folder / "authority.cert.pem")],
    }[command]
    assert main(arguments) == 2
    assert "extra 'tls'" in capsys.readouterr().err


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "init | issue | show" in capsys.readouterr().err
