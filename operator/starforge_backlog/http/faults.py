"""What can go wrong with a call, as a reason and a sentence that says how to fix it."""

from __future__ import annotations

import ssl

import aiohttp

from starforge_backlog.api.shown import shortened
from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why

# Foreign words are quoted up to here.
QUOTED_CHARACTERS = 120


class HttpFault(Fault):
    """There is no answer. `message` is a sentence that says how to fix it; it holds no secret."""

    def __init__(self, why: Why, message: str, *, sent: bool = False) -> None:
        """`sent`: the other side may have acted."""
        super().__init__(why, message)
        self.sent = sent


def fault_of(host: str, error: Exception, seconds: float, *, connected: bool) -> HttpFault:
    """Translate what the client raised: its classes distinguish the causes already. Without a
    connection nothing was sent."""
    match error:
        case TimeoutError() if not connected:
            return HttpFault(
                Why.TIMEOUT,
                f"{host} was not reached within {seconds:g} s, so nothing was sent; check its DNS"
                " name, and whether a NetworkPolicy or firewall lets the operator through",
            )
        case TimeoutError():
            return HttpFault(
                Why.TIMEOUT,
                f"{host} did not answer within {seconds:g} s; the call may have taken effect; check"
                " its load and its log",
                sent=True,
            )
        case aiohttp.InvalidURL():
            said = error.description or "it is none"
            return HttpFault(
                Why.BAD_SHAPE,
                f"{host} is no address that can be called ({quoted(said)}); correct the url",
            )
        case aiohttp.ClientResponseError():
            # What the parser of HTTP refuses: headers of more than 8 kB, a malformed status line.
            return HttpFault(
                Why.BAD_ANSWER,
                f"{host} does not answer with valid HTTP ({quoted(error.message)}); the call may"
                " have taken effect; check its response headers",
                sent=True,
            )
        case aiohttp.ClientConnectorDNSError():
            return HttpFault(
                Why.HOST_UNKNOWN, f"there is no host {host}; correct the url, or fix its DNS record"
            )
        case aiohttp.ClientConnectorCertificateError():
            return HttpFault(
                Why.TLS_FAILED,
                f"the certificate of {host} is not trusted ({_certificate(error)}); renew it, or"
                " set tls.ca (its authority) or tls.serverName (its name)",
            )
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return HttpFault(
                Why.TLS_FAILED,
                f"{host} does not answer with TLS that the operator supports"
                f" ({quoted(str(error))}); correct the url",
            )
        case aiohttp.ClientConnectorError():
            return HttpFault(
                Why.UNREACHABLE,
                f"{host} cannot be reached ({error.os_error.strerror}); check that it runs and that"
                " the port in the url is right",
            )
        case _:
            return HttpFault(
                Why.UNREACHABLE,
                f"{host} broke the connection off ({type(error).__name__}); the call may have taken"
                " effect; check its log",
                sent=True,
            )


def quoted(text: str) -> str:
    """Foreign text on one line, cut."""
    return shortened(" ".join(text.split()), QUOTED_CHARACTERS)


def _certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    said = getattr(cause, "verify_message", "") or str(cause)
    return quoted(said)
