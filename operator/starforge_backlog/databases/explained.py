"""Why a connection could not be made, with a second check where libpq does not say enough."""

from __future__ import annotations

from starforge_backlog.databases.authorities import ask_again
from starforge_backlog.databases.faults import (
    DatabaseFault,
    certificate_fault,
    connect_fault,
    is_certificate_refused,
)
from starforge_backlog.databases.url import ServerUrl

_MOST_ASKED = 2  # hosts of a list; a certificate that fails everywhere fails at the first


async def explained(error: Exception, url: ServerUrl) -> DatabaseFault:
    """The fault of an attempt to connect that ended in `error`."""
    key = url.key
    if is_certificate_refused(error):
        for host, port in url.addresses[:_MOST_ASKED]:
            refused = await ask_again(host, port, url.ca)
            if refused is not None:
                return certificate_fault(refused, host=host)
    return connect_fault(error, host=key.host, port=key.port, user=key.user)
