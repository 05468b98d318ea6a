"""The spans of a job, from where it was handed over to the events that it caused."""

import pytest
import redis
from opentelemetry import trace

from adapters.event_stream import STREAM
from domain.jobs.model import JobState
from tests.e2e.pipeline import KIND, order
from tests.integration.tracing.conftest import Traced
from tests.spans import tree

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SOMEWHERE = f"00-{TRACE}-00f067aa0ba902b7-01"
NOT_FOLLOWED = f"00-{TRACE}-00f067aa0ba902b7-00"


class TestAJobThatWasSubmitted:
    def test_is_one_trace_from_its_producer_to_its_events(self, traced: Traced) -> None:
        traced.has_stock("LAMP", 10)
        traced.producer.submit(KIND, order("O-1", "LAMP"), job_id="J-1", correlation_id="why")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)
        traced.relay_events()

        assert tree(traced.spans()) == (
            f"submit allocation [here producer] id=J-1 kind={KIND}\n"
            f"  send allocation [here producer] id=J-1 kind={KIND}\n"
            f"    process allocation [here consumer] id=J-1 kind={KIND}"
            " attempt=1 state=succeeded -> submit allocation (accepted)\n"
            "      send tallyman:events [here producer] name=OrderAllocated id=J-1"
        )
        assert len({span.trace_id for span in traced.spans()}) == 1
        [process] = traced.named("process allocation")
        assert process.attributes["messaging.message.conversation_id"] == "why"
        assert process.attributes["messaging.operation.type"] == "process"
        assert process.attributes["messaging.destination.name"] == "allocation"

    def test_shows_the_statements_of_its_attempt(self, traced: Traced) -> None:
        traced.has_stock("LAMP", 10)
        traced.producer.submit(KIND, order("O-1", "LAMP"), job_id="J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)

        [process] = traced.named("process allocation")
        texts = " ".join(traced.statements_below(process))
        assert "INSERT INTO outbox" in texts
        assert "FOR NO KEY UPDATE" in texts

    def test_is_tried_again_in_the_same_trace_and_points_to_where_it_failed(
        self, traced: Traced
    ) -> None:
        traced.has_stock("LAMP", 10)
        traced.execute("INSERT INTO broken_order VALUES ('O-1')")
        traced.producer.submit(KIND, order("O-1", "LAMP"), job_id="J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.RETRY)
        traced.execute("DELETE FROM broken_order")
        traced.retry("J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)

        assert tree(traced.spans(), leave_out=["kind"]) == (
            "submit allocation [here producer] id=J-1\n"
            "  send allocation [here producer] id=J-1\n"
            "    process allocation [here consumer] id=J-1 attempt=1 state=retry"
            " type=InternalError -> submit allocation (accepted) ERROR\n"
            "  send allocation [here producer] id=J-1\n"
            "    process allocation [here consumer] id=J-1 attempt=2 state=succeeded"
            " -> submit allocation (accepted) -> process allocation (previous attempt)"
        )

    def test_that_is_refused_is_no_error(self, traced: Traced) -> None:
        traced.producer.submit(KIND, order("O-1", "NONE"), job_id="J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.REJECTED)
        [process] = traced.named("process allocation")
        assert process.attributes["tallyman.job.refusal"] == "InvalidSku"
        assert not process.is_error

    def test_is_in_the_trace_that_its_producer_names(self, traced: Traced) -> None:
        traced.producer.submit(KIND, order("O-1", "NONE"), job_id="J-1", traceparent=SOMEWHERE)
        [submit] = traced.named("submit allocation")
        assert trace.format_trace_id(submit.trace_id) == TRACE
        assert submit.parent_id == 0x00F067AA0BA902B7

    def test_is_in_the_trace_of_the_code_that_submits_it(self, traced: Traced) -> None:
        with traced.provider.get_tracer("shop").start_as_current_span("checkout") as checkout:
            traced.producer.submit(KIND, order("O-1", "NONE"), job_id="J-1")
        [submit] = traced.named("submit allocation")
        assert submit.parent_id == checkout.get_span_context().span_id

    @pytest.mark.parametrize("garbage", ["", "abc", SOMEWHERE + "-ada@example.org", "00-0-0-0"])
    def test_is_none_the_worse_for_a_place_that_is_none(self, traced: Traced, garbage: str) -> None:
        traced.producer.submit(KIND, order("O-1", "NONE"), job_id="J-1", traceparent=garbage)
        traced.execute("UPDATE job SET traceparent = 'what an older version took'")
        traced.relay_jobs()
        traced.until("J-1", JobState.REJECTED)


class TestAJobThatNobodyFollows:
    def test_makes_no_span(self, traced: Traced) -> None:
        traced.has_stock("LAMP", 10)
        for number in range(2):
            traced.producer.submit(
                KIND, order(f"O-{number}", "LAMP"), job_id=f"J-{number}", traceparent=NOT_FOLLOWED
            )
        # Both in one message.
        traced.relay.grouping = type(traced.relay.grouping)(spread=1)
        traced.relay_jobs()
        traced.producer.submit(KIND, order("O-9", "LAMP"), job_id="J-9")
        traced.relay_jobs()
        traced.until("J-9", JobState.SUCCEEDED)
        traced.relay_events()

        assert {span.attributes["tallyman.job.id"] for span in traced.spans()} == {"J-9"}


class TestAJobThatIsAMessage:
    def test_is_in_the_trace_of_its_headers(self, traced: Traced) -> None:
        traced.send("J-1", order("O-1", "NONE"), traceparent=SOMEWHERE)
        traced.until("J-1", JobState.REJECTED)
        [process] = traced.named("process allocation")
        assert trace.format_trace_id(process.trace_id) == TRACE
        assert process.parent_id == 0x00F067AA0BA902B7
        assert process.kind == "consumer"

    def test_belongs_to_what_its_headers_say(self, traced: Traced) -> None:
        traced.send("J-1", order("O-1", "NONE"), correlation_id="basket-7")
        assert traced.until("J-1", JobState.REJECTED).correlation_id == "basket-7"
        [process] = traced.named("process allocation")
        assert process.attributes["messaging.message.conversation_id"] == "basket-7"

    def test_without_a_trace_is_tried_again_in_that_of_its_first_attempt(
        self, traced: Traced
    ) -> None:
        traced.has_stock("LAMP", 10)
        traced.execute("INSERT INTO broken_order VALUES ('O-1')")
        traced.send("J-1", order("O-1", "LAMP"))
        traced.until("J-1", JobState.RETRY)
        traced.execute("DELETE FROM broken_order")
        traced.retry("J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)

        assert tree(traced.spans(), leave_out=["kind"]) == (
            "process allocation [here consumer] id=J-1 attempt=1 state=retry"
            " type=InternalError ERROR\n"
            "  send allocation [here producer] id=J-1\n"
            "    process allocation [here consumer] id=J-1 attempt=2 state=succeeded"
            " -> process allocation (previous attempt)"
        )


class TestAMessageOfManyJobs:
    def test_has_a_trace_of_its_own_that_leads_to_each_job(self, traced: Traced) -> None:
        traced.has_stock("LAMP", 10)
        for number in range(4):
            traced.producer.submit(KIND, order(f"O-{number}", "LAMP"), job_id=f"J-{number}")
        traced.relay_jobs()
        for number in range(4):
            traced.until(f"J-{number}", JobState.SUCCEEDED)
        traced.relay_events()

        submits = {span.span_id: span for span in traced.named("submit allocation")}
        messages = traced.until_messages(2, jobs=2)
        assert len(submits) == 4
        assert len(messages) == 2
        for message in messages:
            jobs = [
                span for span in traced.named("process allocation") if message.span_id in span.links
            ]
            assert {span.parent_id for span in jobs} == {
                link for link, why in message.links.items() if why == "accepted"
            }
            for job in jobs:
                assert job.parent_id is not None
                assert job.trace_id == submits[job.parent_id].trace_id
                assert job.trace_id != message.trace_id
                [told] = [
                    span
                    for span in traced.named("send tallyman:events")
                    if span.parent_id == job.span_id
                ]
                assert told.trace_id == job.trace_id

    def test_that_has_a_bad_job_says_which(self, traced: Traced) -> None:
        traced.has_stock("LAMP", 10)
        traced.execute("INSERT INTO broken_order VALUES ('O-1')")
        for number in range(4):
            traced.producer.submit(KIND, order(f"O-{number}", "LAMP"), job_id=f"J-{number}")
        traced.relay_jobs()
        traced.until("J-1", JobState.RETRY)
        for number in (0, 2, 3):
            traced.until(f"J-{number}", JobState.SUCCEEDED)
        traced.execute("DELETE FROM broken_order")
        traced.retry("J-1")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)

        assert [span.is_error for span in traced.named("process allocation", id="J-1")] == [
            True,
            False,
        ]
        first, second = traced.named("process allocation", id="J-1")
        assert second.links[first.span_id] == "previous attempt"
        assert first.trace_id == second.trace_id

    def test_of_jobs_submitted_together_has_one_place_for_all(self, traced: Traced) -> None:
        traced.producer.submit_many(
            traced.producer.submission(KIND, order(f"O-{number}", "NONE"), job_id=f"J-{number}")
            for number in range(4)
        )
        traced.relay_jobs()
        for number in range(4):
            traced.until(f"J-{number}", JobState.REJECTED)
        [submit] = traced.named("submit allocation")
        assert submit.attributes["messaging.batch.message_count"] == 4
        jobs = [
            span
            for span in traced.named("process allocation")
            if "tallyman.job.id" in span.attributes
        ]
        assert [span.parent_id for span in jobs] == [submit.span_id] * 4


class TestTheStream:
    def test_tells_consumers_where_in_a_trace_an_event_happened(
        self, traced: Traced, broker_url: str
    ) -> None:
        traced.has_stock("LAMP", 10)
        traced.producer.submit(KIND, order("O-1", "LAMP"), job_id="J-1", correlation_id="why")
        traced.relay_jobs()
        traced.until("J-1", JobState.SUCCEEDED)
        traced.relay_events()

        with redis.Redis.from_url(broker_url, decode_responses=True) as client:
            fields = [entry[1] for entry in client.xrange(STREAM) if entry[1]["job_id"] == "J-1"]
        ids = {span.span_id for span in traced.named("send tallyman:events")}
        assert {int(each["traceparent"].split("-")[2], 16) for each in fields} == ids
        assert {each["correlation_id"] for each in fields} == {"why"}


class TestWhatIsOfPeople:
    def test_is_in_no_span_however_their_jobs_end(self, traced: Traced) -> None:
        mark = "qzxmark"
        traced.execute(
            "ALTER TABLE user_account ADD CONSTRAINT nobody CHECK (username NOT LIKE '%%broken')"
        )
        for name in ("fine", "broken", "refused"):
            payload = {
                "name": f"{mark} {name}",
                "username": f"{mark}{name}",
                "email": f"{mark}{name}@example.org" if name != "refused" else f"{mark}nowhere",
            }
            traced.app.send_task("users.register", kwargs=payload, task_id=name, queue="users")
        traced.until("fine", JobState.SUCCEEDED)
        traced.until("broken", JobState.RETRY)
        traced.until("refused", JobState.REJECTED)
        traced.relay_events()

        told = [span.to_json() for span in traced.finished()]
        assert any("IntegrityError" in each for each in told)
        assert not [each for each in told if mark in each]


class TestPolling:
    def test_makes_no_span(self, traced: Traced) -> None:
        traced.relay_jobs()
        traced.relay_events()
        assert traced.finished() == []
