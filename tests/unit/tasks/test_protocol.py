"""What of a message reaches Celery."""

import bz2
import json
import lzma
import zlib
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from kombu import Message

from domain.jobs.dispatching import ABOUT
from domain.jobs.parking import MOST_LEVELS, Reason, is_too_deep
from domain.kinds import KINDS
from tasks import compression
from tasks.protocol import MOST_BODY_BYTES, SCHEDULE, Schedule, Unfit, admit
from tests.e2e.bad_messages import KIND, envelope


def message(body: bytes | None = None, **of: Any) -> Message:
    made = envelope(**of)
    return Message(
        body=b64decode(made["body"]) if body is None else body,
        content_type=made["content-type"],
        content_encoding=made["content-encoding"],
        headers=made["headers"],
        properties=made["properties"],
    )


class TestAMessageThatIsAJob:
    def test_keeps_what_its_job_needs_and_no_more(self) -> None:
        job = message(
            headers={
                "id": "job-1",
                "root_id": "root",
                "parent_id": "parent",
                "traceparent": "00-a-b-01",
                "timelimit": [1, 1],
                "shadow": "x",
                "retries": 9,
                "chord": None,
                "x": 1,
            },
            properties={"correlation_id": "c", "reply_to": "r"},
        )

        admit(job, KINDS)

        assert job.headers == {
            "task": KIND,
            "id": "job-1",
            "root_id": "root",
            "parent_id": "parent",
            "traceparent": "00-a-b-01",
            "ignore_result": False,
            "argsrepr": "…",
            "kwargsrepr": "…",
        }
        assert job.properties == {"correlation_id": "c", "priority": 0}

    def test_asks_for_jobs_of_the_ledger(self) -> None:
        one, some = (message(args=[ids], kwargs={}) for ids in (["a"], ["a", "b"]))
        for asking in (one, some):
            admit(asking, KINDS)
        assert one.headers["argsrepr"] == "job a"
        assert some.headers["argsrepr"] == "2 jobs, first a"

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("order O-1, 3 lines", "order O-1, 3 lines"),
            ("", "job a"),
            ("a\nb", "job a"),
            ("x" * 501, "job a"),
            (["order"], "job a"),
            (None, "job a"),
        ],
    )
    def test_may_say_what_one_is_about(self, said: object, shown: str) -> None:
        one = message(args=[["a"]], kwargs={}, headers={ABOUT: said})
        admit(one, KINDS)
        assert one.headers["argsrepr"] == shown
        assert ABOUT not in one.headers

    def test_says_for_itself_what_many_are(self) -> None:
        some = message(args=[["a", "b"]], kwargs={}, headers={ABOUT: "order O-1"})
        admit(some, KINDS)
        assert some.headers["argsrepr"] == "2 jobs, first a"

    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("2030-01-02T03:04:05+00:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
            ("2030-01-02T03:04:05.5+02:00", datetime(2030, 1, 2, 1, 4, 5, 500_000, tzinfo=UTC)),
            # Celery's own clients leave the zone out where theirs is UTC.
            ("2030-01-02T03:04:05", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ],
    )
    def test_has_times_that_celery_does_not_act_on(self, said: str, meant: datetime) -> None:
        job = message(headers={"eta": said, "expires": said})
        admit(job, KINDS)
        assert "eta" not in job.headers
        assert "expires" not in job.headers
        assert Schedule.of(job.headers) == Schedule(eta=meant, expires=meant)

    def test_of_the_ledger_has_no_times(self) -> None:
        job = message(args=[["a"]], kwargs={}, headers={"eta": "2030-01-02T03:04:05Z"})
        admit(job, KINDS)
        assert SCHEDULE not in job.headers
        assert Schedule.of(job.headers) == Schedule()


class TestAMessageThatIsNoJob:
    def test_is_told_apart_before_it_is_changed(self) -> None:
        unfit = message(headers={"task": "x.y"})
        before = dict(unfit.headers)
        with pytest.raises(Unfit) as raised:
            admit(unfit, KINDS)
        assert raised.value.reason is Reason.UNKNOWN_KIND
        assert unfit.headers == before

    def test_may_ask_for_jobs_of_a_kind_that_is_not_known(self) -> None:
        with pytest.raises(Unfit) as raised:
            admit(message(args=[["a", "b"]], kwargs={}, headers={"task": "x.y"}), KINDS)
        assert raised.value.job_ids == ("a", "b")


class TestDepth:
    @pytest.mark.parametrize(
        ("value", "is_deep"),
        [
            ("[" * MOST_LEVELS + "]" * MOST_LEVELS, False),
            ("[" * (MOST_LEVELS + 2) + "]" * (MOST_LEVELS + 2), True),
            (json.dumps([[{"a": []}]] * 1_000), False),
        ],
    )
    def test_counts_levels_not_brackets(self, value: str, is_deep: bool) -> None:  # noqa: FBT001
        assert is_too_deep(json.loads(value), value.encode()) is is_deep


class TestCompression:
    @pytest.fixture(autouse=True)
    def bounded(self) -> None:
        compression.bound()

    @pytest.mark.parametrize(
        ("name", "compress"),
        [
            ("gzip", zlib.compress),
            ("application/x-gzip", zlib.compress),
            ("bzip2", bz2.compress),
            ("lzma", lzma.compress),
        ],
    )
    def test_is_undone_up_to_the_size_of_a_message(
        self, name: str, compress: Callable[[bytes], bytes]
    ) -> None:
        fits = bytes(MOST_BODY_BYTES)
        unpacked = message(body=compress(fits), headers={"compression": name})
        assert (unpacked.errors, unpacked.body) == ([], fits)

        bomb = message(body=compress(bytes(MOST_BODY_BYTES + 1)), headers={"compression": name})
        [(kind, _, _)] = bomb.errors
        assert kind is compression.TooLarge
        assert len(bomb.body) < MOST_BODY_BYTES

    def test_that_is_cut_off_is_no_message(self) -> None:
        half = zlib.compress(b"x" * 1_000)[:-4]
        assert message(body=half, headers={"compression": "gzip"}).errors
