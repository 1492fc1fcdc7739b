"""Servers of other projects that run on this machine for a test: started with the files of the documents, ended by process id."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory

import pytest

from tests.documents import ROOT

DEPLOY = ROOT / "docs" / "deploy"
_PATIENCE = 20.0


def program(name: str, *, package: str = "") -> str:
    """Return the path of a program, or skip the test and name the package that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"there is no {name}; apt install {package or name}")
    return found


def changed(name: str, tmp_path: Path, changes: Sequence[tuple[str, str]]) -> Path:
    """Return a copy of a file of the documents, with other paths and ports in it."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def _answers(where: str, port: int, prefix: Sequence[str]) -> bool:
    if prefix:
        look = f"import socket; socket.create_connection(({where!r}, {port}), 1)"
        return not subprocess.run([*prefix, sys.executable, "-c", look], capture_output=True, check=False).returncode
    with suppress(OSError), create_connection((where, port), 1):
        return True
    return False


@contextmanager
def listening(
    command: Sequence[str], port: int, where: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[None]:
    """Run a program until the end of the ``with``; it listens at that port from the beginning of it on."""
    process = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if _answers(where, port, prefix):
                break
            time.sleep(0.02)
        else:
            process.kill()
            out, _ = process.communicate()
            raise AssertionError(f"{command[0]} does not listen: {out.decode(errors='replace')[-2000:]}")
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def squid(port: int, *, where: str = "127.0.0.1", password: str = "", prefix: Sequence[str] = ()) -> Iterator[None]:
    """A forward proxy, by squid; with a ``user:password`` that it asks for, or for everybody."""
    command = program("squid")
    with TemporaryDirectory() as name:
        folder = Path(name)
        # It gives up being root, and reads its files as another user.
        folder.chmod(0o777)
        lines = [
            f"http_port {where}:{port}",
            "cache deny all",
            "access_log none",
            f"cache_log {folder}/log",
            f"pid_filename {folder}/pid",
            f"coredump_dir {folder}",
            "shutdown_lifetime 0 seconds",
            "visible_hostname proxy",
            "acl forbidden port 9999",
            "http_access deny forbidden",
        ]
        if password:
            user, _, secret = password.partition(":")
            made = subprocess.run(
                ["openssl", "passwd", "-apr1", "-stdin"], input=secret, capture_output=True, text=True, check=True
            )
            (folder / "passwords").write_text(f"{user}:{made.stdout}")
            lines += [
                f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/passwords",
                "acl known proxy_auth REQUIRED",
                "http_access allow CONNECT known",
            ]
        else:
            lines.append("http_access allow CONNECT")
        lines.append("http_access deny all")
        (folder / "squid.conf").write_text("\n".join(lines) + "\n")
        with listening([command, "-N", "-f", f"{folder}/squid.conf"], port, where, prefix):
            yield


Place = tuple[str, int]


def haproxy_by_name(
    folder: Path, at: Place, bob: Place, carol: Place, prefix: Sequence[str] = ()
) -> AbstractContextManager[None]:
    """HAProxy, which forwards connections by which of two host names they ask for."""
    changes = ((":443", _joined(at)), ("10.0.0.2:8443", _joined(bob)), ("10.0.0.3:8443", _joined(carol)))
    command = [program("haproxy"), "-db", "-f", str(changed("haproxy.cfg", folder, changes))]
    return listening(command, at[1], at[0], prefix)


def nginx_by_name(
    folder: Path, at: Place, bob: Place, carol: Place, prefix: Sequence[str] = ()
) -> AbstractContextManager[None]:
    """The same with nginx."""
    nginx, module = program("nginx"), Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.is_file():
        pytest.skip("nginx has no stream module; apt install libnginx-mod-stream")
    changes = (
        ("modules/ngx_stream_module.so", str(module)),
        ("listen 443", f"listen {_joined(at)}"),
        ("10.0.0.2:8443", _joined(bob)),
        ("10.0.0.3:8443", _joined(carol)),
    )
    more = f"daemon off; pid {folder}/pid; error_log stderr;"
    command = [nginx, "-p", str(folder), "-c", str(changed("nginx.conf", folder, changes)), "-g", more]
    return listening(command, at[1], at[0], prefix)


def nginx_with_tls(folder: Path, port: int, cert: str, key: str, behind: int) -> AbstractContextManager[None]:
    """nginx as it is by itself, with the lines of the guide by which it passes on what is for a relay."""
    guide = (ROOT / "docs" / "guides" / "relay.md").read_text(encoding="utf-8")
    location = guide[guide.index("location / {") :].partition("```")[0]
    assert "127.0.0.1:8080" in location
    folders = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};\n"
        f"{location.replace('8080', str(behind))} }} }}\n"
    )
    command = [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    return listening(command, port)


def _joined(place: Place) -> str:
    return f"{place[0]}:{place[1]}"
