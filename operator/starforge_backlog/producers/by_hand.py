"""How a person takes a pause of ours back where the operator cannot: a statement or a command.

For messages about a policy that goes away. Made of what the status keeps of the pause, so that it
can be composed without the place where the pause is, and without the Secret that leads there.
"""

from __future__ import annotations

import json
import shlex

from psycopg import sql

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.pausing import (
    BackfillJobs,
    ConfigMapKey,
    JobTypes,
    PausedWorkload,
    Webhook,
    WorkloadKind,
)
from starforge_backlog.api.producer import FeatureFlag, Producer
from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.databases import held_back
from starforge_backlog.decide.pauses.items import stored
from starforge_backlog.producers.job_types_plan import parse_plan
from starforge_backlog.producers.rows import listed, table_name
from starforge_backlog.snapshot import Known, ProducerReading

# Ways that put back what was there before the pause.
WITH_A_VALUE = frozenset({"featureFlag", "configMap", "workload", "queue"})
# Characters. A message that is longer is cut, and half of a statement is none.
LONGEST_STATEMENT = 1_500
# Ids that are listed in a statement; a condition is no place for 200 of them.
IDS_LISTED = 20


def by_hand(namespace: str, producer: Producer, entry: PauseStatus) -> str:
    """One sentence. It restores what stood there before, as far as the status knows it."""
    match producer.way[1]:
        case FeatureFlag() as flag:
            return f"in the database run: {_flag(flag, entry)}"
        case BackfillJobs() as jobs:
            return f"in the database run: {_backfills(jobs, entry)}"
        case JobTypes() as types:
            return f"in the database run: {_types(types, entry)}"
        case ConfigMapKey() as key:
            value = _before(entry)
            data = {"data": {key.key: value if isinstance(value, str) else None}}
            return f"run: {_patch(namespace, 'configmap', key.name, data)}"
        case PausedWorkload() as workload:
            return f"run: {_workload(namespace, workload, entry)}"
        case BullmqQueue() as queue:
            return f"in Redis run: {_queue(queue, entry)}"
        case Webhook(url=url):
            token = {"token": entry.token} if entry.token else {}
            body = json.dumps({"action": "resume", **token})
            return f"resume it in the API behind {url}, as POST {body} would"
        case _:
            return "resume it in its own place"


def by_hand_without_record(
    namespace: str,
    producer: Producer,
    entry: PauseStatus | None,
    reading: Known[ProducerReading],
) -> str:
    """One sentence for a pause of ours of which status has no whole record. What was there before
    is what the mark says, else what is left in status; else it is not known, and not invented."""
    seen = reading.value
    if seen.note:
        return seen.note  # it has the statement, for what is really there
    kept = entry or PauseStatus(
        producer=producer.name, by=PausedBy.US, state=PauseState.UNRECORDED, since=reading.at
    )
    known = bool(seen.token) or kept.previous is not None or producer.way[0] not in WITH_A_VALUE
    if seen.token:
        kept = kept.model_copy(update={"token": seen.token, "previous": seen.previous})
    statement = by_hand(namespace, producer, kept)
    if not known or len(statement) > LONGEST_STATEMENT:
        statement = how_to_resume(producer)
    return f"When it is safe, {statement}"


def how_to_resume(producer: Producer) -> str:
    """What a person does in the producer's own place."""
    if producer.feature_flag is not None:
        flag = producer.feature_flag
        return f"set {'.'.join(flag.path)} of row {flag.name} in {flag.table} to false"
    if producer.config_map is not None:
        key = producer.config_map
        return f"set key {key.key} of ConfigMap {key.name} to another value than {key.paused}"
    if producer.workload is not None:
        kind, name = producer.workload.kind, producer.workload.name
        if kind is WorkloadKind.CRON_JOB:
            return f"set spec.suspend of CronJob {name} to false"
        return f"run `kubectl scale {kind.lower()}/{name} --replicas=N`"
    if producer.queue is not None:
        return f"resume the BullMQ queue {producer.queue.name}, or lift its global concurrency"
    if producer.webhook is not None:
        return f"let the API at {producer.webhook.url} run again"
    if producer.backfill_jobs is not None:
        jobs = producer.backfill_jobs
        return f"set {jobs.status_column} of its rows in {jobs.table} back to {jobs.running}"
    return "give its jobs their due times back"


