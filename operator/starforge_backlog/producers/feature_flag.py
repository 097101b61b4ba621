"""Pausing by a row of the application's flag table: compare-and-set with ownership (P4).

The protocol's guards are in the `.sql` files beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import sql

from starforge_backlog.api.bounds import MOST_PREVIOUS_BYTES
from starforge_backlog.api.policy import FeatureFlag
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers import rows
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

# Beside the flag: `ingest_paused_by` says who set `ingest_paused`.
_MARK_SUFFIX = "_by"


class FeatureFlagProducer:
    """A `Pausable`: one value at one path of the JSON column of one row.

    Where the policy forbids the mark (`writeOwner: false`), the row version in the policy's status
    is the only proof of a pause. Killed between the write and that status, the operator finds the
    flag true and cannot know its own pause again: it reports AlreadyPaused and leaves it to people.
    """

    def __init__(self, database: Database, flag: FeatureFlag, clock: Clock) -> None:
        self._database = database
        self._flag = flag
        self._clock = clock
        self._place = f"row {flag.name!r} of {flag.table}"

    async def read(self) -> Reading[ProducerReading]:
        """What the flag says now. ROW_MISSING and BAD_SHAPE come with the statement to run."""
        at = self._clock()
        try:
            found = await self._database.fetch(self._sql("read"), self._params())
            where = await self._database.where()
        except DatabaseFault as fault:
            return self._unknown(fault, at)
        if not found:
            return Unknown(Why.ROW_MISSING, self._row_missing(), at)
        row = found[0]
        if row["rows_found"] > 1 or not row["has_place"]:
            return Unknown(Why.BAD_SHAPE, self._bad_shape(row), at)
        value = FlagValue.PAUSED if row["paused"] else FlagValue.RUNNING
        reading = ProducerReading(
            value, row["token"], row["version"], where=where, previous=row["previous"]
        )
        return Known(reading, at)

    async def where(self) -> ServerPlace | Unknown:
        """See `Pausable.where`."""
        try:
            return await self._database.where()
        except DatabaseFault as fault:
            return self._unknown(fault, self._clock())

    async def pause(
        self,
        *,
        owner: str,
        token: str,
        at: datetime,
        why: str = "",
        plan: str | None = None,
    ) -> Paused | Unknown:
        """Set the flag unless it is set already. `at` is written into the mark for people to read.

        The version of ALREADY_OURS is that of our own write, also when the row changed since: then
        the resume says CHANGED_SINCE. After an Unknown the write may have happened; run it again
        with the same token.
        """
        params = self._params() | {
            "owner": owner,
            "token": token,
            "at": at.isoformat(timespec="seconds"),
            "write_owner": self._flag.write_owner,
        }
        try:
            found = await self._database.execute_write(self._sql("pause"), params)
        except DatabaseFault as fault:
            return self._unknown(fault, self._clock())
        if not found:
            return Paused(PauseOutcome.ROW_MISSING, message=self._row_missing())
        row = found[0]
        match outcome := PauseOutcome(row["outcome"]):
            case PauseOutcome.BAD_SHAPE:
                return Paused(outcome, message=self._bad_shape(row))
            case PauseOutcome.ALREADY_PAUSED:
                message = (
                    f"The {self._place} was paused by another client; the operator does not resume"
                    " it."
                )
                return Paused(outcome, message=message)
            case PauseOutcome.PAUSED if row["version"] is None:
                return self._swallowed()
            case _:
                return Paused(outcome, row["version"] or "", row["previous"])

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Restore the value before our pause if the row is still as our pause left it.

        `version` may be empty when a crash kept it from being stored: the mark in the row then
        proves the pause, or nothing does and the outcome is NOT_OURS.
        """
        params = self._params() | {
            "token": token,
            "version": version,
            "previous": previous,
            "write_owner": self._flag.write_owner,
        }
        try:
            found = await self._database.execute_write(self._sql("resume"), params)
        except DatabaseFault as fault:
            return self._unknown(fault, self._clock())
        if not found:
            return Resumed(ResumeOutcome.ROW_MISSING, self._row_missing())
        row = found[0]
        match outcome := ResumeOutcome(row["outcome"]):
            case ResumeOutcome.BAD_SHAPE:
                return Resumed(outcome, self._bad_shape(row))
            case ResumeOutcome.RESUMED if row["version"] is None:
                return self._swallowed()
            case _:
                return Resumed(outcome, self._resume_message(outcome))

    def _resume_message(self, outcome: ResumeOutcome) -> str:
        path = ".".join(self._flag.path)
        match outcome:
            case ResumeOutcome.NOT_PAUSED:
                return f"The {self._place} is no longer paused; another client resumed it."
            case ResumeOutcome.NOT_OURS:
                return (
                    f"The {self._place} is paused by another client; the operator does not resume"
                    " it."
                )
            case ResumeOutcome.CHANGED_SINCE:
                return (
                    f"Another client wrote the {self._place} after the operator's pause, so the"
                    f" pause may belong to that client; when it is time to resume, set {path} back"
                    " by hand."
                )
            case _:
                return ""

    def _sql(self, what: str) -> sql.Composed:
        return load_sql(__package__, f"feature_flag_{what}.sql").format(
            table=self._table(),
            name=sql.Identifier(self._flag.name_column),
            data=sql.Identifier(self._flag.data_column),
        )

    def _table(self) -> sql.Identifier:
        return sql.Identifier(*self._flag.table.split("."))

    def _params(self) -> dict[str, Any]:
        parent, last = self._flag.path[:-1], self._flag.path[-1]
        return {
            "flag": self._flag.name,
            "path": list(self._flag.path),
            "parent": list(parent),
            "owner_path": [*parent, last + _MARK_SUFFIX],
            "most_bytes": MOST_PREVIOUS_BYTES,
        }

    def _unknown(self, fault: DatabaseFault, at: datetime) -> Unknown:
        return rows.unknown(fault, f"The {self._place}", self._fixes(), at)

    def _fixes(self) -> dict[str, str]:
        column, table = self._flag.data_column, self._flag.table
        no_json = (
            f"Column {column} of the {self._place} holds text that jsonb cannot hold (no JSON, or"
            r" \u0000 or half of a surrogate pair in it); correct the row."
        )
        no_place = (
            f"Column {column} of {table} is of a type that is no JSON, so no flag is in it; correct"
            " featureFlag.dataColumn, or make it a jsonb."
        )
        return {
            **dict.fromkeys(rows.NO_JSON, no_json),
            **dict.fromkeys(rows.OTHER_TYPE, no_place),
        }

    def _swallowed(self) -> Unknown:
        message = (
            f"The UPDATE of the {self._place} changed nothing; a trigger or a row-level security"
            " policy suppresses it. Let the operator's role write this row."
        )
        return Unknown(Why.NO_PERMISSION, message, self._clock())

    def _row_missing(self) -> str:
        value: object = False
        for key in reversed(self._flag.path):
            value = {key: value}
        insert = sql.SQL("INSERT INTO {} ({}, {}) VALUES ({}, {});").format(
            self._table(),
            sql.Identifier(self._flag.name_column),
            sql.Identifier(self._flag.data_column),
            sql.Literal(self._flag.name),
            sql.Literal(json.dumps(value)),
        )
        return (
            f"There is no {self._place}, so nothing is paused and nothing can be; correct the name"
            f" in the policy, or run: {insert.as_string(None)}"
        )

    def _bad_shape(self, row: Mapping[str, Any]) -> str:
        """Says the kind of JSON that stands there, never the JSON itself."""
        column, kind = self._flag.data_column, row["data_kind"]
        if row["rows_found"] > 1:
            return (
                f"The {self._place} is not one row but {row['rows_found']}, so nothing was"
                f" paused; give {self._flag.name_column} a unique constraint."
            )
        if kind == "object":
            path = ".".join(self._flag.path)
            return (
                f"{column} of the {self._place} has no place for true or false at {path}, so"
                " nothing was paused; correct the path in the policy, or fix the value there."
            )
        if kind == "NULL":
            fix = sql.SQL("run: UPDATE {} SET {} = '{{}}' WHERE {} = {} AND {} IS NULL;").format(
                self._table(),
                sql.Identifier(column),
                sql.Identifier(self._flag.name_column),
                sql.Literal(self._flag.name),
                sql.Identifier(column),
            )
            return (
                f"{column} of the {self._place} is NULL, so nothing was paused;"
                f" {fix.as_string(None)}"
            )
        return (
            f"{column} of the {self._place} is a JSON {kind}, not an object, so nothing was paused;"
            " correct the column in the policy, or make it an object."
        )
