"""A pause is released where it was made: after a place was corrected, and after the Secret led to
another server meanwhile (P4). Real Redis and PostgreSQL, the real rules, `act` and `merge`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from tests.producers.places import PLACES, STANDS, Make, Operator, braked, two_queues
from tests.producers.table import Hands

from starforge_backlog.api.status import (
    PauseState,
)
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.results import (
    NotDone,
    PauseOutcome,
    ResumeOutcome,
)
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

FLAGS = (
    "CREATE TABLE feature_flags (name text UNIQUE NOT NULL, data jsonb DEFAULT '{}')",
    "INSERT INTO feature_flags (name) VALUES ('ingest_control')",
    "CREATE TABLE backfill_jobs (job_id bigint PRIMARY KEY, status text, processed_count int)",
    "INSERT INTO backfill_jobs VALUES (1, 'running', 0), (2, 'running', 0)",
    "INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 5)",
)
HELD_JOBS = "SELECT count(*) FROM queue_jobs WHERE run_after > now() + interval '90 years'"
# Whether something stands still there.
STANDS: dict[str, str] = {
    "featureFlag": "SELECT data @> '{\"ingest_paused\": true}' FROM feature_flags",
    "backfillJobs": "SELECT bool_and(status = 'paused') FROM backfill_jobs",
    "jobTypes": HELD_JOBS.replace("count(*)", "count(*) = 5"),
}
PLACES: dict[str, dict[str, Any]] = {
    "featureFlag": {},
    "backfillJobs": {},
    "jobTypes": {"types": ["backfill_range"]},
}


@dataclass
class Operator:
    """One policy, the value of its Secret, and its status; the services are the operator's own."""

    url: str
    way: str
    place: dict[str, Any]
    abandon: bool = False
    secrets: dict[str, str] = field(default_factory=dict)  # besides the one of `url`
    secret: str = "s"
    producer: str = "bg"
    status: QueueBacklogPolicyStatus = field(default_factory=QueueBacklogPolicyStatus)
    redis: RedisHub = field(default_factory=RedisHub)
    databases: DatabaseHub = field(default_factory=lambda: DatabaseHub(pacing=NO_WAIT))
    last: tuple[Result, ...] = ()

    def __post_init__(self) -> None:
        outside = cast(OutsideAdapters, None)  # no object of a cluster is paused here
        producers = ProducerAdapters(self.databases, self.redis, outside, utc_now)
        self.services = cast(
            Services,
            SimpleNamespace(
                clock=utc_now,
                isolation=FaultIsolation(utc_now, lambda *_: None),
                statuses=SimpleNamespace(current=lambda _: self.status),
                producers=producers,
                secrets=self,
                databases=self.databases,
            ),
        )

    async def read(self, _namespace: str, ref: Any) -> Reading[str]:
        """The Secret."""
        value = self.url if ref.name == "s" else self.secrets.get(ref.name)
        if value is None:
            return Unknown(Why.SECRET_NOT_FOUND, f"there is no Secret {ref.name}", utc_now())
        return Known(value, utc_now())

    def forget(self, _namespace: str, _name: str) -> None:
        """It is read again in any case."""

    @property
    def entry(self) -> PauseStatus | None:
        return self.status.paused[0] if self.status.paused else None

    @property
    def held(self) -> PauseStatus:
        """The entry, which must be there."""
        assert self.entry is not None
        return self.entry

    @property
    def state(self) -> PauseState | None:
        return None if self.entry is None else self.entry.state

    @property
    def spec(self) -> QueueBacklogPolicySpec:
        secret = {"secretKeyRef": {"name": self.secret, "key": "url"}}
        place = {"url": secret, **self.place} if self.way == "queue" else self.place
        return QueueBacklogPolicySpec.model_validate(
            {
                "target": {"name": "w"},
                "database": {"url": secret},
                "queues": [{"name": "jobs", "postgres": {}}],
                "producers": [{"name": self.producer, self.way: place}],
                "breakers": [{"name": "b", "trip": [{"waiting": 5}], "pause": [self.producer]}],
            }
        )

    @property
    def policy(self) -> Policy:
        one = SimpleNamespace(
            spec=self.spec,
            body={},
            key="ns/etl",
            namespace="ns",
            name="etl",
            uid="uid-1",
            abandon=self.abandon,
        )
        return cast(Policy, one)

    async def look(self) -> Reading[ProducerReading]:
        late = Unknown(Why.TIMEOUT, "late", utc_now())
        access = access_of(self.services, self.policy, self.spec.interval, late)
        (producer,) = self.spec.producers
        holder = Holder("uid-1", self.producer, entry_of(self.spec, producer, self.status.paused))
        found = await self.services.producers.find(producer, access, holder)
        return found if isinstance(found, Unknown) else await found.read()

    async def run(self, *, wanted: bool) -> None:
        """One pass."""
        state = BreakerState.OPEN if wanted else BreakerState.CLOSED
        seen = {self.producer: await self.look()}
        entries, readings = follow_places(self.spec, self.status.paused, seen, utc_now())
        decided = decide_producers(
            self.spec,
            (BreakerStatus(name="b", state=state, message="x"),),
            entries,
            readings,
            Pausing("uid-1", None, self.status.released_at, utc_now()),
        )
        self.status = self.status.model_copy(update={"paused": decided.entries})
        await self._act(decided.actions)

    async def until(self, stands: Callable[[], bool]) -> None:
        """Passes until it stands still and is held: a look at rows is shared for a second."""
        for _ in range(200):
            await self.run(wanted=True)
            if stands() and PauseState.HELD in {entry.state for entry in self.status.paused}:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not paused: {self.status.paused}")

    async def delete(self) -> None:
        await self._act(release_all(self.status.paused, "deleted").actions)

    async def _act(self, actions: tuple[Action, ...]) -> None:
        self.status = locate(self.status, self.spec, actions)
        self.last = await act(self.services, self.policy, actions, self.status.paused)
        self.status = merge(self.status, self.last, utc_now())

    def outcome(self) -> str:
        """What became of the one action of the last pass."""
        (result,) = self.last
        match result.got:
            case Failed(reason):
                return reason
            case Paused(outcome) | Resumed(outcome):
                return outcome
            case other:
                raise AssertionError(other)


