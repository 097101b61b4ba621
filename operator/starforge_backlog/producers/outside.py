"""Producers outside the policy's database: objects of the cluster, and APIs that pause themselves.

Objects are found by namespace, APIs by their URL together with the secrets of whoever asks: a
policy that knows only the address must not pause with the login in another one's Secret.
"""

from __future__ import annotations

from starforge_backlog.api.pausing import ConfigMapKey, PausedWorkload, Webhook
from starforge_backlog.api.policy import Producer
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.clock import Clock
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.http.caller import HttpCaller, Trust
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.producers.config_map import ConfigMapField
from starforge_backlog.producers.marked_object import Field, MarkedObjectProducer
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.producers.shared import SHARED_FOR, KeptProducers
from starforge_backlog.producers.webhook import WebhookProducer
from starforge_backlog.producers.webhook_calls import Endpoint, WebhookCalls
from starforge_backlog.producers.webhook_wire import InForce
from starforge_backlog.producers.workload import WorkloadField
from starforge_backlog.snapshot import Reading, Unknown, Why


class OutsideAdapters:
    """Kept for the life of the process; what nobody asks for is forgotten."""

    def __init__(self, client: ClusterClient, http: HttpCaller, clock: Clock) -> None:
        self._client = client
        self._http = http
        self._clock = clock
        self._kept = KeptProducers()

    async def find(
        self, producer: Producer, access: PolicyAccess, holder: Holder
    ) -> Pausable | Unknown:
        """The producer, for the policy that asks."""
        match producer.way[1]:
            case ConfigMapKey() as key:
                return self._object(ConfigMapField(access.namespace, key))
            case PausedWorkload() as workload:
                return self._object(WorkloadField(access.namespace, workload, access.target))
            case Webhook() as webhook:
                return await self._webhook(webhook, access, holder)
            case _:
                message = "this way to pause is not known to this version of the operator"
                return Unknown(Why.NOT_CONFIGURED, message, self._clock())

    def _object(self, field: Field) -> Pausable:
        return self._kept.shared(
            field, lambda: MarkedObjectProducer(self._client, field, self._clock)
        )

    async def _webhook(
        self, webhook: Webhook, access: PolicyAccess, holder: Holder
    ) -> Pausable | Unknown:
        endpoint = await _endpoint(webhook, access)
        if isinstance(endpoint, Unknown):
            return endpoint
        api = self._kept.get(endpoint, lambda: _Api(self._http, endpoint, self._clock))

        def invalidate(unknown: Unknown) -> None:
            for reference in _references(webhook):
                if reference is not None:
                    access.invalidate(reference, unknown)

        return WebhookProducer(
            api.calls,
            api.reading,
            policy=access.policy,
            producer=holder.producer,
            invalidate=invalidate,
        )


class _Api:
    """An API, and what it said of itself within the last moments."""

    def __init__(self, http: HttpCaller, endpoint: Endpoint, clock: Clock) -> None:
        self.calls = WebhookCalls(http, endpoint, clock)
        self.reading: SharedAnswer[Reading[InForce]] = SharedAnswer(self.calls.read, SHARED_FOR)


async def _endpoint(webhook: Webhook, access: PolicyAccess) -> Endpoint | Unknown:
    """Its secrets read; or the first that cannot be."""
    found: list[str | None] = []
    for reference in _references(webhook):
        value = await _secret(reference, access)
        if isinstance(value, Unknown):
            return value
        found.append(value)
    secret, bearer, authorities = found
    return Endpoint(
        url=webhook.url,
        readable=webhook.readable,
        seconds=webhook.timeout.total_seconds(),
        attempts=webhook.attempts,
        trust=Trust(authorities, webhook.tls.server_name if webhook.tls is not None else None),
        secret=secret,
        bearer=bearer,
    )


def _references(webhook: Webhook) -> tuple[SecretValue | None, ...]:
    ca = webhook.tls.ca if webhook.tls is not None else None
    return webhook.secret, webhook.bearer_token, ca


async def _secret(reference: SecretValue | None, access: PolicyAccess) -> str | Unknown | None:
    if reference is None:
        return None
    found = await access.secret(reference)
    return found if isinstance(found, Unknown) else found.value
