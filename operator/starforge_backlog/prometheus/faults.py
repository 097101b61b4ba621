"""Everything a Prometheus can do wrong, as one exception: translated here, at the edge, in tables.

Messages never hold a header, a login or a body, except Prometheus' own sentence about an
expression, which the person who wrote the expression has to read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starforge_backlog.api.shown import shortened
from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why

# Prometheus' sentence about an expression; a status must not grow with a server's eloquence.
MOST_ANSWER = 300
# A server that sends more is no Prometheus asked for one number. To read JSON stops the whole
# process, also in a thread: 4 MB took 0.25 s.
MOST_BYTES = 1024 * 1024


class PrometheusFault(Fault):
    """The server did not answer as it should. `message` is a sentence that says how to fix it.

    `server_down` says that the next question would end the same way: nobody is asked for a while.
    """

    def __init__(self, why: Why, message: str, *, server_down: bool = False) -> None:
        super().__init__(why, message)
        self.server_down = server_down


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over HTTP."""

    status: int
    body: bytes
    location: str = ""  # of a redirect


def no_answer(host: str, seconds: float) -> PrometheusFault:
    """It took longer than we wait."""
    return PrometheusFault(
        Why.TIMEOUT,
        f"Prometheus at {host} did not answer within {seconds:g} s; check its load, or make the"
        " expression cheaper (fewer series, a shorter range).",
        server_down=True,
    )


def no_connection(host: str, seconds: float) -> PrometheusFault:
    """Not even a connection came about: most often its name is not resolved."""
    return PrometheusFault(
        Why.TIMEOUT,
        f"no connection to Prometheus at {host} within {seconds:g} s; check DNS in the operator's"
        " namespace, and whether a NetworkPolicy or firewall lets it through.",
        server_down=True,
    )


def another_shape() -> PrometheusFault:
    """JSON, but not what Prometheus' query API documents."""
    return PrometheusFault(
        Why.BAD_ANSWER,
        "the answer does not have the shape that Prometheus' query API documents; check the proxy"
        " or adapter in between, or correct url.",
    )


def too_many_servers(most: int) -> PrometheusFault:
    """Each has a thread of its own."""
    return PrometheusFault(
        Why.ERROR,
        f"policies name more than {most} Prometheus servers and logins, the most that are asked;"
        " let policies share them (the same url, token and tenant).",
    )


# What libraries say when no answer came at all, the first row that matches. By their text and not
# by `tls.why_refused`: urllib3 and `requests` wrap the cause, and keep of it the text alone.
_TRANSPORT: tuple[tuple[re.Pattern[str], Why, str], ...] = (
    (
        re.compile("certificate has expired|certificate is not yet valid", re.IGNORECASE),
        Why.TLS_FAILED,
        "the certificate of {host} has expired (or is not valid yet); renew it.",
    ),
    (
        re.compile("doesn't match|hostname mismatch|not valid for|IP address mismatch", re.I),
        Why.TLS_FAILED,
        (
            "the certificate of {host} is for another name; set tls.serverName to the name that it"
            " is for, or correct url."
        ),
    ),
    (
        re.compile("self[- ]signed|unable to get .*issuer|unknown ca|certificate verify", re.I),
        Why.TLS_FAILED,
        (
            "the certificate of {host} is signed by an authority that is not trusted; put the"
            " authority's certificate into a Secret and name it in tls.ca."
        ),
    ),
    (
        re.compile("certificate required|handshake failure|bad certificate", re.IGNORECASE),
        Why.TLS_FAILED,
        (
            "{host} asks for a client certificate, which the operator does not have; use a bearer"
            " token or basicAuth there."
        ),
    ),
    (
        re.compile(
            "name or service not known|name resolution|nodename nor servname|failed to resolve"
            "|no address associated|name does not resolve",
            re.IGNORECASE,
        ),
        Why.HOST_UNKNOWN,
        (
            "the host {host} of the Prometheus url has no address; correct url, or check DNS in the"
            " operator's namespace."
        ),
    ),
    (
        re.compile("connection refused", re.IGNORECASE),
        Why.UNREACHABLE,
        "nothing answers at {host}; check that Prometheus runs and that url is right.",
    ),
    (
        re.compile(r"failed to decode|BadStatusLine|more than \d+ headers|unmatching values"),
        Why.BAD_ANSWER,
        (
            "{host} answers no HTTP that is understood (its first line, its headers or its"
            " compression); check the proxy before Prometheus, and whether url has its port."
        ),
    ),
    (
        re.compile(r"SSL: |SSLError|SSLEOFError|TLS/SSL"),
        Why.TLS_FAILED,
        "TLS with {host} failed; does it speak https at all? If not, write http:// in url.",
    ),
)
_NO_CONNECTION = (
    "Prometheus at {host} does not answer; check that it runs, and that a NetworkPolicy or"
    " firewall lets the operator through."
)


def transport_fault(error: Exception, host: str) -> PrometheusFault:
    """Translate what the HTTP client raised. `host` is shown to the reader."""
    text = str(error)
    for pattern, why, message in _TRANSPORT:
        if pattern.search(text):
            return PrometheusFault(why, message.format(host=host), server_down=True)
    return PrometheusFault(Why.UNREACHABLE, _NO_CONNECTION.format(host=host), server_down=True)


