"""Certificates of authorities for libpq, which takes them from a file alone, and why one refused.

libpq (with its own OpenSSL) verifies the connection. It says of a certificate that it does not
accept only that it failed, so after that Python's `ssl` is asked about the same server and the same
authorities: unknown authority, expired, or made for another name. Nothing is sent to it but the
request for TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

_SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # length, and PostgreSQL's code for TLS
_KEPT = 64  # texts of which it is remembered; a bundle of a provider takes milliseconds to read
_WITHIN = timedelta(seconds=2)
# OpenSSL's X509_V_ERR_*.
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME = 9, 10, 62


class Refused(StrEnum):
    """Why a server's certificate was not accepted."""

    UNKNOWN_AUTHORITY = "unknown authority"
    EXPIRED = "expired"
    OTHER_NAME = "other name"
    UNKNOWN = "unknown"  # it could not be found out


@contextlib.contextmanager
def ca_file(pem: str) -> Iterator[str]:
    """The path of a file with these certificates, in memory: the pod's file system is read-only.
    Empty for none."""
    if not pem:
        yield ""
        return
    file = os.memfd_create("ca.crt")
    try:
        with open(file, "w", encoding="ascii", closefd=False) as written:
            written.write(pem)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


@lru_cache(maxsize=_KEPT)
def readable(pem: str) -> bool:
    """Whether it holds certificates at all."""
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        return False
    return True


async def why_refused(host: str, port: int, pem: str) -> Refused:
    """What Python's TLS says of the certificate there. Takes two seconds at most."""
    context = ssl.create_default_context(cadata=pem or None)
    # Since 3.13 Python asks for key usages that OpenSSL, and so libpq, does without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        async with asyncio.timeout(_WITHIN.total_seconds()):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_SSL_REQUEST)
                if await reader.readexactly(1) == b"S":
                    await writer.start_tls(context, server_hostname=host)
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return Refused.EXPIRED
        if error.verify_code == _OTHER_NAME:
            return Refused.OTHER_NAME
        return Refused.UNKNOWN_AUTHORITY
    except (OSError, EOFError, TimeoutError):
        return Refused.UNKNOWN
    return Refused.UNKNOWN
