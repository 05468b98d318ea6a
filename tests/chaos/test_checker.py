"""The checker finds each thing that can be wrong, and nothing where nothing is."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from uuid6 import uuid7

from adapters.embedded.servers import Addresses
from adapters.postgres.engine import create
from tests.chaos import a_good_run, audit_trail
from tests.chaos.checker import RULES, Verdict, check
from tests.chaos.evidence import STREAM, collect
from tests.chaos.history import Handover, History, read
from tests.chaos.rules.problems import Case
from tests.chaos.spoiled import SPOILED, UNLOCK, Spoiled
from tests.chaos.testimony import hear
from tests.databases import drop


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodRun:
    """A database and a history in which all is well, and the stream as it was then."""

    database: str
    history: Path
    stream: bytes


@pytest.fixture(scope="module")
def good(servers: Addresses, template: str, tmp_path_factory: pytest.TempPathFactory) -> GoodRun:
    """Make a run in which all went well."""
    name = f"good_{uuid7().hex}"
    with _administration(servers) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    url = _url(servers, name)
    audit_trail.lay(url)
    engine = create(url)
    history = tmp_path_factory.mktemp("chaos") / "history.jsonl"
    with redis.Redis.from_url(servers.broker_url) as client:
        client.delete(STREAM)
        a_good_run.make(engine, servers.broker_url, history)
        stream = client.dump(STREAM)
    engine.dispose()
    assert isinstance(stream, bytes)
    return GoodRun(database=name, history=history, stream=stream)


@pytest.fixture
def database_url(servers: Addresses, good: GoodRun) -> Iterator[str]:
    """Give a copy of the good run, which may be spoiled."""
    name = f"spoiled_{uuid7().hex}"
    with _administration(servers) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{good.database}"'.encode())
    with redis.Redis.from_url(servers.broker_url) as client:
        client.restore(STREAM, 0, good.stream, replace=True)
    yield _url(servers, name)
    with _administration(servers) as connection:
        drop(connection, name)


@pytest.fixture
def history(good: GoodRun, tmp_path: Path) -> Path:
    """Give a folder with a copy of the history, to which files may be added."""
    folder = tmp_path / "history"
    folder.mkdir()
    (folder / "good.jsonl").write_bytes(good.history.read_bytes())
    return folder


class TestAGoodRun:
    def test_has_no_problems(self, history: Path, database_url: str, servers: Addresses) -> None:
        verdict = check(history, database_url, stream_url=servers.broker_url)

        assert verdict.problems == []
        assert verdict.is_good

    def test_is_counted(self, history: Path, database_url: str, servers: Addresses) -> None:
        verdict = check(history, database_url, stream_url=servers.broker_url)

        assert verdict.accepted == 23
        assert verdict.finished == {"succeeded": 27, "rejected": 1}
        assert (verdict.ambiguous_landed, verdict.ambiguous_absent) == (0, 1)
        assert (verdict.lost, verdict.lost_by_transport, verdict.left_open) == (0, 1, 0)
        assert (verdict.duplicated, verdict.refused) == (0, 1)
        assert verdict.published_again == 0
        assert verdict.faults == {"child_killed": 1}

    def test_is_good_without_a_look_at_the_stream(self, history: Path, database_url: str) -> None:
        _spoil(database_url, "UPDATE outbox SET published_at = NULL")

        assert check(history, database_url).problems == []


class TestASpoiledRun:
    @pytest.mark.parametrize("spoiled", SPOILED, ids=lambda spoiled: spoiled.rule)
    def test_is_noticed(
        self, spoiled: Spoiled, history: Path, database_url: str, servers: Addresses
    ) -> None:
        _spoil(database_url, spoiled.sql)

        found = _found(spoiled.rule, history, database_url, servers)
        assert any(spoiled.says in problem for problem in found), found
        verdict = check(history, database_url, stream_url=servers.broker_url)
        assert set(found) <= set(verdict.problems)
        assert not verdict.is_good

    def test_every_rule_is_seen_to_fail(self) -> None:
        rules = {rule.__name__ for rule in RULES}

        # The one left is about the history alone, below.
        assert rules - {spoiled.rule for spoiled in SPOILED} == {"drained_in_time"}

    def test_dead_jobs_may_be_expected(
        self, history: Path, database_url: str, servers: Addresses
    ) -> None:
        with History(history / "more.jsonl") as told:
            told.accepted(Handover(job_id="poison", kind="test.probe", payload={}))
        _spoil(
            database_url,
            "INSERT INTO job (id, kind, queue, door, payload, payload_hash, max_attempts,"
            " next_dispatch) VALUES ('poison', 'test.probe', 'q', 'ledger', '{}', '', 5, now());"
            " UPDATE job SET state = 'dead', attempts = 5, error = '{}', next_dispatch = NULL,"
            " finished_at = now() WHERE id = 'poison'",
        )

        strict = check(history, database_url, stream_url=servers.broker_url)
        lenient = check(history, database_url, stream_url=servers.broker_url, may_be_dead=True)

        assert [problem[:20] for problem in strict.problems] == ["dead: job 'poison' ("]
        assert lenient.problems == []


class TestAHistory:
    def test_of_a_job_that_was_accepted_and_is_nowhere(
        self, history: Path, database_url: str
    ) -> None:
        with History(history / "more.jsonl") as told:
            told.accepted(Handover(job_id="gone", kind="users.erase", payload={"user_id": "x"}))

        verdict = check(history, database_url)

        assert verdict.lost == 1
        assert verdict.problems == [
            "lost: job 'gone' (users.erase) was accepted by submit and has no row"
        ]

    def test_of_a_refused_job_that_ran(self, history: Path, database_url: str) -> None:
        _drop_records(history, "order-7")
        with History(history / "more.jsonl") as told:
            told.refused(
                Handover(job_id="order-7", kind="allocation.allocate_order", payload=_ORDER_7),
                error=ValueError("no"),
            )

        [problem] = check(history, database_url).problems
        assert problem == (
            "unasked: job 'order-7' (allocation.allocate_order, succeeded) is in the ledger and"
            " was refused"
        )

    def test_of_a_refused_payload_that_took_the_place_of_the_accepted_one(
        self, history: Path, database_url: str
    ) -> None:
        _spoil(
            database_url,
            "UPDATE job SET payload = jsonb_set(payload, '{priority}', '3') WHERE id = 'order-1'",
        )

        [problem] = check(history, database_url).problems
        assert problem.startswith("changed: job 'order-1' holds {")

    def test_of_an_answer_that_was_another(self, history: Path, database_url: str) -> None:
        with History(history / "more.jsonl") as told:
            told.answered("order-7", state="rejected", error="OutOfStock")

        [problem] = check(history, database_url).problems
        assert problem.startswith("changed: job 'order-7' answered succeeded ")
        assert problem.endswith(" and later rejected OutOfStock")

    def test_of_a_drain_that_took_too_long(self, history: Path, database_url: str) -> None:
        with History(history / "more.jsonl") as told:
            told.drained(seconds=31.0, allowed=30.0)

        assert check(history, database_url).problems == [
            "left open: what was open took 31.0 s to finish, 30.0 s are allowed"
        ]

    def test_of_an_ambiguous_job_that_landed(self, history: Path, database_url: str) -> None:
        _drop_records(history, "order-7")
        with History(history / "more.jsonl") as told:
            told.ambiguous(
                Handover(job_id="order-7", kind="allocation.allocate_order", payload=_ORDER_7),
                error=ConnectionError("cut off"),
            )

        verdict = check(history, database_url)

        assert verdict.problems == []
        assert (verdict.ambiguous_landed, verdict.ambiguous_absent) == (1, 1)

    def test_of_a_client_that_died_in_the_middle_of_a_line(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        with History(file) as told:
            told.drained(seconds=1, allowed=2)
        whole = file.read_bytes()
        file.write_bytes(whole + whole[: len(whole) // 2])

        assert len(list(read(file))) == 1

    def test_that_is_no_history(self, tmp_path: Path) -> None:
        file = tmp_path / "history.jsonl"
        file.write_text("{}\nnonsense\n")

        with pytest.raises(ValueError, match=r"history\.jsonl, line 2 is no record: 'nonsense"):
            list(read(file))


class TestTheStream:
    def test_may_have_been_wiped_once_it_was_read(
        self, history: Path, database_url: str, servers: Addresses
    ) -> None:
        with redis.Redis.from_url(servers.broker_url, decode_responses=True) as client:
            entries = client.xrange(STREAM)
            client.delete(STREAM)
        unread = _check(history, database_url, servers)
        with History(history / "more.jsonl") as told:
            told.events([(entry, fields) for entry, fields in entries])

        verdict = _check(history, database_url, servers)

        # The good run's own consumer read five.
        assert len(unread.problems) == unread.events - 5
        assert all(problem.endswith("was never on the stream") for problem in unread.problems)
        assert verdict.problems == []

    def test_may_hold_events_of_two_lines_in_the_order_of_their_commits(
        self, history: Path, database_url: str, servers: Addresses
    ) -> None:
        # As where the job that wrote its event first was held up and committed last.
        _spoil(
            database_url,
            "UPDATE outbox SET id = id + 10000 WHERE job_id = 'deallocate-6'",
        )

        assert _found("order_is_kept", history, database_url, servers) == []

    def test_may_hold_an_event_twice(
        self, history: Path, database_url: str, servers: Addresses
    ) -> None:
        with redis.Redis.from_url(servers.broker_url) as client:
            [(_, fields)] = client.xrange(STREAM, count=1)
            client.xadd(STREAM, fields)

        verdict = _check(history, database_url, servers)

        assert verdict.problems == []
        assert verdict.published_again == 1


def test_the_checker_knows_nothing_of_the_product() -> None:
    ours = {"tests.chaos.checker"}
    seen: set[str] = set()
    foreign: set[str] = set()
    while ours - seen:
        module = (ours - seen).pop()
        seen.add(module)
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for name in _imports(Path(spec.origin)):
            if name.startswith("tests.chaos"):
                ours.add(name)
            else:
                foreign.add(name.partition(".")[0])
    assert foreign & {"adapters", "domain", "migrations", "tasks", "tests", "worker"} == set()
    assert {"psycopg", "redis"} <= foreign


_ORDER_7 = {"order_id": "O-7", "lines": [{"sku": "CUP", "quantity": 1}]}


def _check(history: Path, database_url: str, servers: Addresses) -> Verdict:
    return check(history, database_url, stream_url=servers.broker_url)


def _found(rule: str, history: Path, database_url: str, servers: Addresses) -> list[str]:
    case = Case(
        testimony=hear(read(history)),
        evidence=collect(database_url, stream_url=servers.broker_url),
    )
    [named] = [each for each in RULES if each.__name__ == rule]
    return [str(problem) for problem in named(case)]


def _spoil(database_url: str, sql: str) -> None:
    with psycopg.connect(_plain(database_url), autocommit=True) as connection:
        connection.execute(UNLOCK.encode())
        changed = connection.execute(sql.encode())
        assert changed.rowcount > 0


def _drop_records(history: Path, job_id: str) -> None:
    file = history / "good.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if f'"job_id":"{job_id}"' not in line))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                is_module = node.module.startswith("tests.chaos") and _is_module(inner)
                yield inner if is_module else node.module


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _administration(servers: Addresses) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(_plain(servers.database_url), autocommit=True)


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def _url(servers: Addresses, database: str) -> str:
    return urlsplit(servers.database_url)._replace(path=f"/{database}").geturl()
