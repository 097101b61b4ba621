"""Every number of the BullMQ observer, with its unit and the reason for it.

Costs are of Redis 8.2 with 1,000,000 waiting jobs on 2 cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ObserverSettings:
    """Defaults are for production; tests make queues small by making these small."""

    # Jobs at the end of each waiting list in which the oldest is sought: LIFO and stalled jobs
    # are put in front of older ones. 50 cost 0.2 ms.
    tail: int = 50
    # Distinct priorities whose first job is read, from either end; each is one or two seeks in
    # a sorted set. 128 cost 1 ms.
    priorities: int = 64
    # Groups (BullMQ Pro) of each state whose list is counted: 0.5 ms for all four.
    groups: int = 100
    # Jobs in progress whose lock is searched for, the longest running first: more than the workers
    # of most queues hold together.
    active: int = 100
    # Newest entries of the event stream: about 115 jobs' worth, 0.8 ms …
    events: int = 500
    # … of a stream of so many bytes in all. Of 10,000 entries, BullMQ's default, those that hold
    # nothing of the application's are 0.7 MB; 2 MB take a script 4 ms.
    events_small: int = 2_000_000
    # In a larger one an entry may be of any size, and each is read by itself: 1 ms.
    events_few: int = 200
    # Bytes that are read one by one: 1 ms.
    events_budget: int = 256_000
    # Bytes of an entry on average above which none is read: the next one may be the megabyte.
    events_average: int = 8_000
    # After an entry of more than twice the budget the next read of events comes so much later.
    events_rest: timedelta = timedelta(minutes=5)
    # Nodes of the stream that are measured: all of a stream of BullMQ's default length, in which
    # each entry has a node of its own where entries are large. 0.9 ms.
    events_nodes: int = 12_000
    # Jobs of a sample for the mix of names, in blocks of neighbours: within 2 %, 1.6 ms …
    sample: int = 500
    block: int = 10
    # … in scripts of so many jobs, 0.3 ms each, so that other clients get their turn.
    jobs_at_once: int = 100
    # Where a policy names types, one that is not among the jobs of the sample may still be many:
    # 50 blocks passed over 600 jobs of 200,000 in 23 % of all samples, and in 85 % where they had
    # been added together. So many single jobs: in 1 %, and never. 8 ms, with priorities 12 ms.
    named_sample: int = 1500
    named_block: int = 1
    # As long as a policy has named types within this time: policies with and without share
    # a reading.
    named_for: timedelta = timedelta(minutes=5)
    # The mix changes slowly and is scaled to each count in between.
    sample_every: timedelta = timedelta(seconds=60)
    # Jobs that ended lately whose names are read, of each outcome: 0.2 ms.
    ended: int = 200
    # Names of jobs that are distinguished; a policy allows 32 types per queue.
    most_types: int = 64
    # Window of the failure ratio (runbook: failed / processed over 5 minutes).
    outcome_window: timedelta = timedelta(minutes=5)
    # INFO, for what the server may do to its keys: 0.1 ms, and shared by all queues of a server.
    server_every: timedelta = timedelta(seconds=10)
    # Connections above which clients are not listed: 3,000 are 1 MB and 3 ms.
    clients_most: int = 3_000
    # CLIENT LIST costs about 1 µs per client, and is shared by all queues of a server.
    clients_every: timedelta = timedelta(seconds=10)
    # At most 1/50 = 2 % of Redis' one core for that list …
    duty: int = 50
    # … but never without it for longer than this.
    longest_pause: timedelta = timedelta(minutes=2)
    # Keys that are searched through for queues of a similar name, when the one named is not there.
    similar_keys: int = 500
    similar_every: timedelta = timedelta(minutes=1)
    # Bounds of a rate window.
    shortest_window: timedelta = timedelta(seconds=5)
    longest_window: timedelta = timedelta(seconds=120)
