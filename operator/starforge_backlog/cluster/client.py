"""The one client for the API server: raw JSON in and out, named limits, faults translated.

Typed models of the client library are not used: they drop or convert what we need
(`managedFields`, unknown kinds) and building them for every pod costs more than the request.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from starforge_backlog import __version__
from starforge_backlog.api import FIELD_MANAGER, GROUP, PLURAL, VERSION
from starforge_backlog.cluster.credentials import Credentials, NoCluster
from starforge_backlog.cluster.errors import (
    Asked,
    ClusterFault,
    FaultKind,
    fault_from_exception,
    fault_from_status,
)
from starforge_backlog.snapshot import Why

# Requests in flight at once. A thousand policies of 15 s ask ~150 times a second and an answer
# takes milliseconds; more connections would only move the queue into the API server.
POOL_SIZE = 16
# A request that takes longer has no value for a pass of seconds; also covers waiting for a slot.
REQUEST_TIMEOUT_SECONDS = 10.0
# Connecting inside a cluster takes under a millisecond; this much means it is gone.
CONNECT_TIMEOUT_SECONDS = 3.0

# Watches at once, each a connection of its own (256 kB of asyncio's buffer for TLS). Whoever asks
# for one more reads instead.
MOST_WATCHES = 64
# The API server ends a watch after this long; one whose connection died unnoticed ends with it.
WATCH_SECONDS = 240
WATCH_GRACE_SECONDS = 10.0

# Objects per page: a policy with its status and the record of its writers is some 50 kB.
OBJECTS_PER_PAGE = 100
# Bytes of one answer, ten times of which are in memory while it is read. A thousand pods are about
# as much.
MOST_ANSWER_BYTES = 16 * 1024 * 1024
# A page of so many fits in that, even of the largest objects that etcd stores (1.5 MB).
OBJECTS_PER_SMALL_PAGE = 10

_SERVER_ERROR = 500

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Json = Mapping[str, Any]
Operations = list[Json]  # a JSON patch
RequestObserver = Callable[[Asked, str], None]  # what was asked, and the outcome: "200", "Timeout"


def _nobody(_asked: Asked, _outcome: str) -> None:
    """The observer when nobody counts."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as the API server's paths name it."""

    group: str  # "" is the core group
    version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of the collection (of all namespaces: None), the object or a part of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = ["namespaces", quote(namespace, safe="")] if namespace is not None else []
        parts = [root, *within, self.plural]
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def asked(
        self, verb: str, namespace: str | None, name: str | None = None, sub: str = ""
    ) -> Asked:
        """The same for messages and metrics."""
        resource = f"{self.plural}/{sub}" if sub else self.plural
        return Asked(verb, resource, self.group, namespace, name)


PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")
EVENTS = Resource("events.k8s.io", "v1", "events")
POLICIES = Resource(GROUP, VERSION, PLURAL)


class AnswerTooLarge(ClusterFault):
    """More than `MOST_ANSWER_BYTES`: not read to its end, so nothing of it is known."""

    def __init__(self, asked: Asked) -> None:
        message = (
            f"the API server's answer to {asked.verb} {asked} is larger than"
            f" {MOST_ANSWER_BYTES // 1024**2} MB, and was not read; select fewer objects, or make"
            " them smaller"
        )
        super().__init__(FaultKind.SERVER, Why.ERROR, message)


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Close the connection of a watch without waiting for the goodbye of TLS: its socket would stay
    open for 30 s beside an API server that is silent."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


