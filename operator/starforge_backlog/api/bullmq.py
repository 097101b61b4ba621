"""`queues[].bullmq` and `producers[].queue`: a queue of BullMQ on Redis."""

from __future__ import annotations

from starforge_backlog.api.base import Model
from starforge_backlog.api.prometheus import Tls
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.terms import BullName, BullPrefix


class BullmqQueue(Model):
    """A BullMQ queue, made by version 4, 5 or 6 (or 4 to 6 of them in turn)."""

    url: SecretValue
    """URL of the Redis server, by reference to a Secret: redis://user:password@host:6379/0,
    rediss:// with TLS, redis+sentinel://user:password@host1:26379,host2:26379/0?master=mymaster,
    (a Sentinel with a password of its own: &sentinelPassword=), or
    redis+cluster://user:password@host:6379. The operator opens one connection per server, however
    many policies name it."""

    name: BullName
    """The queue's name, as given to new Queue(). BullMQ 5 and later refuse ':' in it."""

    prefix: BullPrefix = "bull"
    """Prefix of the queue's keys. In a Redis Cluster it (or the name) needs a hash tag, for
    example {etl}, as BullMQ itself does."""

    tls: Tls | None = None
    """Whom to trust when url is rediss."""
