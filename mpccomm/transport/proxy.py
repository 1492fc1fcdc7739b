"""Connections through a forward proxy: it is asked by ``CONNECT``, then TLS with the party goes through it unopened.

aiohttp's own ``proxy=`` would speak to the proxy with the certificates that are meant for the party, and would not tell a login
page from a party that is silent.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler

from mpccomm.address import join
from mpccomm.errors import ConfigurationError
from mpccomm.proxies import Proxy
from mpccomm.transport.bounded import BoundedConnector
from mpccomm.transport.dialling import NewSocket, new_socket
from mpccomm.transport.resolver import look_up
from mpccomm.transport.tls import Verdict, public_context, tls_error

_LARGEST_HEAD = 16 * 1024
"""The largest head of an answer, in bytes."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_SHARE = 1.5
"""Times of ``connect_timeout`` that the proxy has. An attempt has two, so that it ends with the proxy named, which is at fault."""
_SCHEMES = ("Basic", "Digest", "NTLM", "Negotiate", "Kerberos", "Bearer")
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNSUPPORTED_PROTOCOL"}
_LOGIN = "answers with a page of its own, perhaps to log in: log in there with a browser, or ask its operator"


class ProxyError(aiohttp.ClientError):
    """Raised where there is no way through the proxy; the text says why.

    Its ``step`` is that of a `DialError`: nothing is known of whether the party runs. ``silent``: the proxy itself gave no answer.
    """

    def __init__(self, proxy: Proxy, what: str, *, status: int = 0, final: bool = False, silent: bool = False) -> None:
        text = f"the {proxy} {what}"
        super().__init__(text)
        self.step = f"Is the {proxy} running, and is its address right?" if silent else ""
        self.status = status
        """The status of its answer; 0: there was none."""
        self.verdict = Verdict(text, theirs=False) if final else None


class Target(NamedTuple):
    """The destination of a connection."""

    host: str
    port: int
    context: ssl.SSLContext | None
    """The context of TLS with the destination; None: no TLS."""
    server_name: str
    """The name to ask for in TLS."""


class ProxyConnector(BoundedConnector):
    """Reaches what aiohttp asks for through a proxy."""

    def __init__(self, proxy: Proxy, connect_timeout: float, make: NewSocket = new_socket) -> None:
        super().__init__(limit=0, force_close=True)
        self._proxy = proxy
        self._connect_timeout = connect_timeout
        self._make = make

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        context = req.ssl if isinstance(req.ssl, ssl.SSLContext) and req.is_ssl() else None
        host = req.url.raw_host or ""
        target = Target(host, req.url.port or 443, context, req.server_hostname or host)
        protocol: ResponseHandler = self._factory()
        # An alert in the clear would be in the midst of our TLS with the proxy.
        make = new_socket if self._proxy.tls else self._make
        await connect(self._proxy, target, protocol, self._connect_timeout, make)
        return protocol


async def connect(
    proxy: Proxy,
    target: Target,
    protocol: asyncio.Protocol,
    connect_timeout: float,
    make: NewSocket = new_socket,
) -> None:
    """Make a connection through a proxy, and give it to the protocol.

    :raises ProxyError: the proxy makes none
    :raises OSError: what is behind the proxy does not accept us, or we don't accept it
    """
    loop = asyncio.get_running_loop()
    transport = await _led(proxy, target, connect_timeout, make)
    try:
        if target.context is None:
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            return
        try:
            secured = await loop.start_tls(
                transport,
                protocol,
                target.context,
                server_hostname=target.server_name,
                ssl_handshake_timeout=2 * connect_timeout,
            )
        except ssl.SSLError as error:
            tls = tls_error(error)
            if tls is not None and tls.reason in _NO_TLS:
                what = f"let us through to {join(target.host, target.port)}, but what answers speaks no TLS"
                raise ProxyError(proxy, f"{what}: a page of the proxy's, or a party without certificates") from None
            raise
        assert secured is not None
        protocol.connection_made(secured)
    except BaseException:
        transport.abort()
        raise


async def _led(proxy: Proxy, target: Target, connect_timeout: float, make: NewSocket) -> asyncio.Transport:
    """Return a connection that the proxy has led to the target."""
    answer = _Answer(proxy)
    transport = None
    try:
        async with asyncio.timeout(_SHARE * connect_timeout):
            transport = await _open(proxy, answer, connect_timeout, make)
            transport.write(_request(proxy, target))
            status, head = await answer.head
        _judge(proxy, target, status, head, bool(answer.rest))
    except BaseException as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, TimeoutError):
            where = join(target.host, target.port)
            what = f"has not led us to {where} in time: does it answer others, and can it reach that address?"
            raise ProxyError(proxy, what) from None
        raise
    return transport


