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
from functools import lru_cache

from starforge_backlog.tls import Refused, why_refused

_SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # length, and PostgreSQL's code for TLS
_KEPT = 64  # texts of which it is remembered; a bundle of a provider takes milliseconds to read
_WITHIN = timedelta(seconds=2)


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


async def ask_again(host: str, port: int, pem: str) -> Refused | None:
    """What Python's TLS says of the certificate there; None where it could not be found out. Takes
    two seconds at most."""
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
        return why_refused(error)
    except (OSError, EOFError, TimeoutError):
        return None
    return None
