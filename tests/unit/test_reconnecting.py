"""One session with a server: whose turn it is, when a lost one is opened again, and what callers
get meanwhile. With real servers: tests/databases/test_outages.py, tests/redis/test_outages.py."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from starforge_backlog.connections import reconnecting
from starforge_backlog.connections.backoff import MOST_DOUBLINGS, Backoff, patiently, retry_delay
from starforge_backlog.connections.reconnecting import Reconnecting
from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why

REFUSED = Fault(Why.WRONG_PASSWORD, "refused")
FULL = Fault(Why.DATABASE_FULL, "full")
LOST = Fault(Why.UNREACHABLE, "lost")
NO_TURN = Fault(Why.TIMEOUT, "no turn")


@dataclass(frozen=True, kw_only=True)
class Pacing(reconnecting.Pacing):
    connect_within: timedelta = timedelta(seconds=5)
    turn_within: timedelta = timedelta(seconds=5)
    retry_first: timedelta = timedelta(seconds=1)
    retry_most: timedelta = timedelta(seconds=3)
    retry_jitter: float = 0.0


AT_ONCE = Pacing(retry_first=timedelta(0), retry_most=timedelta(0))
# No machine is so slow that the next attempt is due within a test.
LATER = Pacing(retry_first=timedelta(hours=1), retry_most=timedelta(hours=1))


@dataclass(eq=False)
class Session:
    """A session that a test ends."""

    opened_with: str
    closed: bool = False
    gone: bool = False

    async def ended(self) -> bool:
        return self.gone

    async def close(self) -> None:
        self.closed = True


@dataclass
class Server:
    """Opens sessions, or does not."""

    fault: Fault | None = None
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    opened: list[Session] = field(default_factory=list)
    attempts: int = 0

    def __post_init__(self) -> None:
        self.answers.set()

    async def connect(self, wanted: str) -> Session:
        self.attempts += 1
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        self.opened.append(Session(wanted))
        return self.opened[-1]

    @property
    def open(self) -> list[str]:
        return [one.opened_with for one in self.opened if not one.closed]

    def used(
        self,
        pacing: Pacing = AT_ONCE,
        *,
        survived: frozenset[Why] = frozenset(),
    ) -> Reconnecting[str, Session]:
        return Reconnecting(
            "first",
            self.connect,
            pacing,
            no_turn=lambda: NO_TURN,
            lost=lambda: LOST,
            survived=survived,
        )


async def name(session: Session) -> str:
    return session.opened_with


async def fault_of(connection: Reconnecting[str, Session]) -> Fault:
    with pytest.raises(Fault) as caught:
        await connection.run(name)
    return caught.value


def waits(backoff: Backoff[Fault]) -> tuple[Fault | None, bool]:
    return backoff.fault, backoff.due


# --- when -----------------------------------------------------------------------------------------


def test_delays_double_up_to_a_bound_and_are_spread() -> None:
    pacing = Pacing()
    assert [retry_delay(n, pacing) for n in (0, 1, 2, 10_000)] == [1, 2, 3, 3]
    assert MOST_DOUBLINGS < 1024, "2.0 ** 1024 is more than a float can hold"
    spread = [retry_delay(0, Pacing(retry_jitter=0.5)) for _ in range(100)]
    assert 1 <= min(spread) < max(spread) <= 1.5


def test_a_server_that_answers_again_is_not_tried_sooner_but_from_the_start() -> None:
    delays: list[int] = []

    def delay(failures: int) -> float:
        delays.append(failures)
        return 60

    backoff: Backoff[Fault] = Backoff(delay)
    assert waits(backoff) == (None, True)
    for _ in range(2):
        backoff.begin()
        backoff.failed(LOST)
    assert delays == [0, 0, 1, 1]
    assert waits(backoff) == (LOST, False)
    backoff.succeeded()
    assert waits(backoff) == (None, False)
    backoff.begin()
    assert delays[-1] == 0
    backoff.failed(LOST)
    backoff.reset()
    assert waits(backoff) == (None, True)


async def test_an_attempt_that_is_broken_off_counts() -> None:
    server = Server()
    connection = server.used(LATER)
    server.answers.clear()
    caller = asyncio.create_task(connection.run(name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not connection.backoff.due
    caller.cancel()
    server.answers.set()


async def test_nobody_waits_long_while_it_is_known_what_is_wrong() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return "nothing"

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "answer"

    with pytest.raises(Fault, match="lost"):
        await patiently(never(), LOST, timedelta(milliseconds=1))
    assert await patiently(slow(), LOST, timedelta(seconds=60)) == "answer"
    assert await patiently(slow(), None, timedelta(milliseconds=1)) == "answer"


# --- the session ----------------------------------------------------------------------------------


async def test_one_session_serves_all_one_at_a_time() -> None:
    server, at_once, most = Server(), 0, 0
    connection = server.used()

    async def use(session: Session) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return session.opened_with

    assert await asyncio.gather(*(connection.run(use) for _ in range(20))) == ["first"] * 20
    assert (most, server.attempts) == (1, 1)
    assert connection.session is server.opened[0]


async def test_a_fault_is_reported_at_once_until_an_attempt_is_due() -> None:
    server = Server(fault=REFUSED)
    connection = server.used(LATER)
    assert [await fault_of(connection) for _ in range(5)] == [REFUSED] * 5
    assert server.attempts == 1
    connection.backoff.retry_at = time.monotonic()
    server.fault = None
    assert await connection.run(name) == "first"
    assert connection.backoff.fault is None


async def test_who_comes_while_another_one_tries_gets_the_known_fault() -> None:
    server = Server(fault=REFUSED)
    connection = server.used()
    await fault_of(connection)
    server.answers.clear()
    trying = asyncio.create_task(connection.run(name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await fault_of(connection) is REFUSED
    server.fault = None
    server.answers.set()
    assert await trying == "first"


async def test_the_patience_of_a_caller_leaves_the_attempt_alone() -> None:
    server = Server(fault=REFUSED)
    connection = server.used(replace(AT_ONCE, patience=timedelta(milliseconds=1)))
    await fault_of(connection)
    server.fault = None
    server.answers.clear()
    assert await fault_of(connection) is REFUSED
    server.answers.set()
    await connection.close()  # after the turn
    assert server.attempts == len(server.opened) + 1 == 2


async def test_a_turn_that_does_not_come() -> None:
    server, over = Server(), asyncio.Event()
    connection = server.used(Pacing(turn_within=timedelta(milliseconds=10)))

    async def long(_: Session) -> None:
        await over.wait()

    before = asyncio.create_task(connection.run(long))
    await asyncio.sleep(0)
    assert connection.busy
    assert await fault_of(connection) is NO_TURN
    over.set()
    await before
    assert await connection.run(name) == "first", "a turn that did not come broke nothing"


@pytest.mark.parametrize("how", ["closed", "gone"])
async def test_a_session_that_ended_is_opened_again(how: str) -> None:
    server = Server()
    connection = server.used()
    await connection.run(name)
    setattr(server.opened[0], how, True)
    assert await connection.run(name) == "first"
    assert len(server.opened) == 2
    assert server.open == ["first"]


async def test_a_fault_that_leaves_the_session_open_is_nobody_elses() -> None:
    server = Server()
    connection = server.used()

    async def refused(_: Session) -> None:
        raise REFUSED

    async def lost(_: Session) -> None:
        await connection.drop()
        raise LOST

    with pytest.raises(Fault, match="refused"):
        await connection.run(refused)
    assert waits(connection.backoff)[0] is None
    with pytest.raises(Fault, match="lost"):
        await connection.run(lost)
    assert waits(connection.backoff)[0] is LOST
    assert connection.session is None


async def test_a_session_that_was_lost_soon_after_its_attempt_waits_for_the_next() -> None:
    server = Server()
    connection = server.used(LATER)
    await connection.run(name)
    server.opened[0].gone = True
    assert await fault_of(connection) is LOST
    assert server.attempts == 1


# --- other credentials ----------------------------------------------------------------------------


async def test_other_credentials_are_tried_at_once_and_the_same_change_nothing() -> None:
    server = Server(fault=REFUSED)
    connection = server.used(LATER)
    await fault_of(connection)
    server.fault = None
    connection.want("first")
    assert await fault_of(connection) is REFUSED
    connection.want("second")
    assert await connection.run(name) == "second"


@pytest.mark.parametrize("survived", [frozenset[Why](), frozenset({Why.DATABASE_FULL})])
async def test_the_session_of_other_credentials_takes_the_place_of_the_old_one(
    survived: frozenset[Why],
) -> None:
    server = Server()
    connection = server.used(survived=survived)
    await connection.run(name)
    connection.want("second")
    assert [connection.session, connection.current] == [server.opened[0], None]
    assert await connection.run(name) == "second"
    assert server.open == ["second"]
    assert [connection.session, connection.current] == [server.opened[1]] * 2


async def test_never_two_sessions_where_the_old_one_could_not_be_used_anyway() -> None:
    server = Server()
    connection = server.used()
    await connection.run(name)
    server.answers.clear()
    connection.want("second")
    changing = asyncio.create_task(connection.run(name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.attempts == 2
    assert server.open == []
    server.answers.set()
    assert await changing == "second"


@pytest.mark.parametrize(("fault", "survives"), [(FULL, True), (REFUSED, False)])
async def test_a_full_server_that_refuses_new_credentials_is_asked_with_the_old(
    fault: Fault, survives: bool
) -> None:
    server = Server()
    connection = server.used(
        LATER,
        survived=frozenset({Why.DATABASE_FULL}),
    )
    await connection.run(name)
    server.fault = fault
    connection.want("second")
    if survives:
        assert [await connection.run(name) for _ in range(3)] == ["first"] * 3
    else:
        assert [await fault_of(connection) for _ in range(3)] == [fault] * 3
    assert server.attempts == 2
    assert server.open == (["first"] if survives else [])


async def test_closed_it_connects_again_and_retired_it_does_not() -> None:
    server = Server()
    connection = server.used()
    await connection.run(name)
    await connection.close()
    assert server.open == []
    assert await connection.run(name) == "first"
    await connection.retire()
    assert server.open == []
    assert await fault_of(connection) is LOST
    assert server.attempts == 2
