"""The one session for calls to systems that a policy names."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

import aiohttp
from yarl import URL

from starforge_backlog import __version__
from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.http.faults import HttpFault, fault_of, quoted
from starforge_backlog.snapshot import Why
from starforge_backlog.tls import trusting

CONNECT_TIMEOUT_SECONDS = 2.0
# What is asked for fits in a hundred bytes. A page of HTML is cut here: it is no answer anyway.
BODY_BYTES = 16 * 1024
# A server that asks for more is asked again all the same.
LONGEST_RETRY_AFTER = timedelta(minutes=5)
_DIGITS = 9  # of a number of seconds; more are cut, and more than the longest wait in any case
# Making a context reads the machine's certificates (10 ms): as many authorities are kept.
CONTEXTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust over TLS."""

    ca: str | None = None  # certificates (PEM); None: the image's
    server_name: str | None = None  # name in the certificate; None: the host of the URL


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Headers may hold secrets."""

    method: str
    url: str
    seconds: float  # longest time, connecting included
    trust: Trust = Trust()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes  # at most BODY_BYTES
    location: str = ""  # where a 3xx points at
    # Seconds for which the server asks not to be called (a 429 or 503); 0 where it does not.
    retry_after: float = 0.0


@dataclass(slots=True)
class _Sending:
    """Whether a call has got as far as a connection: from then on it may have acted."""

    connected: bool = False


class HttpCaller:
    """Sends calls. Redirects are not followed: what is signed for one place goes to no other.

    No limit for all of them together: an API that hangs would keep the others' calls waiting.
    Whoever calls one API bounds how many calls it has at once.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: OrderedDict[str | None, ssl.SSLContext] = OrderedDict()

    async def send(self, call: Call) -> Answer:
        """The answer. Raises HttpFault when there is none."""
        address, host, sending = address_of(call.url), host_of(call.url), _Sending()
        context = self._context(call.trust.ca)
        try:
            async with self._open().request(
                call.method,
                address,
                headers={**call.headers, "Accept-Encoding": "identity"},
                data=call.body or None,
                timeout=aiohttp.ClientTimeout(
                    total=call.seconds, sock_connect=CONNECT_TIMEOUT_SECONDS
                ),
                ssl=context,
                server_hostname=call.trust.server_name,
                allow_redirects=False,
                trace_request_ctx=sending,
            ) as response:
                body = await _read(response.content)
                headers = response.headers
                wait = retry_after(headers.get("Retry-After", ""), datetime.now(UTC))
                return Answer(response.status, body, headers.get("Location", ""), wait)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise fault_of(host, error, call.seconds, connected=sending.connected) from error
        except ValueError as error:
            # A host that is no name; or a login of several lines, which is never quoted.
            message = f"no call can be made to {host}; correct the url, or a Secret's line breaks"
            raise HttpFault(Why.BAD_SHAPE, message) from error

    async def close(self) -> None:
        """Close the connections. A later call opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                trace_configs=[_noting_connections()],
                headers={"User-Agent": f"{FIELD_MANAGER}/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                # A proxy or a ~/.netrc of the environment would see, or add, credentials.
                trust_env=False,
            )
        return self._session

    def _context(self, ca: str | None) -> ssl.SSLContext:
        """Kept, because a connection is only used again under the same context."""
        context = self._contexts.pop(ca, None)
        if context is None:
            try:
                context = trusting(ca)
            except (ssl.SSLError, ValueError) as error:
                message = (
                    "tls.ca holds no certificates in PEM; write the authority's certificate again"
                )
                raise HttpFault(Why.SECRET_MALFORMED, message) from error
        self._contexts[ca] = context
        while len(self._contexts) > CONTEXTS_KEPT:
            self._contexts.popitem(last=False)
        return context


def retry_after(header: str, now: datetime) -> float:
    """Seconds that a `Retry-After` asks for, as a number or as a date (RFC 9110); 0 for any other
    text, and never more than `LONGEST_RETRY_AFTER`: a pause must not wait for a typing error."""
    text = header.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text[:_DIGITS])
    else:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (TypeError, ValueError):  # no date, or one without a time zone
            return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER.total_seconds())


def _noting_connections() -> aiohttp.TraceConfig:
    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.connected = True

    config = aiohttp.TraceConfig()
    config.on_connection_create_end.append(connected)
    config.on_connection_reuseconn.append(connected)
    return config


def address_of(url: str) -> URL:
    """The address as it goes over the wire. Raises HttpFault."""
    try:
        return URL(url)
    except ValueError as error:
        message = f"{quoted(url)} is no address ({quoted(str(error))}); correct the url"
        raise HttpFault(Why.BAD_SHAPE, message) from error


def host_of(url: str) -> str:
    """Host and port, for messages."""
    try:
        return quoted(URL(url).raw_authority)
    except ValueError:
        return quoted(url)


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES:
            break
    return bytes(body[:BODY_BYTES])
