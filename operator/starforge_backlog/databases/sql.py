"""SQL from `.sql` files: each file holds one statement, with the promise it keeps on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from psycopg import sql

Query = str | sql.SQL | sql.Composed
Params = Sequence[Any] | Mapping[str, Any]


@cache
def load_sql(package: str, name: str) -> sql.SQL:
    """The statement in `name` beside the modules of `package` (pass `__package__`).

    Lines that are comments are dropped: their `%` and `{}` would be read as placeholders.
    Raises FileNotFoundError when the wheel was built without the file.
    """
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return sql.SQL("\n".join(lines).strip())