# Answers without a result, by status code.
_STATUSES: Mapping[int, tuple[Why, str]] = {
    HTTPStatus.UNAUTHORIZED: (
        Why.WRONG_PASSWORD,
        (
            "{host} refused the login; put the current token or password into the Secret that"
            " bearerToken or basicAuth names (or name one, if there is none)."
        ),
    ),
    HTTPStatus.FORBIDDEN: (
        Why.NO_PERMISSION,
        (
            "{host} knows the login but does not allow queries; give it the right to query, or"
            " correct tenant."
        ),
    ),
    HTTPStatus.NOT_FOUND: (
        Why.NOT_PROMETHEUS,
        (
            "{host} has no /api/v1/query under this path; add the path prefix to url (for example"
            " https://host/prometheus)."
        ),
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        Why.UNREACHABLE,
        "{host} is starting or overloaded (503); the next pass tries again.",
    ),
}
# The `errorType` of Mimir and Cortex beside a 429.
_TOO_MANY = "too_many_requests"
_HINT = "PromQL info:"
_HTTP_TO_HTTPS = b"HTTP request to an HTTPS server"


def answer_of(reply: Reply, host: str) -> Mapping[str, Any]:
    """The JSON of a successful query.

    Raises PrometheusFault for everything else, an error in the expression included.
    """
    answer = _json(reply.body)
    status = answer.get("status") if answer is not None else None
    if answer is not None and status == "error" and answer.get("error"):
        raise _refusal(str(answer.get("errorType", "")), str(answer["error"]), reply.status, host)
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise too_many_requests(host)
    if reply.status in _STATUSES:
        why, message = _STATUSES[reply.status]
        raise PrometheusFault(why, message.format(host=host))
    if _HTTP_TO_HTTPS in reply.body:
        raise PrometheusFault(Why.TLS_FAILED, f"{host} speaks https; write https:// in url.")
    if HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST:
        to = urlsplit(reply.location).hostname or "another page"
        message = f"{host} sends us on to {to} (a login page?); name the API's own address in url."
        raise PrometheusFault(Why.NOT_PROMETHEUS, message)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"{host} answered with {reply.status}; check the proxy before Prometheus."
        raise PrometheusFault(Why.UNREACHABLE, message)
    if reply.status != HTTPStatus.OK or status != "success" or answer is None:
        raise not_prometheus(host)
    warnings = _warnings(answer.get("warnings"))
    if warnings:
        # Thanos and Mimir say so when a store did not answer: the rest is no whole (P2).
        said = _short("; ".join(warnings))
        raise PrometheusFault(Why.PARTIAL, f"the answer is not whole: {said}.")
    if answer.get("isPartial"):
        # VictoriaMetrics' cluster, while a storage node does not answer.
        message = f"the answer is not whole: {host} says isPartial; check its storage nodes."
        raise PrometheusFault(Why.PARTIAL, message)
    return answer


def _warnings(found: object) -> tuple[str, ...]:
    """What an answer warns of. Prometheus 2.47 to 2.53 put hints about an expression there too
    ("metric might not be a counter"), which say nothing about what the answer is made of."""
    if not found:
        return ()
    texts = found if isinstance(found, list) else [found]  # some proxies send one text
    return tuple(text for text in map(str, texts) if not text.startswith(_HINT))


def not_prometheus(host: str) -> PrometheusFault:
    """Something answers, but not with Prometheus' JSON."""
    return PrometheusFault(
        Why.NOT_PROMETHEUS,
        f"what answers at {host} is not a Prometheus (no JSON of its query API, but a web page,"
        " for example); correct url.",
    )


def too_many_requests(host: str, said: str = "") -> PrometheusFault:
    """A limit on queries, of Mimir for a tenant or of a proxy: nobody asks for a while."""
    quoted = f" ({said})" if said else ""
    return PrometheusFault(
        Why.UNREACHABLE,
        f"{host} refuses more queries for now (429){quoted}; asked again after a back-off. Raise"
        " its limit for this login or tenant, or the policies' interval.",
        server_down=True,
    )


def too_much(host: str) -> PrometheusFault:
    """An answer that nobody wants in memory."""
    return PrometheusFault(
        Why.SEVERAL_SERIES,
        f"{host} answered with more than {MOST_BYTES // 1024 // 1024} MiB where one number is"
        " wanted: aggregate in the expression, for example with sum().",
    )


def _refusal(kind: str, said: str, status: int, host: str) -> PrometheusFault:
    """What Prometheus' API says itself."""
    said = _short(said)
    if kind == "timeout" or (status == HTTPStatus.SERVICE_UNAVAILABLE and "time" in said.lower()):
        message = (
            f"the query took too long: {said}; make it cheaper (fewer series, a shorter range)."
        )
        return PrometheusFault(Why.TIMEOUT, message)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        why, message = _STATUSES[status]
        return PrometheusFault(why, message.format(host=host))
    if status == HTTPStatus.TOO_MANY_REQUESTS or kind == _TOO_MANY:
        return too_many_requests(host, said)
    if (
        kind in {"internal", "unavailable", "canceled"}
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return PrometheusFault(Why.UNREACHABLE, f"{host} could not answer: {said}.")
    return PrometheusFault(Why.QUERY_ERROR, f"Prometheus refuses the expression: {said}.")


def _short(said: str) -> str:
    """Without what Prometheus puts before each of these sentences, and of bearable length."""
    said = said.removeprefix('invalid parameter "query": ').rstrip(". ")
    return shortened(said, MOST_ANSWER)


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # the second for thousands of brackets
        return None
    return found if isinstance(found, dict) else None
