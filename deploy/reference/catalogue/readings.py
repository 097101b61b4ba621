"""Reasons of a reading that is missing, or of a write that failed; any condition can have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reference.catalogue.entry import Entry
from starforge_backlog.snapshot import Why

MISSING: Final[Mapping[Why, Entry]] = {
    Why.NOT_YET: Entry(
        "The first reading is not there, or a rate needs a second one. After a start also:"
        " another policy of the server had no pass yet.",
        "Wait, two minutes at most after a start.",
    ),
    Why.STALE: Entry(
        "The last reading is too old, or its time is in the future (a clock jumped). Redis: a"
        " replica without its master. Prometheus: samples older than `staleAfter`.",
        "Check the source, its exporter and its targets; compare the clocks.",
    ),
    Why.TIMEOUT: Entry(
        "No answer within the limit. The write, if it was one, may have happened; the next pass"
        " reads it.",
        "Check the load of the server and the network.",
    ),
    Why.UNREACHABLE: Entry(
        "The connection is refused or was lost, or the server answers 429 or 503.",
        "Check that the server runs and that a NetworkPolicy lets the operator through.",
    ),
    Why.DATABASE_FULL: Entry(
        "The server or the database has no free connection for the operator.",
        "Free one. Keep some for it:"
        " [autoscalers.md](../autoscalers.md#keep-a-connection-for-the-operator).",
    ),
    Why.ROLE_LIMIT: Entry(
        "The operator's role has reached its own `CONNECTION LIMIT`.",
        "`ALTER ROLE … CONNECTION LIMIT …`, or give the operator a role of its own.",
    ),
    Why.HOST_UNKNOWN: Entry(
        "The host of the URL has no address.",
        "Correct the host in the Secret, or check DNS.",
    ),
    Why.TLS_FAILED: Entry(
        "The certificate is not trusted, has expired or is for another name, or the server"
        " offers no TLS.",
        "The message says which. Name the authority in `tls.ca`.",
    ),
    Why.DATABASE_NOT_FOUND: Entry(
        "The server has no database of that name (Redis: of that number; PgBouncer: no console).",
        "Correct the URL in the Secret.",
    ),
    Why.WRONG_PASSWORD: Entry(
        "The server refused the login, or knows no such role.",
        "Put the current login into the Secret. No restart is needed.",
    ),
    Why.SECRET_NOT_FOUND: Entry(
        "The Secret does not exist in the policy's namespace.",
        "Create it, or correct the name.",
    ),
    Why.SECRET_KEY_MISSING: Entry(
        "The Secret has no such key.",
        "Add the key, or correct it.",
    ),
    Why.SECRET_MALFORMED: Entry(
        "The value cannot be used: no URL, an unknown option, no certificate.",
        "Correct the value; the message names the fault and never the value.",
    ),
    Why.NO_PERMISSION: Entry(
        "A right is missing: in Kubernetes, PostgreSQL, Redis or Prometheus.",
        "Run the `GRANT` or `ACL SETUSER` of the message, or set the chart value that it names.",
    ),
    Why.PERMISSION_LOST: Entry(
        "Listing autoscalers is refused. It may be so for the moment only, so nothing is scaled.",
        "Wait; after 10 s, or 15 minutes where the list worked before, it counts as missing.",
    ),
    Why.ADMISSION_REFUSED: Entry(
        "An admission webhook refused a write. The message has its words.",
        "Exempt the operator, or correct the object.",
    ),
    Why.MISSING_ROLE: Entry(
        "The database role cannot see other sessions.",
        "`GRANT pg_read_all_stats TO …;`",
    ),
    Why.TABLE_NOT_FOUND: Entry(
        "The table or its schema does not exist.",
        "Correct `postgres.table`.",
    ),
    Why.COLUMN_NOT_FOUND: Entry(
        "The table has no such column.",
        "Map it with `postgres.columns`, or list it in `absent`.",
    ),
    Why.STATUS_NOT_MAPPED: Entry(
        "Status words that are neither known nor mapped.",
        "Map them with `postgres.statuses`.",
    ),
    Why.NOT_IN_TABLE: Entry(
        "The schema of the table does not have this reading.",
        "Nothing, or take the reading from Prometheus with `signals`.",
    ),
    Why.READ_ONLY: Entry(
        "The server is a standby, a replica, or takes no writes.",
        "Point the URL at the primary; wait if a failover is under way.",
    ),
    Why.LOCK_BUSY: Entry(
        "Another session holds the lock, or wrote at the same moment. The operator does not"
        " wait for it.",
        "Nothing; it is tried with the next pass.",
    ),
    Why.NO_INDEX: Entry(
        "No index leads to the reading at a bounded cost.",
        "Create the index of the message when the load is low.",
    ),
    Why.NO_SAMPLES: Entry(
        "Nothing ended in the window, so there is no ratio.",
        "Nothing.",
    ),
    Why.CAPPED: Entry(
        "Counting stopped below the number that the rule compares with.",
        "Create the index of [observing-postgres.md](../observing-postgres.md#ways-to-count),"
        " or lower the number.",
    ),
    Why.COUNTER_RESET: Entry(
        "A counter fell: the queue was obliterated, statistics were reset, or data is gone.",
        "Nothing if you did it. Otherwise check the server.",
    ),
    Why.NOT_CONFIGURED: Entry(
        "The policy leaves out what would say it, or the field has no effect here.",
        "Set the field that the message names.",
    ),
    Why.TARGET_NOT_FOUND: Entry(
        "The target does not exist, or the API server knows no such kind.",
        "Correct `spec.target`.",
    ),
    Why.TARGET_NOT_SCALABLE: Entry(
        "The kind has no replicas that can be changed.",
        "Correct `spec.target.kind`.",
    ),
    Why.ENV_NOT_FOUND: Entry(
        "The pods have no variable with the pool size.",
        "Set `PG_POOL_MAX` in the pods, or `connectionsPerReplica`.",
    ),
    Why.ENV_NOT_A_NUMBER: Entry(
        "The variable is not a whole number.",
        "Correct it.",
    ),
    Why.ROW_MISSING: Entry(
        "The row of the flag, the ConfigMap or the workload that should be paused does not exist.",
        "Create it, or correct the name.",
    ),
    Why.BAD_SHAPE: Entry(
        "What was found is not of the expected form: columns, JSON, a job's time, an answer.",
        "The message names it.",
    ),
    Why.QUEUE_NOT_FOUND: Entry(
        "No BullMQ queue of that prefix and name.",
        "Correct the name; similar names are in the message.",
    ),
    Why.NOT_BULLMQ: Entry(
        "Keys of Bull 3 or 4, or of another type.",
        "Use a queue of BullMQ 4 to 6.",
    ),
    Why.HASH_TAG_MISSING: Entry(
        "On a Redis Cluster neither prefix nor name has a hash tag.",
        "Use a prefix such as `{bull}`.",
    ),
    Why.KEYS_EVICTED: Entry(
        "The Redis has evicted keys, so an empty list proves nothing.",
        "Set `maxmemory-policy noeviction` and more memory.",
    ),
    Why.OUT_OF_MEMORY: Entry(
        "The Redis is at `maxmemory` and refuses writes.",
        "Raise `maxmemory`, or remove finished jobs.",
    ),
    Why.QUERY_ERROR: Entry(
        "Prometheus refuses the expression, or the age of its samples is not known.",
        "Correct the expression.",
    ),
    Why.EMPTY_RESULT: Entry(
        "No series is behind the expression.",
        "Correct the metric or its labels; check the exporter.",
    ),
    Why.SEVERAL_SERIES: Entry(
        "The expression gives several series.",
        "Add `sum(…)` or a label.",
    ),
    Why.NOT_A_NUMBER: Entry(
        "The expression gives NaN, an infinity, a range or a text.",
        "Correct the expression.",
    ),
    Why.PARTIAL: Entry(
        "A part of what is behind the answer is missing: a target is down, a store is silent,"
        " BullMQ Pro groups.",
        "Check the targets; for groups name `signals`.",
    ),
    Why.NO_SOURCE: Entry(
        "The policy names no source for it.",
        "Add the expression, or accept that rules about it cannot be judged.",
    ),
    Why.NOT_PROMETHEUS: Entry(
        "Something else answers at the URL: a login page, another server.",
        "Correct the URL.",
    ),
    Why.BAD_ANSWER: Entry(
        "The answer of a webhook or of Prometheus is not as agreed.",
        "Compare it with [reference/webhook.md](webhook.md).",
    ),
    Why.AUTOSCALER_NOT_FOUND: Entry(
        "The autoscaler of `target.guard` does not exist.",
        "Correct the name, or create it.",
    ),
    Why.GUARD_MISMATCH: Entry(
        "The autoscaler of `target.guard` does not scale the target.",
        "Correct the name.",
    ),
    Why.ERROR: Entry(
        "Another fault; the message has what the server said, or `the operator has a bug`.",
        "Report a bug with the line of the log.",
    ),
}
