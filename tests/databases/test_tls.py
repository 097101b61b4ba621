"""TLS with an authority of one's own, as RDS and Cloud SQL have it: four causes, four fixes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.certificates import Authority, KeyPair
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.session import MOST_FOR_ALL_HOSTS
from starforge_backlog.databases.url import parse_url
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.postgres


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def in_front(url: str, pair: KeyPair | None) -> AsyncIterator[int]:
    """A door to the server that speaks PostgreSQL's TLS with this certificate; None: no TLS."""
    server = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)

    handled: list[asyncio.Task[None]] = []

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(asyncio.create_task(open_door(reader, writer)))

    async def open_door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
            await reader.readexactly(8)
            writer.write(b"N" if pair is None else b"S")
            if pair is not None:
                await writer.start_tls(context)
                inner, outer = await asyncio.open_connection(server.hostname, server.port)
                await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        writer.transport.abort()

    door = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with door:
        yield door.sockets[0].getsockname()[1]
        await asyncio.wait(handled)


def through(url: str, port: int, options: str = "sslmode=verify-full") -> str:
    parts = urlsplit(url)
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
    return parts._replace(netloc=netloc, query=options).geturl()


async def refused(url: str, ca: str, quick: Pacing) -> DatabaseFault:
    database = Database(parse_url(url, ca=ca), pacing=quick)
    with pytest.raises(DatabaseFault) as caught:
        await database.fetch("SELECT 1 AS one")
    await database.close()
    assert caught.value.why is Why.TLS_FAILED
    return caught.value


async def test_an_authority_of_ones_own_is_trusted_by_reference(
    postgres_url: str, tmp_path: Path, quick: Pacing
) -> None:
    authority = Authority(tmp_path / "own")
    ca = authority.certificate_file.read_text()
    async with in_front(postgres_url, authority.issue("db", hosts=["127.0.0.1"])) as port:
        for options in ("sslmode=verify-full", ""):
            database = Database(parse_url(through(postgres_url, port, options), ca=ca))
            (row,) = await database.fetch("SELECT 1 AS one")
            assert row["one"] == 1
            await database.close()


async def test_four_causes_are_four_messages(
    postgres_url: str, tmp_path: Path, quick: Pacing
) -> None:
    authority, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    ca = authority.certificate_file.read_text()
    here = ["127.0.0.1"]
    doors: list[tuple[KeyPair | None, str]] = [
        (other.issue("unknown", hosts=here), "signed by an authority that is not trusted"),
        (authority.issue("elsewhere", hosts=["db.example"]), "for another name"),
        (
            authority.issue("old", hosts=here, lifetime=timedelta(minutes=-1)),
            "has expired",
        ),
        (None, "offers no TLS"),
    ]
    said = set()
    for pair, message in doors:
        async with in_front(postgres_url, pair) as port:
            fault = await refused(through(postgres_url, port), ca, quick)
        assert message in fault.message, fault.message
        said.add(fault.message)
    assert len(said) == len(doors)


async def test_a_certificate_file_that_is_not_in_the_pod_is_named(
    postgres_url: str, tmp_path: Path, quick: Pacing
) -> None:
    pair = Authority(tmp_path / "own").issue("db", hosts=["127.0.0.1"])
    async with in_front(postgres_url, pair) as port:
        url = through(postgres_url, port, "sslmode=verify-full&sslrootcert=/app/rds.pem")
        fault = await refused(url, "", quick)
    assert "spec.database.tls.ca" in fault.message


@pytest.mark.parametrize(
    ("options", "ca", "said"),
    [("sslmode=disable", "pem", "sslmode=disable"), ("", "no pem", "no certificates")],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, options: str, ca: str, said: str
) -> None:
    pem = Authority(tmp_path).certificate_file.read_text() if ca == "pem" else ca
    with pytest.raises(DatabaseFault) as caught:
        parse_url(f"postgresql://app:p@db/s?{options}", ca=pem)
    assert caught.value.why is Why.SECRET_MALFORMED
    assert said in caught.value.message


async def test_the_second_host_is_reached_when_the_first_is_silent(postgres_url: str) -> None:
    """A list of hosts is for a failover, and the dead one may stand first."""
    parts = urlsplit(postgres_url)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, says nothing
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{parts.port}"
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@{hosts}").geturl()
        # Half of the longest time to connect for each; without a limit, that of TCP: minutes.
        database = Database(parse_url(url), pacing=Pacing(connect_within=MOST_FOR_ALL_HOSTS / 2))
        (row,) = await database.fetch("SELECT 1 AS one")
        assert row["one"] == 1
        await database.close()


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("30", 30), ("0", None), ("x", None)])
def test_the_urls_own_time_to_connect(text: str, seconds: int | None) -> None:
    url = parse_url(f"postgresql://app:p@a,b/s?connect_timeout={text}")
    assert url.hosts == 2
    assert url.connect_timeout == (None if seconds is None else timedelta(seconds=seconds))