Make = Callable[..., Operator]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Operator] = []

    def operator(url: str, way: str, **place: Any) -> Operator:
        made.append(Operator(url, way, place))
        return made[-1]

    yield operator
    for one in made:
        await one.redis.close()
        await one.databases.close()


@pytest.fixture
def hands(redis_url: str) -> Iterator[Any]:
    with two_queues(redis_url) as client:
        yield client


# --- the place is corrected ----------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_place_that_was_corrected_is_where_the_pause_is_released(
    make: Make, hands: Any, redis_url: str, deleted: bool
) -> None:
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    assert (operator.state, operator.outcome()) == (PauseState.REFUSED, "RowMissing")
    operator.place = {"name": "etl-backfill"}
    await operator.run(wanted=True)
    assert (operator.state, braked(hands)) == (PauseState.HELD, True)
    if deleted:
        await operator.delete()
    else:
        await operator.run(wanted=False)
    assert (operator.entry, braked(hands)) == (None, False)


async def test_a_corrected_place_is_in_status_before_the_write(
    make: Make, hands: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between that pause and its status, and deleted by the next start."""
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    operator.place = {"name": "etl-backfill"}
    with monkeypatch.context() as killed:
        killed.setattr("tests.producers.places.merge", lambda status, *_: status)
        await operator.run(wanted=True)
    assert (operator.state, braked(hands)) == (PauseState.INTENDED, True)
    await operator.delete()
    assert (operator.entry, braked(hands)) == (None, False)


@pytest.mark.parametrize(("way", "column"), [("featureFlag", "name"), ("jobTypes", "table")])
async def test_every_way_names_the_place_of_its_last_pause(
    make: Make,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    column: str,
) -> None:
    operator = make(pair[0], way, **{**PLACES[way], column: "a_typo"})
    await operator.run(wanted=True)
    assert operator.state is not PauseState.HELD
    operator.place = PLACES[way]
    for _ in range(2):  # what was intended at the other table may have to be released first
        await operator.run(wanted=True)
    assert (operator.state, databases[0].one(STANDS[way])) == (PauseState.HELD, True)
    await operator.delete()
    assert (operator.entry, databases[0].one(STANDS[way]) or False) == (None, False)


async def test_a_refused_pause_that_stays_refused_writes_nothing_new(
    make: Make, redis_url: str
) -> None:
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    before = operator.status
    await operator.run(wanted=True)
    assert operator.status == before


# --- the Secret leads elsewhere ------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("same_queue_there", [True, False])
async def test_another_redis_is_no_proof_of_a_release(
    make: Make, hands: Any, redis_url: str, deleted: bool, same_queue_there: bool
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")
    await operator.run(wanted=True)
    assert operator.held.server.startswith("Redis db ")
    number = operator.held.server.split()[2]
    server, _, database = redis_url.rpartition("/")
    operator.url = f"{server}/{(int(database) + 1) % 16}"
    with redis.Redis.from_url(operator.url) as there:
        if same_queue_there:
            there.hset("bull:etl-backfill:meta", "version", "bullmq:6.7.0")
            there.rpush("bull:etl-backfill:wait", "1")
        try:
            await operator.run(wanted=True)
            assert (operator.state, there.hlen("bull:etl-backfill:meta") <= 1) == (
                PauseState.HELD,
                True,
            ), "neither resumed by another client, nor paused there"
            for _ in range(2):
                await (operator.delete() if deleted else operator.run(wanted=False))
                assert operator.outcome() == NotDone.ELSEWHERE
                assert (operator.state, braked(hands)) == (PauseState.HELD, True)
            assert f"db {number} at" in operator.held.server
            assert "point the Secret back" in operator.held.message
        finally:
            there.delete("bull:etl-backfill:meta", "bull:etl-backfill:wait")
    operator.url = redis_url
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.entry, operator.outcome(), braked(hands)) == (None, "Resumed", False)


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", PLACES)
async def test_another_database_is_no_proof_of_a_release(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str, deleted: bool
) -> None:
    """Its rows look the same, and stay as they are."""
    here, there = databases
    operator = make(pair[0], way, **PLACES[way])
    await operator.run(wanted=True)
    assert (operator.state, here.one(STANDS[way])) == (PauseState.HELD, True)
    operator.url = pair[1]
    for _ in range(2):
        await operator.run(wanted=True)
        assert (operator.last, operator.state) == ((), PauseState.HELD)
        assert not there.one(STANDS[way])
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.outcome(), operator.state) == (NotDone.ELSEWHERE, PauseState.HELD)
    assert here.one(STANDS[way])
    operator.url = pair[0]
    await operator.run(wanted=True)
    assert (operator.held.message, operator.held.failed) == ("", False), "healthy again"
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.entry, here.one(STANDS[way]) or False) == (None, False)


async def test_a_person_lets_go_of_a_pause_that_cannot_be_reached(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.url, operator.abandon = pair[1], True
    await operator.run(wanted=False)
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.NOT_PAUSED)
    assert databases[0].one(STANDS["featureFlag"])


async def test_the_same_database_under_another_name_is_the_same(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.url = pair[0].replace("127.0.0.1", "localhost")
    assert operator.url != pair[0]
    databases[0].run("UPDATE feature_flags SET data = '{}'")  # a person resumes
    await operator.delete()
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.NOT_PAUSED)


async def test_a_pause_of_before_servers_were_kept_is_released_as_then(
    make: Make, hands: Any, redis_url: str
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")
    await operator.run(wanted=True)
    old = operator.held.model_copy(update={"server": ""})
    operator.status = operator.status.model_copy(update={"paused": (old,)})
    await operator.delete()
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.RESUMED)
    assert not braked(hands)


async def test_a_pause_that_was_not_read_before_knows_its_server_afterwards(
    make: Make, hands: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")

    async def late(_: Operator) -> Reading[ProducerReading]:
        return Unknown(Why.TIMEOUT, "late", utc_now())

    with monkeypatch.context() as slow:
        slow.setattr(Operator, "look", late)
        await operator.run(wanted=True)
    assert operator.outcome() == PauseOutcome.PAUSED
    assert operator.held.server.startswith("Redis db ")


# --- the spec names another place (GitOps, in the middle of an incident) -------------------------

QUEUE = "queue"
ELSEWHERE_OF: dict[str, dict[str, Any]] = {
    "featureFlag": {"name": "other_control"},
    "backfillJobs": {"table": "other_backfills", "auditTable": "audit_of_pauses"},
    "jobTypes": {"types": ["other_type"]},
    QUEUE: {"name": "other"},
}
OTHER_ROWS = (
    "CREATE TABLE audit_of_pauses (action text, metadata jsonb)",
    "INSERT INTO feature_flags (name) VALUES ('other_control')",
    "CREATE TABLE other_backfills (LIKE backfill_jobs INCLUDING ALL)",
    "INSERT INTO other_backfills VALUES (1, 'running', 0)",
    "INSERT INTO queue_jobs (type) SELECT 'other_type' FROM generate_series(1, 5)",
)
OTHERS: dict[str, str] = {
    "featureFlag": STANDS["featureFlag"] + " WHERE name = 'other_control'",
    "backfillJobs": "SELECT bool_and(status = 'paused') FROM other_backfills",
    "jobTypes": STANDS["jobTypes"] + " AND type = 'other_type'",
}
FIRSTS: dict[str, str] = {
    "featureFlag": STANDS["featureFlag"] + " WHERE name = 'ingest_control'",
    "backfillJobs": STANDS["backfillJobs"],
    "jobTypes": STANDS["jobTypes"] + " AND type = 'backfill_range'",
}


@dataclass
class Both:
    """Two places of one kind, and who looks whether they stand still."""

    operator: Operator
    way: str
    hands: Any
    person: Hands

    def stands(self) -> tuple[bool, bool]:
        """The first place, and the other."""
        if self.way == QUEUE:
            return braked(self.hands), braked(self.hands, "other")
        return bool(self.person.one(FIRSTS[self.way])), bool(self.person.one(OTHERS[self.way]))

    def move(self) -> None:
        """As a pipeline does, without asking."""
        self.operator.place = ELSEWHERE_OF[self.way]


@pytest.fixture(params=ELSEWHERE_OF)
def both(
    request: pytest.FixtureRequest,
    make: Make,
    hands: Any,
    redis_url: str,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
) -> Both:
    way: str = request.param
    databases[0].run(*OTHER_ROWS)
    if way == QUEUE:
        return Both(make(redis_url, way, name="etl-backfill"), way, hands, databases[0])
    # Without it nothing proves a pause whose status was never written.
    audit = {"auditTable": "audit_of_pauses"} if way == "backfillJobs" else {}
    return Both(make(pair[0], way, **PLACES[way], **audit), way, hands, databases[0])


async def test_a_changed_place_is_released_first_and_then_the_new_one_counts(both: Both) -> None:
    await both.operator.run(wanted=True)
    assert both.stands() == (True, False)
    both.move()
    await both.operator.run(wanted=True)
    assert (both.stands(), both.operator.outcome()) == ((False, False), ResumeOutcome.RESUMED)
    await both.operator.until(lambda: both.stands() == (False, True))
    assert both.operator.state is PauseState.HELD
    await both.operator.run(wanted=False)
    assert (both.stands(), both.operator.entry) == ((False, False), None)


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("killed_in", ["pause", "release", "new pause"])
async def test_killed_on_the_way_to_another_place_and_deleted(
    both: Both, monkeypatch: pytest.MonkeyPatch, killed_in: str, passes: int
) -> None:
    """After the effect and before its status, each time; the next process goes on, or releases."""

    async def killed() -> None:
        with monkeypatch.context() as dies:
            dies.setattr("tests.producers.test_places.merge", lambda status, *_: status)
            await both.operator.run(wanted=True)

    await (killed() if killed_in == "pause" else both.operator.run(wanted=True))
    assert both.stands() == (True, False)
    both.move()
    await (killed() if killed_in == "release" else both.operator.run(wanted=True))
    if killed_in == "new pause":
        for _ in range(200):
            await killed()
            if both.stands() == (False, True):
                break
            await asyncio.sleep(0.1)
        assert both.stands() == (False, True)
    for _ in range(passes):
        await both.operator.run(wanted=True)
    await both.operator.delete()
    assert (both.stands(), both.operator.entry) == ((False, False), None)


async def test_a_place_is_deleted_right_after_it_was_changed(both: Both) -> None:
    await both.operator.run(wanted=True)
    both.move()
    await both.operator.delete()
    assert (both.stands(), both.operator.entry) == ((False, False), None)


async def test_another_kind_of_pause_under_the_same_name(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.way, operator.place = "jobTypes", PLACES["jobTypes"]
    await operator.until(lambda: bool(databases[0].one(STANDS["jobTypes"])))
    assert not databases[0].one(STANDS["featureFlag"])


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", PLACES)
async def test_another_database_url_releases_in_the_old_database_first(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str, deleted: bool
) -> None:
    here, there = databases
    operator = make(pair[0], way, **PLACES[way])
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    if deleted:
        await operator.delete()
    else:
        await operator.run(wanted=True)
        assert not here.one(STANDS[way])
        await operator.until(lambda: bool(there.one(STANDS[way])))
        await operator.run(wanted=False)
    assert operator.entry is None
    assert (here.one(STANDS[way]) or False, there.one(STANDS[way]) or False) == (False, False)


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", [*PLACES, QUEUE])
async def test_a_secret_that_is_named_anew_with_each_version_moves_nothing(
    make: Make,
    hands: Any,
    redis_url: str,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    deleted: bool,
) -> None:
    """A secretGenerator's: the one before is pruned."""
    url = redis_url if way == QUEUE else pair[0]
    place = {"name": "etl-backfill"} if way == QUEUE else PLACES[way]
    operator = make("", way, **place)
    operator.secret, operator.secrets = "starforge-db-5f2", {"starforge-db-5f2": url}
    await operator.run(wanted=True)
    assert operator.state is PauseState.HELD
    operator.secret, operator.secrets = "starforge-db-8c1", {"starforge-db-8c1": url}
    if deleted:
        await operator.delete()
    else:
        for _ in range(2):
            await operator.run(wanted=True)
            assert (operator.state, operator.last) == (PauseState.HELD, ())
        assert "starforge-db-8c1" in str(operator.held.locator)
        await operator.run(wanted=False)
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.RESUMED)
    assert not (braked(hands) if way == QUEUE else databases[0].one(STANDS[way]))


