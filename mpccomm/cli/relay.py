"""Serve as a relay, for parties that let nothing in.

    mpccomm relay --cert relay.cert.pem --key relay.key.pem --ca authority.cert.pem
    mpccomm relay --listen 127.0.0.1:8080 --token-file tokens.txt     behind a proxy that has TLS

Parties name it: Pool(relay="https://relay.example"), or relay = "https://relay.example" in the file of all parties. What they
say to each other passes as TLS between them: who runs the relay can neither read nor change it. A party may use it that has a
certificate of the authority (--ca), one whose fingerprint is listed (--fingerprints), or a token (--token-file): any of those
that are given.

SIGHUP reads all files again. SIGTERM and Ctrl-C end it: the parties are told, and those with another relay move there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from mpccomm.address import join
from mpccomm.cli import Status
from mpccomm.cli.arguments import add_password, count, host_and_port, password_from, seconds
from mpccomm.errors import ConfigurationError, PortInUseError
from mpccomm.logs import EventLog, LogEvent
from mpccomm.relays import Relay
from mpccomm.settings import MiB
from mpccomm.sync.loop_thread import new_event_loop
from mpccomm.transport.port import bind
from mpccomm.transport.relay import RelayLimits, RelayServer
from mpccomm.transport.relay_identity import AccessList, read_tokens
from mpccomm.transport.tls import Password, listening_context

log = EventLog()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "--listen",
        type=_place,
        metavar="HOST:PORT",
        help="where (default: 0.0.0.0:443; without --cert 127.0.0.1:8080). Port 0: any free one",
    )
    own = parser.add_argument_group("its own TLS; without it it speaks plain HTTP, behind a proxy that has TLS")
    own.add_argument("--cert", type=Path, metavar="FILE", help="its certificate, followed by those in between")
    own.add_argument("--key", type=Path, metavar="FILE", help="its private key (default: in the file of --cert)")
    add_password(own)
    own.add_argument(
        "--url", metavar="URL", help="by which parties name it: then what they sign for another relay is not good here"
    )
    who = parser.add_argument_group("who may use it: at least one of these")
    who.add_argument("--ca", type=Path, metavar="FILE", help="those with a certificate of these authorities")
    who.add_argument(
        "--fingerprints", type=Path, metavar="FILE", help="those with these certificates, one SHA-256 a line"
    )
    who.add_argument("--token-file", type=Path, metavar="FILE", help="those with one of these tokens, one a line")
    who.add_argument(
        "--status-token-file",
        type=Path,
        metavar="FILE",
        help="for its operator: GET /status and /metrics with 'Authorization: Bearer TOKEN' (default: nobody)",
    )
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits, default = parser.add_argument_group("limits"), RelayLimits()
    limits.add_argument(
        "--streams", type=count, default=default.streams, metavar="N", help="joined connections (default: %(default)s)"
    )
    limits.add_argument(
        "--streams-per-party",
        type=count,
        default=default.streams_per_party,
        metavar="N",
        help="of one party (default: %(default)s)",
    )
    limits.add_argument(
        "--calls-per-second",
        type=count,
        default=default.calls_per_second,
        metavar="N",
        help="of one party; ten times as many at once (default: %(default)s)",
    )
    limits.add_argument("--rate", type=count, metavar="MIB", help="MiB a second that one party may send (default: any)")
    limits.add_argument(
        "--waiting",
        type=count,
        default=default.waiting // MiB,
        metavar="MIB",
        help="MiB kept for slow receivers; of more the slowest is cut off (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=5.0,
        metavar="S",
        help="seconds that streams have at the end (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    if options.key is not None and options.cert is None:
        raise ConfigurationError("--key was given without --cert")
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    url = Relay(options.url).url if options.url else ""
    files = _Files(options, password_from(options.password_file))
    host, port = options.listen or (("127.0.0.1", 8080) if options.cert is None else ("0.0.0.0", 443))
    try:
        sock = bind(host, port)
    except OSError as error:
        raise PortInUseError(
            f"can't listen at {join(host, port)}: {error.strerror}; choose another with --listen"
        ) from error
    limits = replace(
        RelayLimits(),
        streams=options.streams,
        streams_per_party=options.streams_per_party,
        calls_per_second=options.calls_per_second,
        bytes_per_second=(options.rate or 0) * MiB,
        waiting=options.waiting * MiB,
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        number = runner.run(_serve(sock, host, files, limits, url, options.grace))
    return Status.INTERRUPTED if number == signal.SIGINT else Status.WELL


def _place(text: str) -> tuple[str, int]:
    name, separator, number = text.rpartition(":")
    return (host_and_port(f"{name}:1")[0], 0) if separator and number == "0" else host_and_port(text)


class _Files:
    """The files that are read at the start, and again at SIGHUP."""

    def __init__(self, options: argparse.Namespace, password: Password) -> None:
        self._options = options
        self._password = password
        self.admitted = AccessList(options.ca, options.fingerprints, options.token_file)
        self.context: ssl.SSLContext | None = None
        self.status_tokens: tuple[bytes, ...] = ()
        self._read_others()

    def _read_others(self) -> None:
        options = self._options
        context = None if options.cert is None else listening_context(options.cert, options.key, self._password)
        tokens = () if options.status_token_file is None else read_tokens(options.status_token_file)
        self.context, self.status_tokens = context, tokens

    def reload(self, review: Callable[[], None]) -> None:
        """Read the files again. If one can't be read, all stays as it was."""
        try:
            self._read_others()
            self.admitted.reload()
        except ConfigurationError as error:
            log(LogEvent.RELAY_FILES, "nothing is changed: %s", error, level=logging.ERROR)
            return
        log(LogEvent.RELAY_FILES, "all files are read again")
        review()


async def _serve(sock: socket.socket, host: str, files: _Files, limits: RelayLimits, url: str, grace: float) -> int:
    """Serve until a signal says to end; return its number."""
    server = RelayServer(
        sock,
        files.admitted,
        context=lambda: files.context,
        limits=limits,
        status_tokens=lambda: files.status_tokens,
        url=url,
    )
    told = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # on Windows Ctrl-C arrives as ever
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.put_nowait, number)
        loop.add_signal_handler(signal.SIGHUP, partial(files.reload, server.review))
    server.start()
    where = join(host, server.port)
    if files.context is None:
        text = (
            "without --cert this relay speaks plain HTTP: it is to be behind a proxy that has TLS, or for a trial, as "
            "http://%s. What the parties say to each other is encrypted by their own TLS nevertheless"
        )
        log(LogEvent.PLAIN_HTTP, text, where, level=logging.INFO)
    print(f"a relay listens at {where}", flush=True)
    try:
        return await told.get()
    finally:
        await server.close(grace)
