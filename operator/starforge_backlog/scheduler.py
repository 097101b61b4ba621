"""When passes run: one per policy and interval, and one at once when the spec was changed.

Policies that share a database run at the same moment (give or take a moment, so that a hundred
of them do not start in one tick), because then they share its readings: a few sets of statements
per interval, however many policies (P7).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec
from starforge_backlog.cluster.status import WriteOutcome
from starforge_backlog.context import Services
from starforge_backlog.decide.again import due_again
from starforge_backlog.decide.plan import Plan
from starforge_backlog.policy import Policy, SpecNotUnderstood
from starforge_backlog.reconcile import Pass, reconcile
from starforge_backlog.report.announce import count_actions
from starforge_backlog.report.faults import broken_readings, not_understood, pass_broken
from starforge_backlog.report.metrics import PassResult, PolicyKey
from starforge_backlog.snapshot import Source, SourceKind, Unknown, Why

_log = structlog.stdlib.get_logger(__name__)

# Policies of one database start within this time of each other: shorter than the time for which
# readings are shared, so that they share them.
SPREAD_SECONDS = 0.5
# ... unless they are so many that they would wait for the one core that we run on, and for the API
# server: a pass costs both about this much. Then some more sets of readings are the smaller evil.
SECONDS_PER_PASS = 0.01
# The spread is doubled rather than grown, so that a new policy moves the phases of the others only
# when their number has doubled.
SPREAD_STEP = 2
# Of the interval; a policy that is always late by half of it is not on time any more.
WIDEST_SPREAD = 0.5
# The event loop's clock may be ahead of the wall clock by a little; a read that comes a moment too
# early would have to come again.
CLOCKS_APART_SECONDS = 0.01
# Everything that a pass waits for has a limit of its own: with an API server that answers each
# request at the last moment it takes about half of this. What is longer hangs, and would for ever.
LONGEST_PASS = timedelta(minutes=2)
# After a pass that not even a report came of.
AFTER_BUG_SECONDS = 15.0
# A spec that cannot be read changes only by an edit, which starts a pass at once.
UNREADABLE_INTERVAL = timedelta(minutes=5)


@dataclass(slots=True)
class PassScheduler:
    """The passes of one policy. `body` is kept current by the framework's watch."""

    services: Services
    body: Callable[[], Mapping[str, Any]]
    wake: asyncio.Event
    stopped: Callable[[], bool]
    turn: asyncio.Lock  # a deletion waits for the pass that runs, and none starts after it

    async def run(self) -> None:
        """Run passes until the policy is gone or the process stops.

        Nothing else ends them (P11): the framework takes a loop that ended by itself as done, and
        nobody would read the policy again before the next start of the process.
        """
        loop, meta = asyncio.get_running_loop(), self.body()["metadata"]
        due, woken = loop.time(), True  # the first pass is as one that a change started
        while not self.stopped():
            self.wake.clear()
            due = await self.services.isolation.run(
                f"{meta['namespace']}/{meta['name']}",
                Source(SourceKind.PASS),
                self._round(due, woken=woken),
                _later,
            )
            woken = False
            try:
                async with asyncio.timeout_at(due):
                    await self.wake.wait()
                    woken, due = True, loop.time()
            except TimeoutError:
                pass  # the interval is over: the ordinary case
        self.services.health.policy_gone(meta["uid"])

    async def _round(self, due: float, *, woken: bool) -> float:
        """The pass that was due then; returns when the next is (loop time)."""
        loop = asyncio.get_running_loop()
        try:
            interval, extra_pass_in = await self._one(max(0.0, loop.time() - due))
        finally:
            self.services.health.pass_ended(self.body()["metadata"]["uid"])
        due = self._next(loop.time(), interval, woken=woken)
        return due if extra_pass_in is None else min(due, loop.time() + extra_pass_in)

    async def _one(self, lateness: float) -> tuple[timedelta, float | None]:
        """One pass; returns the interval until the next, and the seconds until a read that
        cannot wait for it."""
        async with self.turn:
            if self.stopped():
                return timedelta(0), None
            loop = asyncio.get_running_loop()
            began = loop.time()
            body = self.body()
            try:
                policy = Policy.parse(body)
            except SpecNotUnderstood as wrong:
                await self._refuse(body, str(wrong))
                return UNREADABLE_INTERVAL, None
            self.services.health.pass_began(policy.uid, policy.key, policy.spec.interval)
            guard = policy.spec.target.guard if _acts(policy) else None
            self.services.guards.keep(policy.uid, policy.namespace, guard, self.wake.set)
            # What no adapter expected is caught where it is read or done. What is left is a bug in
            # a rule or a report: then at least status must not go on saying the last good thing.
            done = await self.services.isolation.run(
                policy.key, Source(SourceKind.PASS), self._decided(policy), _itself
            )
            if not isinstance(done, Pass):
                await self._report_bug(policy, done)
                return policy.spec.interval, None
            self._measure(policy, done, loop.time() - began, lateness)
            return policy.spec.interval, self._extra_pass_in(policy, done)

    async def _decided(self, policy: Policy) -> Pass | Unknown:
        try:
            async with asyncio.timeout(LONGEST_PASS.total_seconds()) as limit:
                return await reconcile(self.services, policy)
        except TimeoutError:
            if not limit.expired():
                raise
            given_up = f"the pass was given up after {format_duration(LONGEST_PASS)}"
            message = f"{given_up}: something in it has no limit of its own; the next one follows"
            return Unknown(Why.TIMEOUT, message, self.services.clock())

    async def _report_bug(self, policy: Policy, bug: Unknown) -> None:
        before = self.services.statuses.current(policy.body)
        status = pass_broken(before, bug, policy.generation)
        await self.services.statuses.write(policy.namespace, policy.name, policy.uid, status)

    def _extra_pass_in(self, policy: Policy, done: Pass) -> float | None:
        """Seconds until a pass that cannot wait for the interval."""
        now = self.services.clock()
        moment = due_again(policy.spec, done.plan, done.status, now)
        return None if moment is None else (moment - now).total_seconds() + CLOCKS_APART_SECONDS

    def _next(self, now: float, interval: timedelta, *, woken: bool) -> float:
        """The next moment of this policy's phase (loop time)."""
        seconds = interval.total_seconds()
        offset = self._phase(seconds) % seconds if seconds else 0.0
        periods = (now - offset) // seconds + 1 if seconds else 0
        due = offset + periods * seconds
        # A wake-up in the middle of an interval must not be followed by a pass right behind it.
        return due + seconds if woken and due - now < seconds / 4 else due

    def _phase(self, interval: float) -> float:
        """Seconds; the same for policies with the same database, but for the spread."""
        meta, spec = self.body()["metadata"], self.body()["spec"]
        database = spec.get("database") or {}
        scraped = {"server": (database.get("prometheus") or {}).get("server", meta["uid"])}
        reference = database.get("url") or scraped
        shared = _hash(f"{meta['namespace']}/{dict(reference)}") * 3600
        return shared + _hash(meta["uid"]) * spread(self.services.health.policies, interval)

    async def _refuse(self, body: Mapping[str, Any], why: str) -> None:
        meta = body["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        self.services.health.pass_began(meta["uid"], key, UNREADABLE_INTERVAL)
        before = self.services.statuses.current(body)
        # Its target and its database are unknown now, and its pods are there all the same (P2).
        self.services.ledger.unread(key, before)
        status = not_understood(
            before, why, int(meta.get("generation") or 0), self.services.clock()
        )
        await self.services.statuses.write(meta["namespace"], meta["name"], meta["uid"], status)
        _log.warning("the spec cannot be read", policy=key)
        self.services.metrics.observe_pass(
            PolicyKey(meta["namespace"], meta["name"]),
            None,
            status,
            result=PassResult.INVALID,
            duration=timedelta(0),
            lateness=timedelta(0),
        )

    def _measure(self, policy: Policy, done: Pass, duration: float, lateness: float) -> None:
        metrics, key = self.services.metrics, PolicyKey(policy.namespace, policy.name)
        metrics.observe_pass(
            key,
            done.plan.seen,
            done.status,
            result=_result(policy, done),
            duration=timedelta(seconds=duration),
            lateness=timedelta(seconds=lateness),
        )
        for source, reason in _faults(policy.spec, done.plan):
            metrics.error(source, reason)
        count_actions(metrics, key, done.results)


def _acts(policy: Policy) -> bool:
    """Whether its passes may write anything."""
    enforces = policy.spec.mode is Mode.ENFORCE and not policy.spec.suspend
    return enforces and policy.hold is None


def spread(policies: int, interval: float) -> float:
    """Seconds over which the policies of a database start, where the process runs so many."""
    seconds = SPREAD_SECONDS
    while seconds < policies * SECONDS_PER_PASS:
        seconds *= SPREAD_STEP
    return min(seconds, interval * WIDEST_SPREAD)


def _faults(spec: QueueBacklogPolicySpec, plan: Plan) -> set[tuple[str, str]]:
    """Sources and reasons of this pass' faults: `queue`, not `queue jobs`, to bound the series."""
    return {(what.kind.value, fault.why.value) for what, fault in broken_readings(spec, plan)}


def _later(_bug: Unknown) -> float:
    """When the next pass is due after one that a bug ended before it had reported."""
    return asyncio.get_running_loop().time() + AFTER_BUG_SECONDS


def _itself(bug: Unknown) -> Pass | Unknown:
    """In place of the pass."""
    return bug


def _hash(text: str) -> float:
    """A number in [0, 1) that is the same in every process."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _result(policy: Policy, done: Pass) -> PassResult:
    if not done.written.stands:
        conflict = done.written.outcome is WriteOutcome.CONFLICT
        return PassResult.CONFLICT if conflict else PassResult.FAILED
    if policy.hold is not None or policy.spec.suspend:
        return PassResult.HELD
    return PassResult.COMPLETE if all(r.ok for r in done.results) else PassResult.FAILED