@pytest.mark.parametrize("way", PLACES)
async def test_an_old_place_out_of_reach_keeps_nobody_waiting_and_is_said(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str
) -> None:
    here, there = databases
    operator = make("", way, **PLACES[way])
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    await operator.until(lambda: bool(there.one(STANDS[way])))
    await operator.run(wanted=True)
    former, new = sorted(operator.status.paused, key=lambda entry: "@" not in entry.producer)
    assert (new.producer, new.state, there.one(STANDS[way])) == ("bg", PauseState.HELD, True)
    assert (former.failed, former.producer.startswith("bg@")) == (True, True)
    said = former.message
    assert "there is no Secret old" in said
    statement = said[said.index("UPDATE") : said.rindex("; then annotate")]
    operator.secrets["old"] = pair[0]
    if way == "jobTypes":
        operator.secrets.pop("old")
        here.run(statement)  # what the message says to run does it
        assert not here.one(STANDS[way])
        operator.secrets["old"] = pair[0]
    await operator.run(wanted=True)
    assert [entry.producer for entry in operator.status.paused] == ["bg"]
    assert (here.one(STANDS[way]) or False, there.one(STANDS[way])) == (False, True)


async def test_the_same_place_in_other_words_stays_paused(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.place = {"table": "public.feature_flags"}
    await operator.run(wanted=True)
    assert (operator.state, operator.last) == (PauseState.HELD, ())
    await operator.run(wanted=False)
    assert (operator.entry, databases[0].one(STANDS["featureFlag"])) == (None, False)


async def test_a_database_that_was_copied_with_our_pause_in_it_is_released_in_both(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    here, there = databases
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    there.run(
        f"UPDATE feature_flags SET data = '{here.one('SELECT data::text FROM feature_flags')}'"
    )
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    for _ in range(2):
        await operator.run(wanted=True)
    stands = STANDS["featureFlag"]
    assert (here.one(stands), there.one(stands)) == (False, True)


async def test_a_place_that_is_named_again_is_held_as_before(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make("", "featureFlag")
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    token = operator.held.token
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    assert (operator.held.producer, operator.held.token) == ("bg", token)
    assert databases[0].one(STANDS["featureFlag"])
