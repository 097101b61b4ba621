"""prometheus-api-client, with our limits and our faults. Blocking: runs in the hub's threads.

Imported when the first policy names a Prometheus, in a thread: nobody else pays for it.
"""

from __future__ import annotations

from datetime import timedelta
from ssl import SSLError
from threading import Event
from typing import Any

from prometheus_api_client import PrometheusConnect
from requests import RequestException, Session
from requests.exceptions import ReadTimeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from starforge_backlog.prometheus.faults import (
    PrometheusFault,
    no_answer,
    not_prometheus,
    transport_fault,
)
from starforge_backlog.prometheus.server import Server
from starforge_backlog.prometheus.transport import Sockets, Transport, checked
from starforge_backlog.snapshot import Why


class Client:
    """One session with one server under one login."""

    def __init__(
        self, server: Server, *, connect_within: timedelta, answer_within: timedelta
    ) -> None:
        """Raises PrometheusFault when the authorities of the spec are no certificates."""
        self._host = server.host
        self._within = answer_within
        self._sockets = Sockets()
        try:
            transport = Transport(server, self._sockets)
        except (SSLError, ValueError):
            message = "tls.ca holds no certificate in PEM; put the authority's into the Secret."
            raise PrometheusFault(Why.SECRET_MALFORMED, message) from None
        session = Session()
        session.trust_env = False  # no .netrc and no proxy: the policy says who is asked, and how
        session.hooks["response"].append(checked(server.host))
        headers = {"User-Agent": "starforge-backlog"}
        if server.bearer_token is not None:
            headers["Authorization"] = f"Bearer {server.bearer_token}"
        if server.tenant is not None:
            headers["X-Scope-OrgID"] = server.tenant
        session.headers.update(headers)
        login = None
        if server.user is not None and server.password is not None:
            login = (server.user.encode(), server.password.encode())
        self._connect = PrometheusConnect(
            url=server.url,
            auth=login,
            session=session,
            timeout=(connect_within.total_seconds(), answer_within.total_seconds()),
        )
        # After the library's own adapter, and in its place: that one tries again for seconds.
        session.mount(server.url, transport)

    def query(self, expression: str, given_up: Event) -> Any:
        """The `result` of an instant query. Raises PrometheusFault.

        `given_up` is set when nobody waits for it any more.
        """
        self._sockets.begin(given_up)
        # The server gives up by itself a moment before we do, and says so.
        limit = f"{round(self._within.total_seconds() * 900)}ms"
        try:
            return self._connect.custom_query(expression, params={"timeout": limit})
        except PrometheusFault:
            raise
        except (ReadTimeout, ReadTimeoutError):
            raise no_answer(self._host, self._within.total_seconds()) from None
        except (RequestException, HTTPError, OSError) as error:
            # From None: the library's text holds the address and the query.
            raise transport_fault(error, self._host) from None
        except (KeyError, TypeError, ValueError):
            raise not_prometheus(self._host) from None

    @property
    def connected(self) -> bool:
        """Whether there is a connection to wait for."""
        return self._sockets.any_open

    def give_up(self) -> None:
        """Let everybody who waits for an answer go. The next question connects again."""
        self._sockets.shut()

    def close(self) -> None:
        self._sockets.close()
        self._connect.close()
