"""What the framework calls: parse, call one thing, report. No rule of ours is in here."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import kopf
import structlog

from starforge_backlog.api import GROUP, PLURAL, VERSION
from starforge_backlog.cluster.finalizer import FINALIZER
from starforge_backlog.finalizer import RELEASE_RETRY_SECONDS, NotReleased, release
from starforge_backlog.policy import Policy
from starforge_backlog.process import Process
from starforge_backlog.scheduler import PassScheduler
from starforge_backlog.tls import same_on_every_python

_log = structlog.stdlib.get_logger(__name__)

RESOURCE = (GROUP, VERSION, PLURAL)

# Passes that raised are a bug of ours (`PassScheduler.run` keeps what a pass raises): neither a
# loop of tracebacks nor a silence.
AFTER_BUG_SECONDS = 60.0
# At the end a pass may finish its effects; then it is cancelled (it can be killed at any moment).
STOP_GRACE_SECONDS = 3.0
# Watches are renewed this often, before proxies cut them silently (kopf#585, kopf#957).
WATCH_SECONDS = 300
REQUEST_SECONDS = 30.0
# Connections of the framework. Without a bound it opens one for each policy that gets its finalizer
# at the same moment, and each costs 256 kB (asyncio's buffer for TLS): with a thousand policies at
# once more than the chart's memory limit, and the API server would be asked to serve them all.
# Watches hold one for as long as we run: policies in all namespaces, or in each that is listed.
WATCHES = 1
WRITES_AT_ONCE = 8


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no copy of the object in an annotation: nothing of ours handles a difference, and
    the copy is one more write per policy, up to the annotation's size limit (kopf#1087)."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What `store` did not keep: the object as it is, so that nothing appears new."""
        return self.build(body=body)

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept."""


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: Process, **_: Any) -> None:
    """Framework settings, and everything of ours that needs a running loop."""
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.posting.enabled = False  # one Event per transition, posted by `report/`
    settings.peering.standalone = True
    # `memo.start` searches for the resource once. Scanning, the framework would stop to watch
    # it as soon as its CRD is terminating (discovery then lists it without `patch`), and policies
    # that are deleted with the CRD would be released by nobody.
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 10
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.background.cancellation_polling = STOP_GRACE_SECONDS
    await memo.start()


@kopf.on.cleanup()
async def stop(memo: Process, **_: Any) -> None:
    """Close connections and the port."""
    await memo.close()


@kopf.on.login()
async def login(memo: Process, **_: Any) -> kopf.AiohttpSession:
    """The same credentials as our own client's, over a bounded number of connections."""
    info = await memo.credentials.connection_info()
    connector = aiohttp.TCPConnector(
        limit=WATCHES + memo.namespaces + WRITES_AT_ONCE,
        ssl=same_on_every_python(info.as_ssl_context()),
    )
    # The framework closes it when it logs in again, and at the end.
    session = aiohttp.ClientSession(
        connector=connector, headers=info.as_http_headers(), proxy=info.proxy_url
    )
    return kopf.AiohttpSession(server=info.server, aiohttp_session=session)


@kopf.on.event(*RESOURCE)
async def changed(
    event: kopf.RawEvent, uid: str, name: str, namespace: str | None, memo: Process, **_: Any
) -> None:
    """A changed spec or annotation starts a pass at once; our own status write does not."""
    # The framework keeps the object as it came; more than half of it is this record of who wrote
    # which field, 26 kB of each policy that nobody here reads.
    cast(dict[str, Any], event["object"]["metadata"]).pop("managedFields", None)
    memo.seen(uid, f"{namespace}/{name}", event)


@kopf.daemon(
    *RESOURCE,
    backoff=AFTER_BUG_SECONDS,
    cancellation_backoff=STOP_GRACE_SECONDS,
    cancellation_timeout=STOP_GRACE_SECONDS,
)
async def passes(
    body: kopf.Body, uid: str, stopped: kopf.DaemonStopped, memo: Process, **_: Any
) -> None:
    """All passes of one policy, until it is deleted or we stop."""
    wake, turn = memo.policy(uid)
    scheduler = PassScheduler(memo.services, lambda: body, wake, lambda: bool(stopped), turn)
    stopping = asyncio.create_task(_wake_when(stopped, wake))
    try:
        await scheduler.run()
    finally:
        stopping.cancel()


async def _wake_when(stopped: kopf.DaemonStopped, wake: asyncio.Event) -> None:
    await stopped.wait()
    wake.set()


@kopf.on.delete(*RESOURCE)
async def deleted(body: kopf.Body, uid: str, memo: Process, **_: Any) -> None:
    """Release what we paused; the finalizer holds the policy until that is done."""
    policy = Policy.for_release(body)
    async with memo.policy(uid)[1]:
        try:
            done = await release(memo.services, policy)
        except NotReleased as fault:
            memo.stranded.watch(memo.services, body)
            raise kopf.TemporaryError(str(fault), delay=RELEASE_RETRY_SECONDS) from fault
    if memo.namespaced:
        # The right to take the finalizer off may be gone by now: then a person has to be
        # informed.
        memo.stranded.watch(memo.services, body)
    memo.forget(body)
    _log.info("; ".join(("policy deleted", *done)), policy=policy.key)
