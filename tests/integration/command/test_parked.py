"""`tallyman parked`: look, send again, drop."""

import json
from collections.abc import Iterator
from hashlib import sha256

import pytest
import redis
from sqlalchemy import Engine

from adapters.postgres.parked import PostgresParked
from domain.jobs.parking import Form, Misfit, Reason
from tests.integration.command.conftest import Tallyman
from worker.app import configured

ADA = "ada@example.com"
RAW = f"garbage of {ADA} \xff".encode("latin-1")
MESSAGE = json.dumps(
    {
        "body": "W10=",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "users.from_tomorrow", "id": "j1", "who": ADA},
        "properties": {"correlation_id": "c", "priority": 9},
    }
).encode()


@pytest.fixture
def broker(
    tallyman: Tallyman, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """Give the command a broker, and a look into it."""
    monkeypatch.setenv("TALLYMAN_BROKER_URL", broker_url)
    configured.cache_clear()
    with redis.Redis.from_url(broker_url) as client:
        yield client
    configured().close()
    configured.cache_clear()


@pytest.fixture
def parked(tallyman: Tallyman, engine: Engine) -> None:
    """Park bytes that are no message as 1, and a message of an unknown kind as 2."""
    park(engine, RAW, Reason.UNREADABLE, Form.BYTES)
    park(engine, MESSAGE, Reason.UNKNOWN_KIND, Form.MESSAGE, task="users.from_tomorrow")


def park(
    engine: Engine, content: bytes, reason: Reason, form: Form, *, task: str | None = None
) -> None:
    PostgresParked(engine, most_bytes=1 << 30).park(
        Misfit(
            queue="users",
            reason=reason,
            detail="it is no job",
            form=form,
            content=content,
            size=len(content),
            digest=sha256(content).digest(),
            task=task,
        )
    )


class TestList:
    def test_shows_what_fits_and_nothing_of_what_it_holds(
        self, tallyman: Tallyman, parked: None
    ) -> None:
        told = tallyman("parked", "list")
        assert "users.from_tomorrow" in told.out
        assert "unreadable" in told.out
        assert ADA not in told.out
        [one] = tallyman("parked", "list", "--reason", "unreadable", "--json").json
        assert (one["id"], one["size"], one["copies"]) == (1, len(RAW), 1)
        assert tallyman("parked", "list", "--queue", "imports", "--json").json == []
        assert len(tallyman("parked", "list", "--limit", "1", "--json").json) == 1

    def test_shows_what_is_closed_where_asked(self, tallyman: Tallyman, parked: None) -> None:
        tallyman("parked", "drop", "1")
        assert len(tallyman("parked", "list", "--json").json) == 1
        closed = tallyman("parked", "list", "--all", "--json").json
        assert [one["closed_as"] for one in closed] == [None, "dropped"]


class TestShow:
    @pytest.mark.parametrize("number", ["1", "2"])
    def test_masks_what_it_holds_unless_it_is_to_be_revealed(
        self, tallyman: Tallyman, parked: None, number: str
    ) -> None:
        for arguments in (("--json",), ()):
            masked = tallyman("parked", "show", number, *arguments)
            assert masked.code == 0
            assert ADA not in masked.out + masked.err
            assert ADA in tallyman("parked", "show", number, "--reveal", *arguments).out

    def test_shows_a_body_as_text(self, tallyman: Tallyman, parked: None) -> None:
        shown = tallyman("parked", "show", "2", "--reveal", "--json").json
        assert shown["content"]["body"] == "[]"
        assert shown["content"]["headers"]["id"] == "j1"

    def test_knows_no_other(self, tallyman: Tallyman) -> None:
        told = tallyman("parked", "show", "7")
        assert (told.code, told.err) == (
            3,
            "error: no parked message has the id 7, or it is closed\n",
        )


class TestRequeue:
    def test_sends_bytes_as_they_came(
        self, tallyman: Tallyman, broker: redis.Redis, parked: None
    ) -> None:
        assert tallyman("parked", "requeue", "1").out == "requeued 1\n"
        assert broker.lrange("users", 0, -1) == [RAW]
        again = tallyman("parked", "requeue", "1")
        assert (again.code, again.out) == (3, "")

    def test_sends_a_message_as_it_came(
        self, tallyman: Tallyman, broker: redis.Redis, parked: None
    ) -> None:
        told = tallyman("parked", "requeue", "--all", "--reason", "unknown_kind", "--json")
        assert told.json == {"requeued": [2], "refused": []}
        [sent] = [json.loads(item) for item in broker.lrange("users\x06\x169", 0, -1)]
        came = json.loads(MESSAGE)
        for part in ("body", "headers", "content-type", "content-encoding"):
            assert sent[part] == came[part]
        assert came["properties"].items() <= sent["properties"].items()

    def test_says_what_it_could_not_send(
        self, tallyman: Tallyman, broker: redis.Redis, engine: Engine, parked: None
    ) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE parked_message SET size = size + 1 WHERE id = 1")
        told = tallyman("parked", "requeue", "1", "2", "9", "--json")
        assert told.code == 1
        assert told.json["requeued"] == [2]
        codes = [refused["code"] for refused in told.json["refused"]]
        assert codes == ["NotRequeued", "ParkedNotFound"]
        assert [one["id"] for one in tallyman("parked", "list", "--json").json] == [1]

    def test_loses_nothing_where_the_broker_is_away(
        self,
        tallyman: Tallyman,
        broker: redis.Redis,
        parked: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TALLYMAN_BROKER_URL", "redis://127.0.0.1:1/0")
        configured.cache_clear()
        told = tallyman("parked", "requeue", "1")
        assert told.code == 4
        assert "Traceback" not in told.err
        assert len(tallyman("parked", "list", "--json").json) == 2

    def test_needs_ids_or_all(self, tallyman: Tallyman) -> None:
        assert tallyman("parked", "requeue").code == 2
        assert tallyman("parked", "requeue", "1", "--all").code == 2
        assert tallyman("parked", "requeue", "1", "--reason", "job_id").code == 2


class TestDrop:
    def test_forgets_what_messages_hold(
        self, tallyman: Tallyman, engine: Engine, parked: None
    ) -> None:
        told = tallyman("parked", "drop", "1", "9")
        assert (told.code, told.out) == (1, "dropped 1\n")
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT content FROM parked_message WHERE id = 1")
            assert rows.scalar_one() is None
        assert tallyman("parked", "drop", "9").code == 3
        assert tallyman("parked", "drop", "--all", "--json").json == {"dropped": [2], "refused": []}
        assert tallyman("parked", "drop").code == 2


class TestHealth:
    def test_mentions_what_is_parked(
        self, tallyman: Tallyman, broker: redis.Redis, parked: None
    ) -> None:
        assert "2 messages are parked" in tallyman("health", "db").out
