"""Messages that come faster than one by one is done: they share transactions, and nothing else."""

from domain.jobs.model import JobState
from tests.e2e.pipeline import Pipeline, order
from tests.e2e.processes import eventually

ORDERS = 400
CHANGED = 20
"""Orders that come with another quantity, too: which of the two is first is the worker's to say."""
ANSWER: dict[str, int] = {"timeout": 30, "limit": 1}
"""Waits for the only worker, as long as that takes."""


def send_burst(pipeline: Pipeline) -> None:
    """Send good orders at once, and among them some twice, some too large and one that fails."""
    for number in range(ORDERS):
        job_id = f"rush-{number}"
        pipeline.by_message(job_id, order(job_id, "RUSH"))
        if number % 20 == 0:
            pipeline.by_message(job_id, order(job_id, "RUSH"))
            pipeline.by_message(job_id, order(job_id, "RUSH", quantity=2))
            greedy = f"rush-greedy-{number}"
            pipeline.by_message(greedy, order(greedy, "RUSH", quantity=10 * ORDERS))
        if number == ORDERS // 2:
            pipeline.by_message("rush-broken", order("rush-broken", "RUSH"))


class TestABurstOfMessages:
    def test_shares_transactions_and_has_each_effect_once(self, pipeline: Pipeline) -> None:
        # A unit for the one that fails, too: whenever it runs, it is not refused.
        stock = ORDERS + CHANGED + 1
        pipeline.has_stock("RUSH", stock)
        pipeline.breaks("rush-broken")
        # Once the worker has answered: what it takes one by one has no company.
        assert pipeline.app.control.cancel_consumer("allocation", reply=True, **ANSWER)
        send_burst(pipeline)
        assert pipeline.app.control.add_consumer("allocation", reply=True, **ANSWER)

        ran = "SELECT count(*) FROM job WHERE id LIKE 'rush-%%' AND state <> 'queued'"
        eventually(lambda: pipeline.one(ran) == (421,), what="all have run", within=90)
        states = pipeline.database.execute(
            "SELECT state, count(*)::int, max(attempts)::int FROM job"
            " WHERE id LIKE 'rush-%' AND id <> 'rush-broken' GROUP BY state ORDER BY state"
        ).fetchall()
        assert states == [("rejected", 20, 1), ("succeeded", ORDERS, 1)]
        (wanted,) = pipeline.one(
            "SELECT sum((payload -> 'lines' -> 0 ->> 'quantity')::int)::int FROM job"
            " WHERE id LIKE 'rush-%%' AND state = 'succeeded'"
        )
        assert pipeline.allocated("RUSH") == wanted
        assert ORDERS <= wanted <= ORDERS + CHANGED
        assert pipeline.result("rush-7").get(timeout=60)["state"] == "allocated"
        assert pipeline.result("rush-greedy-20").status == "FAILURE"
        (transactions,) = pipeline.one(
            "SELECT count(DISTINCT xmin::text) FROM job"
            " WHERE id LIKE 'rush-%%' AND state = 'succeeded'"
        )
        assert transactions < ORDERS / 2
        pipeline.until("rush-broken", JobState.RETRY, attempts=1)
        pipeline.mends("rush-broken")
        pipeline.by_submission("rush-rest", order("rush-rest", "RUSH", quantity=stock - wanted))
        pipeline.until("rush-rest", JobState.SUCCEEDED)
        pipeline.operations.retry(["rush-broken"])
        # All units are taken: it is refused now, which it could not be while it failed.
        pipeline.until("rush-broken", JobState.REJECTED)
