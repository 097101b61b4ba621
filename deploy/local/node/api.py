"""The few requests that a node makes, straight against the API: light enough for hundreds of pods.

A kubeconfig with a certificate or a token is enough; the node is started by us, with our own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from local.errors import LocalError

Object = dict[str, Any]

STRATEGIC = "application/strategic-merge-patch+json"
NOT_FOUND, CONFLICT, GONE, TOO_MANY = 404, 409, 410, 429
RETRIES = 6


class ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Access:
    server: str
    authority: str
    context: ssl.SSLContext
    token: str | None

    @classmethod
    def read(cls, kubeconfig: Path) -> Access:
        content = yaml.safe_load(kubeconfig.read_text())
        current = _named(content["contexts"], content["current-context"])["context"]
        cluster = _named(content["clusters"], current["cluster"])["cluster"]
        user = _named(content["users"], current["user"])["user"]
        authority = _content(cluster, "certificate-authority")
        if authority is None:
            raise LocalError(f"{kubeconfig} names no certificate authority; the node needs one.")
        context = ssl.create_default_context(cadata=authority)
        certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
        if certificate and key:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
                pair.write(certificate + "\n" + key)
                pair.flush()
                context.load_cert_chain(pair.name)
        return cls(cluster["server"], authority, context, user.get("token"))


class Api:
    def __init__(self, access: Access) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": "starforge-local-node"}
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        self._session = aiohttp.ClientSession(
            base_url=self.access.server,
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=self.access.context, limit=32),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str, **query: str) -> Object:
        return await self._request("GET", path, query=query)

    async def create(self, path: str, body: Object) -> Object:
        return await self._request("POST", path, body=body)

    async def patch(self, path: str, body: Object) -> Object:
        return await self._request("PATCH", path, body=body, content_type=STRATEGIC)

    async def delete(self, path: str, body: Object) -> None:
        await self._request("DELETE", path, body=body)

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Object]]:
        """Events until the server ends the watch, which it does every few minutes."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        parameters = {**query, "watch": "true", "allowWatchBookmarks": "true"}
        async with self._session.get(path, params=parameters, timeout=timeout) as response:
            if response.status != 200:
                raise ApiError(response.status, await response.text())
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), str(event["object"]))
                    yield event["type"], event["object"]

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        assert self._session is not None
        headers = {"Content-Type": content_type} if body is not None else {}
        data = json.dumps(body).encode() if body is not None else None
        timeout = aiohttp.ClientTimeout(total=30)
        for attempt in range(1, RETRIES + 1):
            try:
                async with self._session.request(
                    method, path, params=query, data=data, headers=headers, timeout=timeout
                ) as response:
                    if response.status < 400:
                        answer: Object = await response.json()
                        return answer
                    text = await response.text()
                    busy = response.status == TOO_MANY or response.status >= 500
                    if not busy or attempt == RETRIES:
                        raise ApiError(response.status, text)
            except (aiohttp.ClientError, TimeoutError):
                if attempt == RETRIES:
                    raise
            await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")


def _named(items: list[Object], name: str) -> Object:
    return next(item for item in items if item["name"] == name)


def _content(section: Mapping[str, str], key: str) -> str | None:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"]).decode()
    return Path(section[key]).read_text() if key in section else None
