"""The statements of `adapters.postgres.stock`, in the order in which a job comes to them."""

GLANCE = """
SELECT product.sku, product.version, reference, purchased, allocated, eta, fingerprint
FROM product LEFT JOIN batch ON batch.sku = product.sku AND allocated < purchased
WHERE product.sku = ANY(%(skus)s::text[])"""

LOCK_PRODUCTS = """
SELECT sku, version FROM product WHERE sku = ANY(%(skus)s::text[]) ORDER BY sku FOR NO KEY UPDATE"""

BATCHES = """
SELECT reference, sku, purchased, allocated, eta, fingerprint
FROM batch WHERE sku = ANY(%(skus)s::text[]) ORDER BY reference"""

ORDERS = """
SELECT order_id, policy, may_split, strategy, priority, sequence, fingerprint
FROM sales_order WHERE order_id = ANY(%(ids)s::text[])"""

LOCK_ORDERS = """
SELECT order_id FROM sales_order WHERE order_id = ANY(%(ids)s)
ORDER BY order_id FOR NO KEY UPDATE"""

COMPLETE = """
SELECT order_id FROM order_line WHERE order_id = ANY(%(ids)s) GROUP BY order_id
HAVING bool_and(state IN ('allocated', 'cancelled')) AND bool_or(state = 'allocated')
ORDER BY order_id"""

LINES = """
SELECT line.order_id, line_id, line.sku, line.quantity, state,
       policy, may_split, strategy, priority, sequence
FROM order_line AS line JOIN sales_order USING (order_id)"""

ALLOCATIONS = """
SELECT allocation.order_id, line_id, batch_reference, quantity, eta, strategy, ranking
FROM allocation JOIN batch ON batch.reference = batch_reference
JOIN unnest(%(order_ids)s::text[], %(line_ids)s::text[]) AS wanted (order_id, line_id)
     USING (order_id, line_id)
ORDER BY order_id, line_id, batch_reference"""

# Numbered as they come, written by id: two batches of the same orders must not deadlock.
NEW_ORDERS = """
WITH placed AS MATERIALIZED (
    SELECT *, nextval('sales_order_sequence_seq') AS sequence
    FROM jsonb_to_recordset(%(rows)s::jsonb)
        AS placed (order_id text, policy text, may_split boolean, strategy text,
                   priority smallint, fingerprint text, job_id text)
)
INSERT INTO sales_order
    (order_id, policy, may_split, strategy, priority, fingerprint, job_id, sequence)
SELECT * FROM placed ORDER BY order_id
ON CONFLICT (order_id) DO NOTHING"""

NEW_LINES = """
INSERT INTO order_line (order_id, line_id, position, sku, quantity, state)
SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS placed (order_id text, line_id text, position smallint, sku text, quantity integer,
               state text)"""

CHANGED_LINES = """
UPDATE order_line AS line SET quantity = changed.quantity, state = changed.state
FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS changed (order_id text, line_id text, quantity integer, state text)
WHERE line.order_id = changed.order_id AND line.line_id = changed.line_id"""

RELEASE = """
DELETE FROM allocation
USING jsonb_to_recordset(%(rows)s::jsonb)
    AS released (order_id text, line_id text, batch_reference text)
WHERE allocation.order_id = released.order_id AND allocation.line_id = released.line_id
  AND allocation.batch_reference = released.batch_reference"""

NEW_ALLOCATIONS = """
INSERT INTO allocation
    (order_id, line_id, batch_reference, quantity, strategy, ranking, job_id)
SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS held (order_id text, line_id text, batch_reference text, quantity integer, strategy text,
             ranking jsonb, job_id text)"""

ALLOCATE = f"""{NEW_ALLOCATIONS}
ON CONFLICT (order_id, line_id, batch_reference) DO UPDATE SET
    quantity = excluded.quantity, strategy = excluded.strategy, ranking = excluded.ranking,
    job_id = excluded.job_id, allocated_at = now()"""

VERSIONS = """
UPDATE product SET version = changed.version
FROM jsonb_to_recordset(%(rows)s::jsonb) AS changed (sku text, version bigint)
WHERE product.sku = changed.sku"""

# Counters start at 0: the movements of the same transaction bring them to what they are.
SET_BATCHES = """
INSERT INTO batch (reference, sku, purchased, eta, fingerprint)
SELECT reference, sku, 0, eta, fingerprint FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS batch (reference text, sku text, eta date, fingerprint text)
ORDER BY reference
ON CONFLICT (reference) DO UPDATE SET eta = excluded.eta
WHERE batch.fingerprint = excluded.fingerprint"""

MOVE = """
WITH change AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(changes)s::jsonb)
        AS change (reference text, purchased integer, allocated integer, glanced boolean, eta date)
), locked AS MATERIALIZED (
    SELECT reference FROM batch WHERE reference = ANY(%(references)s::text[])
    ORDER BY reference FOR NO KEY UPDATE
), moved AS (
    UPDATE batch SET
        purchased = batch.purchased + change.purchased,
        allocated = batch.allocated + change.allocated
    FROM locked JOIN change USING (reference)
    WHERE batch.reference = change.reference
      AND batch.allocated + change.allocated
          BETWEEN 0 AND batch.purchased + change.purchased
      -- A promise must not be made of a day that moved meanwhile: its line would never hear.
      AND (NOT change.glanced OR batch.eta IS NOT DISTINCT FROM change.eta)
    RETURNING batch.reference, batch.purchased - change.purchased AS purchased,
              batch.allocated - change.allocated AS allocated
), written AS (
    INSERT INTO stock_movement (job_id, cause, sku, batch_reference, counter, before, after,
                                order_id, line_id)
    SELECT job_id, cause, sku, batch_reference, counter,
           CASE counter WHEN 'purchased' THEN purchased ELSE allocated END + already,
           CASE counter WHEN 'purchased' THEN purchased ELSE allocated END + already + change,
           order_id, line_id
    FROM jsonb_to_recordset(%(movements)s::jsonb)
        AS movement (job_id text, cause text, sku text, batch_reference text, counter text,
                     already integer, change integer, order_id text, line_id text,
                     place integer)
    JOIN moved ON moved.reference = batch_reference
    ORDER BY place
)
SELECT FROM moved"""
