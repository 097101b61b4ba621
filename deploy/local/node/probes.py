"""Probes with the kubelet's periods and thresholds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from local.node.api import Object
from local.node.execution import run_briefly


@dataclass(frozen=True)
class Surroundings:
    """What a probe needs to know about the container that it checks."""

    pod_ip: str
    ports: Mapping[str, int]
    env: Mapping[str, str]
    cwd: Path
    rewrite: Callable[[str], str]


@dataclass(frozen=True)
class Probe:
    spec: Object
    session: aiohttp.ClientSession

    @property
    def period(self) -> float:
        return float(self.spec.get("periodSeconds") or 10)

    @property
    def timeout(self) -> float:
        return float(self.spec.get("timeoutSeconds") or 1)

    async def watch(
        self,
        around: Surroundings,
        *,
        passed: Callable[[], None],
        failed: Callable[[str], Awaitable[None]],
    ) -> None:
        """Runs until cancelled; calls back when a threshold is reached, not on every check."""
        await asyncio.sleep(float(self.spec.get("initialDelaySeconds") or 0))
        successes_needed = int(self.spec.get("successThreshold") or 1)
        failures_needed = int(self.spec.get("failureThreshold") or 3)
        successes = failures = 0
        while True:
            problem = await self.check(around)
            if problem is None:
                successes, failures = successes + 1, 0
                if successes == successes_needed:
                    passed()
            else:
                successes, failures = 0, failures + 1
                if failures == failures_needed:
                    await failed(problem)
            await asyncio.sleep(self.period)

    async def check(self, around: Surroundings) -> str | None:
        """None when all is well, otherwise what is wrong."""
        if http := self.spec.get("httpGet"):
            return await self._http(http, around)
        if tcp := self.spec.get("tcpSocket") or self.spec.get("grpc"):
            # A gRPC service is only asked whether it listens: good enough for a stand-in.
            return await self._tcp(tcp, around)
        if command := self.spec.get("exec"):
            argv = [around.rewrite(part) for part in command["command"]]
            code = await run_briefly(argv, env=around.env, cwd=around.cwd, within=self.timeout)
            if code is None:
                return f"command {argv} timed out after {self.timeout:g}s"
            return None if code == 0 else f"command {argv} exited with {code}"
        return "the probe has no handler"

    async def _http(self, http: Object, around: Surroundings) -> str | None:
        scheme = (http.get("scheme") or "HTTP").lower()
        host = http.get("host") or around.pod_ip
        path = (http.get("path") or "/").removeprefix("/")
        headers = {item["name"]: item["value"] for item in http.get("httpHeaders") or ()}
        try:
            url = f"{scheme}://{host}:{_port(http['port'], around)}/{path}"
            async with self.session.get(
                url,
                headers=headers,
                ssl=_UNVERIFIED,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.timeout),
            ) as response:
                if 200 <= response.status < 400:
                    return None
                return f"HTTP probe failed with statuscode: {response.status}"
        except TimeoutError:
            return f"{http.get('path') or '/'} did not answer within {self.timeout:g}s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error)

    async def _tcp(self, tcp: Object, around: Surroundings) -> str | None:
        try:
            async with asyncio.timeout(self.timeout):
                host = tcp.get("host") or around.pod_ip
                _, writer = await asyncio.open_connection(host, _port(tcp["port"], around))
        except TimeoutError:
            return f"port {tcp['port']} did not answer within {self.timeout:g}s"
        except (OSError, ValueError) as error:
            return str(error)
        writer.close()
        return None


def _port(port: int | str, around: Surroundings) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    if port not in around.ports:
        raise ValueError(f"the container has no port named {port}")
    return around.ports[port]


def _unverified() -> ssl.SSLContext:
    """The kubelet does not verify a pod's certificate either."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_UNVERIFIED = _unverified()