async def _open(
    proxy: Proxy,
    answer: _Answer,
    connect_timeout: float,
    make: NewSocket,
) -> asyncio.Transport:
    """Connect to the proxy itself."""
    loop = asyncio.get_running_loop()
    try:
        context = public_context(proxy.ca_cert) if proxy.tls else None
    except ConfigurationError as error:
        raise ProxyError(proxy, f"can't be used: ca_cert {error}") from None
    sock = await _dial(proxy, connect_timeout, make)
    times: dict[str, Any] = {"ssl_handshake_timeout": connect_timeout, "server_hostname": proxy.host} if context else {}
    try:
        transport, _ = await loop.create_connection(lambda: answer, sock=sock, ssl=context, **times)
    except ssl.SSLCertVerificationError:
        what = "shows a certificate that is not accepted: name its authority, or the certificate itself, as ca_cert of the proxy"
        raise ProxyError(proxy, what) from None
    except (OSError, TimeoutError):
        raise ProxyError(proxy, "hung up during the TLS handshake: does it take TLS (https://) itself?") from None
    except BaseException:
        sock.close()
        raise
    return transport


async def _dial(proxy: Proxy, connect_timeout: float, make: NewSocket) -> socket.socket:
    try:
        found = await look_up(proxy.host, proxy.port)
    except OSError:
        raise ProxyError(proxy, "can't be used: its host name can't be resolved", silent=True) from None
    why = "no answer in time"
    for info in found:
        sock = make(info)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(connect_timeout):
                await asyncio.get_running_loop().sock_connect(sock, info[4])
        except TimeoutError:
            sock.close()
        except OSError as error:
            sock.close()
            why = os.strerror(error.errno).lower() if error.errno else "no connection"
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise ProxyError(proxy, f"can't be reached: {why}", silent=True)


def _request(proxy: Proxy, target: Target) -> bytes:
    where = join(target.host, target.port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    try:
        authorization = proxy.authorization
    except ConfigurationError as error:
        raise ProxyError(proxy, f"can't be used: {error}") from None
    if authorization:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(authorization.encode()).decode()}")
    return "\r\n".join((*lines, "", "")).encode()


class _Answer(asyncio.Protocol):
    """Reads the head of the proxy's answer."""

    def __init__(self, proxy: Proxy) -> None:
        self.head: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        """The status, and all of the head."""
        self.rest = b""
        """The bytes after the head. There are none yet, as a party waits until something is sent to it."""
        self._proxy = proxy
        self._data = b""

    def data_received(self, data: bytes) -> None:
        if self.head.done():
            self.rest = self.rest or data
            return
        self._data += data
        head, end, self.rest = self._data.partition(b"\r\n\r\n")
        if not end:
            self.rest = b""
            if len(self._data) > _LARGEST_HEAD or not b"HTTP/1.".startswith(self._data[:7]):
                self._fail("is no HTTP proxy: something else answers there")
            return
        found = _STATUS.match(head + b"\r")
        if found is None:
            self._fail("is no HTTP proxy: something else answers there")
        else:
            self.head.set_result((int(found.group(1)), head))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("hung up before it answered")

    def _fail(self, what: str) -> None:
        if not self.head.done():
            self.head.set_exception(ProxyError(self._proxy, what, silent=True))
            # The caller that waits may have been cancelled.
            self.head.exception()


def _judge(proxy: Proxy, target: Target, status: int, head: bytes, more: bool) -> None:
    """Raise an error unless it has made the connection."""
    where = join(target.host, target.port)
    headers = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    fields = partial(_values, headers)
    refuse = partial(ProxyError, proxy, status=status)
    page = any(b"html" in value.lower() for value in fields(b"content-type"))
    if 200 <= status < 300:
        if more or page:
            raise refuse(_LOGIN)
        return
    if status == 407:
        offered = [
            scheme
            for scheme in _SCHEMES
            if any(scheme.lower().encode() in one.lower() for one in fields(b"proxy-authenticate"))
        ]
        if offered and "Basic" not in offered:
            raise refuse(
                f"takes {', '.join(offered)} alone (407), and mpccomm logs in by Basic: ask its operator, or run a helper that "
                "logs in for this machine"
            )
        if proxy.authorization:
            # Further attempts with the same password could lock the account.
            raise refuse("does not accept our user name and password (407): correct them", final=True)
        raise refuse("asks for a user name and password (407): give the proxy a credentials_file")
    if 300 <= status < 400 or status == 511:
        raise refuse(f"sends us to a page of its own (status {status}), perhaps to log in: log in there with a browser")
    if status == 403:
        raise refuse(f"does not allow a connection to {where} (403): ask its operator to allow it")
    if status in (400, 405, 501, 505):
        raise refuse(f"makes no connections by CONNECT ({status}): is it a forward proxy?")
    if status == 404 or status >= 500:
        # Which of these depends on the proxy: for a name that it can't resolve Privoxy says 404, Squid 500 or 503, Apache 502.
        raise refuse(
            f"can't reach {where} itself ({status}): is the party running, and can the proxy resolve its name?"
        )
    raise refuse(f"refuses a connection to {where} (status {status}): ask its operator why")


def _values(headers: list[tuple[bytes, bytes, bytes]], name: bytes) -> list[bytes]:
    return [value.strip() for key, _, value in headers if key.strip().lower() == name]