def _flag(flag: FeatureFlag, entry: PauseStatus) -> str:
    before = _before(entry)
    path = "{" + ",".join(flag.path) + "}"
    owner = "{" + ",".join((*flag.path[:-1], f"{flag.path[-1]}_by")) + "}"
    data = sql.Identifier(flag.data_column)
    kept: sql.Composable = sql.SQL("{data}::jsonb").format(data=data)
    if flag.write_owner:
        kept = sql.SQL("({kept} #- {owner})").format(kept=kept, owner=sql.Literal(owner))
    restored = (
        sql.SQL("{kept} #- {path}").format(kept=kept, path=sql.Literal(path))
        if entry.previous is None
        else sql.SQL("jsonb_set({kept}, {path}, {value})").format(
            kept=kept, path=sql.Literal(path), value=sql.Literal(json.dumps(before))
        )
    )
    return _text(
        sql.SQL("UPDATE {table} SET {data} = {restored} WHERE {name} = {row}").format(
            table=table_name(flag.table),
            data=data,
            restored=restored,
            name=sql.Identifier(flag.name_column),
            row=sql.Literal(flag.name),
        )
    )


def _backfills(jobs: BackfillJobs, entry: PauseStatus) -> str:
    ids = list(stored(entry.previous))
    if not ids:
        find = sql.SQL("SELECT {id} FROM {table} WHERE {status} = {paused}").format(
            table=table_name(jobs.table),
            status=sql.Identifier(jobs.status_column),
            paused=sql.Literal(jobs.paused),
            id=sql.Identifier(jobs.id_column),
        )
        return (
            f"{_text(find)}; and set {jobs.status_column} of those that the operator paused back"
            f" to {jobs.running}"
        )
    statement = sql.SQL(
        "UPDATE {table} SET {status} = {running} WHERE {status} = {paused} AND {id} IN ({ids})"
    ).format(
        table=table_name(jobs.table),
        status=sql.Identifier(jobs.status_column),
        running=sql.Literal(jobs.running),
        paused=sql.Literal(jobs.paused),
        id=sql.Identifier(jobs.id_column),
        ids=listed(ids[:IDS_LISTED]),
    )
    more = f" and the {len(ids) - IDS_LISTED} other ids" if len(ids) > IDS_LISTED else ""
    return f"{_text(statement)}{more}"


def _types(types: JobTypes, entry: PauseStatus) -> str:
    plan = parse_plan(entry.previous, entry.version, entry.token)
    if plan is None:
        return "nothing; none of its jobs was held yet"
    first, end = held_back.slot_range(plan.slot)
    due = sql.Identifier(types.due_column)
    return _text(
        sql.SQL(
            "UPDATE {table} SET {due} = {due} - make_interval(hours => {hours})"
            " WHERE {status} IN ({words}) AND {type} IN ({types})"
            " AND {due} >= now() + make_interval(hours => {first})"
            " AND {due} < now() + make_interval(hours => {end})"
        ).format(
            table=table_name(types.table),
            due=due,
            hours=sql.Literal(held_back.shift_hours(plan.slot)),
            status=sql.Identifier(types.status_column),
            words=listed(types.waiting),
            type=sql.Identifier(types.type_column),
            types=listed(plan.types or types.types),
            first=sql.Literal(first),
            end=sql.Literal(end),
        )
    )


def _workload(namespace: str, workload: PausedWorkload, entry: PauseStatus) -> str:
    before = _before(entry)
    if workload.kind is WorkloadKind.CRON_JOB:
        return _patch(namespace, "cronjob", workload.name, {"spec": {"suspend": bool(before)}})
    replicas = before if isinstance(before, int) else 1
    kind = workload.kind.value.lower()
    return _patch(namespace, kind, workload.name, {"spec": {"replicas": replicas}})


def _patch(namespace: str, kind: str, name: str, body: object) -> str:
    """As a person would; the mark of ours goes as well."""
    patch = shlex.quote(json.dumps(body))
    where = f"{kind} {name} -n {namespace}"
    return (
        f"kubectl patch {where} --type=merge -p {patch}"
        f" && kubectl annotate {where} backlog.starforge.dev/paused-"
    )


def _queue(queue: BullmqQueue, entry: PauseStatus) -> str:
    meta = shlex.quote(f"{queue.prefix}:{queue.name}:meta")
    before = _before(entry)
    limit = (
        f"HSET {meta} concurrency {shlex.quote(before)}"
        if isinstance(before, str)
        else f"HDEL {meta} concurrency"
    )
    return f"{limit}, then HDEL {meta} starforge-backlog"


def _before(entry: PauseStatus) -> object:
    try:
        return json.loads(entry.previous or "null")
    except (ValueError, RecursionError):
        return None


def _text(statement: sql.Composed) -> str:
    return statement.as_string(None)
