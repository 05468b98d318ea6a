"""The allocation that every peer runs: the rows that Tallyman writes, an order a transaction.

It is what a careful developer would write for a queue that delivers at least once: one read, and
one statement that writes everything or nothing, does nothing for an order that is there already,
and locks batches in the order of their references. No lock is held over a round trip.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from psycopg import AsyncConnection, Connection
from psycopg.errors import CheckViolation
from psycopg.rows import TupleRow

ATTEMPTS = 5
"""Times that an order is decided: what it counted on may be gone when it is written."""

READ = """
SELECT sku, reference, purchased - allocated, eta::text FROM batch
WHERE sku = ANY(%s) AND allocated < purchased
ORDER BY eta NULLS FIRST, reference"""

# That a batch gives no more than it has, its CHECK says.
WRITE = """
WITH line AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(lines)s::jsonb)
        AS line (line_id text, position smallint, sku text, quantity integer, reference text,
                 ranking jsonb)
), placed AS (
    INSERT INTO sales_order
        (order_id, policy, may_split, strategy, priority, fingerprint, job_id)
    VALUES (%(order_id)s, 'all_or_nothing', false, 'earliest', 0, %(fingerprint)s, %(job_id)s)
    ON CONFLICT (order_id) DO NOTHING
    RETURNING order_id
), written AS (
    INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
    SELECT order_id, line_id, position, sku, quantity, 'allocated' FROM placed CROSS JOIN line
), held AS (
    INSERT INTO allocation
        (order_id, line_id, batch_reference, quantity, strategy, ranking, job_id)
    SELECT order_id, line_id, reference, quantity, 'earliest', ranking, %(job_id)s
    FROM placed CROSS JOIN line
), locked AS MATERIALIZED (
    SELECT batch.reference FROM batch
    WHERE batch.reference = ANY(%(references)s) AND EXISTS (SELECT FROM placed)
    ORDER BY batch.reference FOR NO KEY UPDATE
), moved AS (
    UPDATE batch SET allocated = allocated + change.quantity
    FROM locked JOIN (
        SELECT reference, sum(quantity)::integer AS quantity FROM line GROUP BY reference
    ) AS change USING (reference)
    WHERE batch.reference = change.reference
    RETURNING batch.reference, allocated - change.quantity AS before
), tallied AS (
    INSERT INTO stock_movement (job_id, cause, sku, batch_reference, counter, before, after,
                                order_id, line_id)
    SELECT %(job_id)s, 'order_allocated', sku, reference, 'allocated',
           before + already, before + already + quantity, %(order_id)s, line_id
    FROM moved JOIN (
        SELECT *, sum(quantity) OVER (PARTITION BY reference ORDER BY position)
                      - quantity AS already
        FROM line
    ) AS counted USING (reference)
    ORDER BY position
)
INSERT INTO outbox (name, aggregate, payload, job_id)
SELECT 'OrderAllocated', 'order:' || order_id, %(event)s::jsonb, %(job_id)s FROM placed"""


def allocate(
    connection: Connection[TupleRow], *, order_id: str, lines: Sequence[Mapping[str, Any]]
) -> None:
    """Allocate an order over a connection that commits each statement."""
    skus = list({line["sku"] for line in lines})
    for attempt in range(ATTEMPTS):
        found = connection.execute(READ, [skus]).fetchall()
        try:
            connection.execute(WRITE, decide(order_id, lines, found))
        except CheckViolation:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return


async def allocate_async(
    connection: AsyncConnection[TupleRow], *, order_id: str, lines: Sequence[Mapping[str, Any]]
) -> None:
    """Allocate an order over a connection that commits each statement."""
    skus = list({line["sku"] for line in lines})
    for attempt in range(ATTEMPTS):
        found = await (await connection.execute(READ, [skus])).fetchall()
        try:
            await connection.execute(WRITE, decide(order_id, lines, found))
        except CheckViolation:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return


def decide(
    order_id: str, lines: Sequence[Mapping[str, Any]], batches: Iterable[TupleRow]
) -> dict[str, object]:
    """Choose a batch for each line, stock on hand first; return the parameters of `WRITE`.

    The stock of a load is enough for all of it.
    """
    ranked: dict[str, list[list[Any]]] = {}
    for sku, reference, available, eta in batches:
        ranked.setdefault(sku, []).append([reference, available, eta])
    taken: Counter[str] = Counter()
    chosen: list[dict[str, object]] = []
    told: list[dict[str, object]] = []
    for position, line in enumerate(lines):
        quantity = line["quantity"]
        ranking = ranked.get(line["sku"], [])
        reference, eta = next(
            (reference, eta)
            for reference, available, eta in ranking
            if available - taken[reference] >= quantity
        )
        taken[reference] += quantity
        line_id = str(position + 1)
        chosen.append(
            {
                "line_id": line_id,
                "position": position,
                "sku": line["sku"],
                "quantity": quantity,
                "reference": reference,
                "ranking": ranking,
            }
        )
        portion = {"batch": reference, "quantity": quantity, "eta": eta}
        told.append({"line_id": line_id, "sku": line["sku"], "portions": [portion]})
    return {
        "order_id": order_id,
        "job_id": f"job-{order_id}",
        "fingerprint": hashlib.sha256(orjson.dumps([order_id, chosen])).hexdigest(),
        "lines": orjson.dumps(chosen).decode(),
        "references": list(taken),
        "event": orjson.dumps({"order_id": order_id, "lines": told}).decode(),
    }
