"""What is switched off: each keeps a promise."""

from typing import Any

from adapters.broker import CeleryBroker
from adapters.postgres import ledger, stock_sql
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.outbox import PostgresOutbox
from adapters.redis_transport import channel
from domain.allocation import placing
from domain.jobs.executor import Executor, _FirstSight
from tests.chaos.mutations.scene import Scene


def nothing(_: Scene) -> None:
    """Leave all as it is."""


def guard(scene: Scene) -> None:
    """Move counters without looking whether there is enough, nor a CHECK that stands behind."""
    bounds = (
        "      AND batch.allocated + change.allocated\n"
        "          BETWEEN 0 AND batch.purchased + change.purchased\n"
    )
    stock_sql.MOVE = _without(stock_sql.MOVE, bounds)

    scene.execute("""
        DO $$
        DECLARE held record;
        BEGIN
            FOR held IN SELECT conname FROM pg_constraint
                        WHERE contype = 'c' AND conrelid = 'batch'::regclass LOOP
                EXECUTE format('ALTER TABLE batch DROP CONSTRAINT %I', held.conname);
            END LOOP;
        END $$""")


def claim(scene: Scene) -> None:
    """Take jobs without their lock, and finish what was finished meanwhile."""
    ledger._CLAIM = _without(ledger._CLAIM, " FOR NO KEY UPDATE")
    scene.execute("DROP TRIGGER job_moves ON job")


def claim_of_new(scene: Scene) -> None:
    """Take the messages in hand together for new ones, though they are known."""
    ledger._CLAIM_NEW = _instead(
        ledger._CLAIM_NEW,
        "ON CONFLICT (id) DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET state = 'queued', result = NULL, finished_at = NULL,"
        " next_dispatch = now()",
    )
    scene.execute("DROP TRIGGER job_moves ON job")


def note(_: Scene) -> None:
    """Take messages from Redis and note them nowhere."""
    kept = "".join(
        line
        for line in channel.TAKE.splitlines(keepends=True)
        if "HSET" not in line and "ZADD" not in line
    )
    assert kept != channel.TAKE
    channel.TAKE = kept


def lock_order(_: Scene) -> None:
    """Lock batches in the order in which they come."""
    stock_sql.MOVE = _instead(
        stock_sql.MOVE,
        "ORDER BY reference FOR NO KEY UPDATE",
        "ORDER BY random() FOR NO KEY UPDATE",
    )


def second_look(_: Scene) -> None:
    """Refuse, and let wait, on what was glanced."""
    decide = placing._decide

    def decide_once(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  as it is
        decision = decide(*arguments, **options)
        decision.short.clear()
        return decision

    setattr(placing, "_decide", decide_once)  # noqa: B010  as above


def epoch_key(_: Scene) -> None:
    """Never notice that Redis has forgotten."""
    setattr(CeleryBroker, "lost_its_memory", lambda _: False)  # noqa: B010  a patch, whatever its type


def crash_accounting(_: Scene) -> None:
    """Run suspects without counting their attempts first."""
    setattr(PostgresLedger, "begin_attempt", lambda _, job, **__: job)  # noqa: B010  as above


def halving(_: Scene) -> None:
    """Blame all jobs of a message for what one of them did."""

    def blame_all(executor: Executor, kind: Any, claim: Any, error: Any, **options: Any) -> Any:  # noqa: ANN401
        return executor._record_failure(
            kind, claim, error, _FirstSight(), counted=options["counted"]
        )

    setattr(Executor, "_after_failure", blame_all)  # noqa: B010  as above


def outbox(_: Scene) -> None:
    """Lose the events of every other transaction."""
    flush = PostgresOutbox.flush
    calls = iter(range(1_000_000))

    def flush_half(self: PostgresOutbox, *origins: Any) -> None:
        if next(calls) % 2:
            self._events.clear()
        flush(self, *origins)

    setattr(PostgresOutbox, "flush", flush_half)  # noqa: B010  as above


def movements(_: Scene) -> None:
    """Note only half of what moves."""
    stock_sql.MOVE = _instead(
        stock_sql.MOVE,
        "JOIN moved ON moved.reference = batch_reference",
        "JOIN moved ON moved.reference = batch_reference AND place %% 2 = 0",
    )


def _without(statement: str, part: str) -> str:
    return _instead(statement, part, "")


def _instead(statement: str, part: str, other: str) -> str:
    assert part in statement, f"there is nothing to switch off: {part!r}"
    return statement.replace(part, other)
