"""Whom we trust over TLS: one rule for every system that is reached through Python's `ssl`.

Python 3.13 added two flags to `ssl.create_default_context`. `VERIFY_X509_STRICT` refuses an
authority without the extension *key usage*, which is what a plain `openssl req -x509` writes, and
so does many a company's authority: the same policy worked under Python 3.11 and failed under 3.13,
and the message asked for a `tls.ca` that was set. `VERIFY_X509_PARTIAL_CHAIN` accepts an
intermediate authority that was handed over without its root. Neither may depend on the version of
Python, so both are set here. PostgreSQL is reached through libpq, which sets neither.
"""

from __future__ import annotations

import ssl
from enum import Enum, auto

# OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED, _OTHER_NAMES = 9, 10, (62, 63, 64)


class Refused(Enum):
    """Why a server's certificate was not accepted."""

    UNKNOWN_AUTHORITY = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    OTHER_NAME = auto()


def why_refused(error: ssl.SSLCertVerificationError) -> Refused:
    """The reason, for the adapters that get the error itself. What aiohttp, `requests` and libpq
    hand over is a class or a text of their own, and is translated beside the rest of it."""
    if error.verify_code in _OTHER_NAMES:
        return Refused.OTHER_NAME
    known = {_EXPIRED: Refused.EXPIRED, _NOT_YET_VALID: Refused.NOT_YET_VALID}
    return known.get(error.verify_code, Refused.UNKNOWN_AUTHORITY)


def trusting(ca: str | None) -> ssl.SSLContext:
    """A client's context that trusts the certificates in `ca` (PEM), or the machine's for None.

    Raises ssl.SSLError or ValueError where `ca` holds no certificates.
    """
    return same_on_every_python(ssl.create_default_context(cadata=ca))


def same_on_every_python(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, with the flags of this module."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