class ClusterClient:
    """Requests to the API server. Every method raises ClusterFault and nothing else."""

    def __init__(self, credentials: Credentials, observer: RequestObserver = _nobody) -> None:
        self.credentials = credentials
        self._observer = observer
        configuration = credentials.configuration
        configuration.connection_pool_maxsize = POOL_SIZE
        # aiohttp would search for a ~/.netrc in a thread, twice for every request; a proxy is named
        # by `proxy-url` of the kubeconfig, for kopf and for us alike.
        configuration.client_session_kwargs = {"trust_env": False}
        self._api = ApiClient(configuration=configuration)
        self._api.user_agent = f"{FIELD_MANAGER}/{__version__}"
        # A pool of their own: watches would keep the connections of all other requests.
        configuration.connection_pool_maxsize = MOST_WATCHES
        self._watches = ApiClient(configuration=configuration)
        self._watches.user_agent = self._api.user_agent
        self._timeout = aiohttp.ClientTimeout(
            total=REQUEST_TIMEOUT_SECONDS, sock_connect=CONNECT_TIMEOUT_SECONDS
        )

    @classmethod
    async def connect(
        cls, environ: Mapping[str, str] | None = None, observer: RequestObserver = _nobody
    ) -> ClusterClient:
        """Read the configuration and make the client; the first request opens a connection.

        Raises NoCluster when there is no configuration.
        """
        credentials = await Credentials.load(os.environ if environ is None else environ)
        return cls(credentials, observer)

    async def close(self) -> None:
        await self._watches.close()
        await self._api.close()

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        """Read an object or its subresource."""
        asked = resource.asked("get", namespace, name, sub)
        return await self.request(asked, "GET", resource.path(namespace, name, sub))

    async def list_objects(
        self, resource: Resource, namespace: str, *, label_selector: str
    ) -> tuple[Json, ...]:
        """List objects from the API server's cache.

        `resourceVersion=0` spares etcd: the cache is behind by milliseconds, our pass by seconds.
        """
        asked = resource.asked("list", namespace)
        query = {"labelSelector": label_selector, "resourceVersion": "0"}
        answer = await self.request(asked, "GET", resource.path(namespace), query=query)
        return tuple(answer.get("items") or ())

    async def pages(self, resource: Resource, namespace: str | None) -> AsyncIterator[Json]:
        """All objects, of one namespace or of the cluster (None), in pages: never more than
        `OBJECTS_PER_PAGE` of them are in memory, fewer where they are large."""
        asked = resource.asked("list", namespace)
        query = {"limit": str(OBJECTS_PER_PAGE)}
        while True:
            try:
                page = await self.request(asked, "GET", resource.path(namespace), query=query)
            except AnswerTooLarge:
                if query["limit"] == str(OBJECTS_PER_SMALL_PAGE):
                    raise
                query["limit"] = str(OBJECTS_PER_SMALL_PAGE)
                continue
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def watch(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[Json]:
        """Events of one object: `ADDED` at once where it exists, then each change, until the API
        server ends the watch after `WATCH_SECONDS`. An event is bounded by what an object may
        weigh in etcd (1.5 MB).
        """
        asked = resource.asked("watch", namespace, name)
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        path = f"{resource.path(namespace)}?{urlencode(query)}"
        try:
            async with self._stream(asked, path) as response:
                async for line in response.content:
                    event = _parsed(asked, line)
                    if event.get("type") == "ERROR":
                        said = event.get("object") or {}
                        code = int(said.get("code") or _SERVER_ERROR)
                        raise fault_from_status(asked, code, json.dumps(said).encode())
                    yield event
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
            fault = fault_from_exception(asked, error)
            self._observer(asked, fault.kind)
            raise fault from error
        except ClusterFault as fault:
            if fault.kind is FaultKind.UNAUTHORIZED:
                await self._refresh()
            raise

    @asynccontextmanager
    async def _stream(self, asked: Asked, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        verb, url, headers, _, _ = await self._watches.param_serialize(
            "GET", path, header_params={"Accept": JSON}, auth_settings=["BearerToken"]
        )
        longest = aiohttp.ClientTimeout(
            total=WATCH_SECONDS + WATCH_GRACE_SECONDS, sock_connect=CONNECT_TIMEOUT_SECONDS
        )
        answer = await self._watches.call_api(verb, url, headers, _request_timeout=longest)
        response: aiohttp.ClientResponse = answer.response
        try:
            self._observer(asked, str(response.status))
            if response.status != HTTPStatus.OK:
                data = await _bounded(asked, response)
                raise fault_from_status(asked, response.status, data)
            yield response
        finally:
            _hang_up(response)

    async def create(
        self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False
    ) -> Json:
        """Create an object, or only ask whether it would be created."""
        asked = resource.asked("create", namespace)
        path = resource.path(namespace)
        query = {**_as_us(), **({"dryRun": "All"} if dry_run else {})}
        return await self.request(asked, "POST", path, query=query, body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json | Operations,
        *,
        sub: str = "",
    ) -> Json:
        """Patch an object or its subresource: a list is a JSON patch, a mapping a merge patch."""
        asked = resource.asked("patch", namespace, name, sub)
        content = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        path = resource.path(namespace, name, sub)
        return await self.request(asked, "PATCH", path, query=_as_us(), body=body, content=content)

    async def request(
        self,
        asked: Asked,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | Operations | None = None,
        content: str = JSON,
    ) -> Json:
        """Send one request. After a 401 the token is read again and the request sent once more:
        it was not carried out, and the file may have rotated a moment ago."""
        if query:
            path = f"{path}?{urlencode(query)}"
        try:
            return await self._send(asked, method, path, body, content)
        except ClusterFault as fault:
            if fault.kind is not FaultKind.UNAUTHORIZED:
                raise
        await self._refresh()
        return await self._send(asked, method, path, body, content)

    async def _refresh(self) -> None:
        """Read the token again: the file may have rotated a moment ago."""
        try:
            await self.credentials.refresh()
        except NoCluster as error:
            raise ClusterFault(FaultKind.UNAUTHORIZED, Why.NO_PERMISSION, str(error)) from error

    async def _send(
        self,
        asked: Asked,
        method: str,
        path: str,
        body: Json | Operations | None,
        content: str,
    ) -> Json:
        try:
            verb, url, headers, payload, _ = await self._api.param_serialize(
                method,
                path,
                header_params={"Accept": JSON, "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(
                verb, url, headers, payload, _request_timeout=self._timeout
            )
            data = await _bounded(asked, response.response)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            fault = fault_from_exception(asked, error)
            self._observer(asked, fault.kind)
            raise fault from error
        status: int = response.status
        self._observer(asked, str(status))
        if not 200 <= status <= 299:  # noqa: PLR2004 - HTTP's own bounds of success
            raise fault_from_status(asked, status, data)
        return _parsed(asked, data)


async def _bounded(asked: Asked, response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises AnswerTooLarge, and then the connection is closed, not read to its end."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            response.close()
            raise AnswerTooLarge(asked)
    return bytes(body)


def _parsed(asked: Asked, data: bytes) -> Json:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return parsed
    message = f"what answered to {asked.verb} {asked} sent no JSON; is it the API server?"
    raise ClusterFault(FaultKind.SERVER, Why.ERROR, message)


def _as_us() -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER}
