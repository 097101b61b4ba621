"""The guarded system's database: its statements, its tables, its roles."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

ROLES = {
    "api": "starforge_api",
    "web": "starforge_web",
    "etl": "starforge_etl",
    "stranger": "stranger",
    "backlog": "starforge_backlog",
}
"""Who a password is for → the role."""


@cache
def statement(name: str) -> LiteralString:
    """The text of `sql/<name>.sql`: files of this package, so as literal as text in the source."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def passwords() -> dict[str, str]:
    """A fresh password for each role."""
    return {who: secrets.token_urlsafe(18) for who in ROLES}


def prepare(admin_url: str, chosen: Mapping[str, str], *more: str) -> None:
    """Tables, the flag's row and the roles, in one transaction on an empty database.

    `more` are names of further files, run last.
    """
    with psycopg.connect(admin_url, connect_timeout=10) as connection:
        connection.execute(statement("schema"))
        literals = {who: sql.Literal(password) for who, password in chosen.items()}
        connection.execute(sql.SQL(statement("roles")).format(**literals))
        for name in more:
            connection.execute(statement(name))


def url_for(admin_url: str, who: str, password: str, *, host: str | None = None) -> str:
    """The admin's URL with another role in it, and another host as pods see it."""
    parts = urlsplit(admin_url)
    place = host or f"{parts.hostname}:{parts.port or 5432}"
    login = f"{quote(ROLES[who], safe='')}:{quote(password, safe='')}"
    return urlunsplit((parts.scheme, f"{login}@{place}", parts.path, "", ""))
