"""Which jobs travel together."""

from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.dispatching import Dispatch, DueJob, Grouping, group


def due(job_id: str, *, kind: str = "k", dispatches: int = 1) -> DueJob:
    return DueJob(job_id=job_id, kind=kind, priority=0, dispatches=dispatches)


class TestGrouping:
    def test_is_one_job_a_message_without_a_backlog(self) -> None:
        assert Grouping(most=200, spread=16).size(16) == 1

    def test_spreads_a_backlog_over_messages_before_they_grow(self) -> None:
        assert Grouping(most=200, spread=16).size(160) == 10

    def test_spreads_over_fewer_where_messages_wait_already(self) -> None:
        grouping = Grouping(most=200, spread=16)
        assert [grouping.size(160, waiting=waiting) for waiting in (0, 8, 12, 16, 99)] == [
            10,
            20,
            40,
            160,
            160,
        ]
        assert grouping.size(400, waiting=16) == 200

    def test_never_exceeds_the_most(self) -> None:
        assert Grouping(most=200, spread=16).size(1_000_000) == 200


class TestGroup:
    def test_keeps_kinds_apart(self) -> None:
        messages = group([due("a", kind="x"), due("b", kind="y")], Grouping(most=10, spread=1))
        assert messages == [
            Dispatch(kind="x", job_ids=("a",)),
            Dispatch(kind="y", job_ids=("b",)),
        ]

    @given(
        st.lists(
            st.builds(
                DueJob,
                job_id=st.uuids().map(str),
                kind=st.sampled_from("xyz"),
                priority=st.just(0),
                dispatches=st.integers(1, 3),
            ),
            unique_by=lambda job: job.job_id,
        ),
        st.integers(1, 20),
        st.integers(1, 20),
    )
    def test_sends_each_job_once_and_suspects_alone(
        self, jobs: list[DueJob], most: int, spread: int
    ) -> None:
        messages = group(jobs, Grouping(most=most, spread=spread))
        assert sorted(i for message in messages for i in message.job_ids) == sorted(
            job.job_id for job in jobs
        )
        assert all(1 <= len(message.job_ids) <= most for message in messages)
        suspects = {job.job_id for job in jobs if job.dispatches > 1}
        assert all(
            len(message.job_ids) == 1 for message in messages if suspects & set(message.job_ids)
        )
