"""Queues and workers that live in a Node.js process, and what its workers do with jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

ANSWER_WITHIN = 240.0


class Caller(Protocol):
    """The process: `tests.node.bull.Bull`."""

    def call(self, op: str, *, within: float = ANSWER_WITHIN, **arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Behaviour:
    """What a worker does with a job. The job's own data (`ms`, `fail`, `crash`, `hang`) wins."""

    ms: int | Mapping[str, int] = 0
    """How long it takes; by name, others take none."""
    fail: Mapping[str, str] = field(default_factory=dict)
    """Names that always fail → the message."""
    fail_ratio: float = 0.0
    """Share of all others that fail, by chance."""
    fail_message: str = "failed as asked"
    unrecoverable: Sequence[str] = ()
    """Names whose failure is final whatever `attempts` says."""
    crash: Sequence[str] = ()
    """Names at which the whole process is killed."""
    hang: Sequence[str] = ()
    """Names that never end."""
    ledger: str = ""
    """A Redis list to which each run pushes its job's id first: survives a kill."""

    def to_json(self) -> dict[str, Any]:
        return {
            "ms": self.ms if isinstance(self.ms, int) else dict(self.ms),
            "fail": dict(self.fail),
            "failRatio": self.fail_ratio,
            "failMessage": self.fail_message,
            "unrecoverable": list(self.unrecoverable),
            "crash": list(self.crash),
            "hang": list(self.hang),
            "ledger": self.ledger or None,
        }


@dataclass(frozen=True)
class BullQueue:
    bull: Caller
    handle: str
    name: str

    def add(self, name: str, data: Any = None, **opts: Any) -> str:
        """The job's id. `opts` as BullMQ calls them: `attempts`, `delay`, `priority`, `jobId`…"""
        data = {} if data is None else data
        return str(self.bull.call("add", queue=self.handle, name=name, data=data, opts=opts))

    def add_bulk(
        self,
        count: int,
        names: str | Mapping[str, int] = "job",
        *,
        data: Mapping[str, Any] | None = None,
        pad: int = 0,
        ids: str = "",
        within: float = 120,
        **opts: Any,
    ) -> None:
        """`names` in turns by their shares; data gets `n` (0, 1, …) and `pad` bytes more.

        With `ids` the jobs are called `<ids>-<n>`.
        """
        self.bull.call(
            "addBulk",
            queue=self.handle,
            count=count,
            names={names: 1} if isinstance(names, str) else dict(names),
            data=dict(data or {}),
            pad=pad,
            ids=ids or None,
            opts=opts,
            within=within,
        )

    def worker(self, behaviour: Behaviour | None = None, **options: Any) -> BullWorker:
        """`options` as BullMQ calls them: `concurrency`, `lockDuration`, `stalledInterval`,
        `maxStalledCount`, `name`, `removeOnComplete`, `metrics={"maxDataPoints": 60}`, …"""
        handle = self.bull.call(
            "worker",
            queue=self.handle,
            options=options,
            behaviour=(behaviour or Behaviour()).to_json(),
        )
        return BullWorker(self.bull, handle)

    def pause(self) -> None:
        self.call("pause")

    def resume(self) -> None:
        self.call("resume")

    def counts(self, *states: str) -> dict[str, int]:
        """`getJobCounts`: of all states, unless some are named."""
        found: dict[str, int] = self.call("getJobCounts", *states)
        return found

    def set_concurrency(self, limit: int | None) -> None:
        """Of all workers together (since 5.9); None removes the limit."""
        self.bull.call("setConcurrency", queue=self.handle, limit=limit)

    def flow(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """FlowProducer.add; the ids: `{"id": …, "children": [{"id": …, "children": []}]}`."""
        found: dict[str, Any] = self.bull.call("flow", queue=self.handle, tree=tree)
        return found

    def upsert_scheduler(
        self, scheduler: str, repeat: Mapping[str, Any], template: Mapping[str, Any]
    ) -> None:
        """Since 5.16. `repeat`: `{"every": ms}` or `{"pattern": cron}`."""
        self.call("upsertJobScheduler", scheduler, repeat, template)

    def obliterate(self, *, force: bool = True) -> None:
        self.call("obliterate", {"force": force})

    def job(self, job_id: str) -> dict[str, Any]:
        """All that BullMQ reads of a job, as JSON."""
        found: dict[str, Any] = self.bull.call("job", queue=self.handle, job=job_id)
        return found

    def call_job(self, job_id: str, method: str, *args: Any) -> Any:
        """As in `call_job("7", "getState")` or `call_job("7", "retry")`."""
        return self.bull.call("job", queue=self.handle, job=job_id, method=method, args=args)

    def call(self, method: str, *args: Any) -> Any:
        """Any method of the Queue, with JSON in and out."""
        return self.bull.call("call", handle=self.handle, method=method, args=args)

    def close(self) -> None:
        self.bull.call("close", handle=self.handle, force=False)


@dataclass(frozen=True)
class BullWorker:
    bull: Caller
    handle: str

    def stop(self, *, force: bool = False) -> None:
        """Finishes the jobs in hand, unless forced."""
        self.bull.call("close", handle=self.handle, force=force)

    def ran(self) -> list[dict[str, Any]]:
        """Every run so far: `id`, `name`, `start`, `end` (ms; None while it runs), `outcome`."""
        found: list[dict[str, Any]] = self.bull.call("ran", worker=self.handle)
        return found

    def errors(self) -> list[str]:
        """What it complained about, as a lost connection or lock."""
        found: list[str] = self.bull.call("errors", handle=self.handle)
        return found

    def call(self, method: str, *args: Any) -> Any:
        """Any method of the Worker, as in `call("pause", True)`."""
        return self.bull.call("call", handle=self.handle, method=method, args=args)
