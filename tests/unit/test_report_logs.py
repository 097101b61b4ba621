"""One renderer for our lines and those of libraries; no secret passes it."""

from __future__ import annotations

import io
import json
import logging
import types
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
import structlog

from starforge_backlog.report.logs import configure, redact
from starforge_backlog.settings import LogFormat

PLANTED = "hunter2-planted"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is process-wide: leave it as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure(LogFormat.JSON, stream=stream)
    return stream


def test_our_lines_and_those_of_libraries_have_one_form(stream: io.StringIO) -> None:
    structlog.stdlib.get_logger("starforge_backlog.reconcile").info(
        "holding: budget is used up", policy="starforge/etl", replicas=4
    )
    logging.getLogger("kopf.reactor").warning("Unprocessed streams for %s", "x")
    ours, theirs = lines(stream)
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "holding: budget is used up",
        "level": "info",
        "logger": "starforge_backlog.reconcile",
        "policy": "starforge/etl",
        "replicas": 4,
    }
    assert theirs["event"] == "Unprocessed streams for x"
    assert theirs["logger"] == "kopf.reactor"


def test_the_object_that_kopf_speaks_of_is_named(stream: io.StringIO) -> None:
    reference = {"namespace": "starforge", "name": "etl", "uid": "u"}
    extra = {"k8s_ref": reference, "settings": kopf.OperatorSettings(), "k8s_skip": True}
    logging.getLogger("kopf.objects").info("Deletion is processed", extra=extra)
    (line,) = lines(stream)
    assert line["policy"] == "starforge/etl"
    assert "settings" not in line


def test_the_noise_of_every_tick_is_left_out(stream: io.StringIO) -> None:
    theirs = logging.getLogger("kopf.objects")
    theirs.info("Timer 'tick' succeeded.")
    theirs.info("Handler 'deleted' succeeded.")
    theirs.info("Deletion is processed: 1 succeeded; 0 failed.")
    theirs.error("Timer 'tick' failed with an exception. Will retry.")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    assert [line["event"] for line in lines(stream)] == [
        "Deletion is processed: 1 succeeded; 0 failed.",
        "Timer 'tick' failed with an exception. Will retry.",
    ]


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_no_secret_passes(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure(log_format, stream=stream)
    url = f"postgres://etl:{PLANTED}@db:5432/x"
    log = structlog.stdlib.get_logger("a")
    log.info("connecting to %s", url)
    log.info("nested", found={"urls": [url, (url,)], "object": types.SimpleNamespace(url=url)})
    log.info(f"password={PLANTED} host=db")
    logging.getLogger("b").warning("cannot use %r", f"host=db password='{PLANTED}' user=etl")
    logging.getLogger("c").warning("headers {'Authorization': 'Bearer %s'}", PLANTED)
    try:
        int(url)
    except ValueError:
        logging.getLogger("d").exception("failed")
        log.exception("failed as well")
    text = stream.getvalue()
    assert PLANTED not in text
    assert text.count("ValueError") >= 2
    assert "postgres://etl:***@db:5432/x" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql+asyncpg://u:p%40ss@h/d and more", "postgresql+asyncpg://u:***@h/d and more"),
        ("postgres://u:p@ss/w@h/d", "postgres://u:***@h/d"),
        ("http://host:8080/path", "http://host:8080/path"),
        ("https://h/?a=b@c:d", "https://h/?a=b@c:d"),
        ("PGPASSWORD=x y", "PGPASSWORD=*** y"),
        ('{"password": "x y", "user": "u"}', '{"password": ***, "user": "u"}'),
        ("the password is wrong: WrongPassword", "the password is wrong: WrongPassword"),
        ("a basic authentication header", "a basic authentication header"),
        ("token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrOHMifQ.c2lnbmF0dXJl", "token ***"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_text_lines_read_well() -> None:
    stream = io.StringIO()
    configure(LogFormat.TEXT, stream=stream)
    structlog.stdlib.get_logger("starforge_backlog.reconcile").info(
        "waiting 5,200 ≥ 500", policy="starforge/etl"
    )
    line = stream.getvalue()
    assert "waiting 5,200 ≥ 500" in line
    assert "policy=starforge/etl" in line
    assert "\x1b" not in line


def test_configuring_twice_does_not_double_lines(stream: io.StringIO) -> None:
    configure(LogFormat.JSON, stream=stream)
    logging.getLogger("x").warning("once")
    assert len(lines(stream)) == 1
