"""submit with SQL."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What the producer hashes: keys in the order of their code points, no blanks. Numbers that are no
# integers are refused, for Python writes them otherwise than PostgreSQL does.
CANONICAL = """
CREATE FUNCTION tallyman_canonical(value jsonb, levels integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF levels < 0 THEN
        RAISE EXCEPTION 'the payload goes deeper than 64 levels'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    CASE jsonb_typeof(value)
    WHEN 'object' THEN
        RETURN '{' || coalesce((
            SELECT string_agg(
                to_jsonb(field.key)::text || ':' || tallyman_canonical(field.value, levels - 1),
                ',' ORDER BY field.key COLLATE "C")
            FROM jsonb_each(value) AS field
        ), '') || '}';
    WHEN 'array' THEN
        RETURN '[' || coalesce((
            SELECT string_agg(tallyman_canonical(item, levels - 1), ',' ORDER BY place)
            FROM jsonb_array_elements(value) WITH ORDINALITY AS listed (item, place)
        ), '') || ']';
    WHEN 'number' THEN
        IF value::text LIKE '%.%' THEN
            RAISE EXCEPTION 'numbers of a payload are integers, got %', value
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        RETURN value::text;
    ELSE
        RETURN value::text;
    END CASE;
END $$
"""

SUBMIT = """
CREATE FUNCTION tallyman_submit(
    kind text,
    payload jsonb,
    job_id text DEFAULT NULL,
    priority integer DEFAULT 0,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL,
    OUT id text,
    OUT state text,
    OUT is_new boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known job_kind;
    submitted text := coalesce(tallyman_submit.job_id, gen_random_uuid()::text);
    belongs_to text := coalesce(tallyman_submit.correlation_id, submitted);
    canonical text;
    digest bytea;
    stored bytea;
    most integer;
    waiting integer;
BEGIN
    SELECT job_kind.* INTO known FROM job_kind WHERE name = tallyman_submit.kind;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no job kind is called %', coalesce(quote_literal(kind), 'NULL')
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'SELECT name FROM job_kind; `tallyman migrate upgrade` adds those of a release.';
    END IF;
    IF submitted !~ '^[ -~]{{1,255}}$' OR belongs_to !~ '^[ -~]{{1,255}}$' THEN
        RAISE EXCEPTION 'a job id and a correlation id are 1 to 255 printable ASCII characters'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF tallyman_submit.priority IS NULL OR tallyman_submit.priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'priority must be 0 to 9, got %', tallyman_submit.priority
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF tallyman_submit.payload IS NULL OR jsonb_typeof(tallyman_submit.payload) <> 'object' THEN
        RAISE EXCEPTION 'a payload is a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    canonical := tallyman_canonical(tallyman_submit.payload, 64);
    IF octet_length(convert_to(canonical, 'UTF8')) > 262144 THEN
        RAISE EXCEPTION 'the payload has % bytes, at most 262144 are taken',
            octet_length(convert_to(canonical, 'UTF8'))
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    digest := sha256(convert_to(known.name || chr(10) || canonical, 'UTF8'));

    SELECT job.id, job.state, job.payload_hash INTO id, state, stored
    FROM job WHERE job.id = submitted;
    IF NOT FOUND THEN
        -- As a relay has measured it; where none runs, only limits that operators have set count.
        SELECT queue.most_waiting INTO most FROM queue WHERE queue.name = known.queue;
        SELECT queue_gauge.waiting INTO waiting FROM queue_gauge
        WHERE queue_gauge.queue = known.queue AND queue_gauge.good_until > now();
        IF most IS NOT NULL AND waiting IS NULL OR waiting >= coalesce(most, 1000000) THEN
            most := coalesce(most, 1000000);
            SELECT count(*) INTO waiting FROM (
                SELECT FROM job
                WHERE job.queue = known.queue AND job.state IN ('queued', 'retry') LIMIT most
            ) AS open;
            IF waiting >= most THEN
                RAISE EXCEPTION 'queue % is full: as many jobs wait in it as may, %',
                    quote_literal(known.queue), most
                    USING ERRCODE = 'configuration_limit_exceeded', HINT = 'Try again later.';
            END IF;
        END IF;
        INSERT INTO job (id, kind, queue, door, priority, payload, payload_hash, max_attempts,
                         correlation_id, traceparent, next_dispatch)
        VALUES (submitted, known.name, known.queue, 'ledger', tallyman_submit.priority,
                tallyman_submit.payload, digest, known.max_attempts, belongs_to,
                substring(tallyman_submit.traceparent FROM
                    '^(?!ff)[0-9a-f]{{2}}-(?!0{{32}})[0-9a-f]{{32}}-(?!0{{16}})[0-9a-f]{{16}}-[0-9a-f]{{2}}$'),
                now())
        ON CONFLICT DO NOTHING
        RETURNING job.id, job.state INTO id, state;
        IF FOUND THEN
            is_new := true;
            PERFORM pg_notify('tallyman_job', '');
            RETURN;
        END IF;
        SELECT job.id, job.state, job.payload_hash INTO id, state, stored
        FROM job WHERE job.id = submitted;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'job id % was accepted by another transaction meanwhile', submitted
                USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF stored <> digest THEN
        RAISE EXCEPTION 'job id % was used before with another payload', submitted
            USING ERRCODE = 'unique_violation',
                  HINT = 'Send the original payload, or choose a new id.';
    END IF;
    is_new := false;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "job_kind",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_kind")),
        comment="The kinds that releases brought, for who submits with SQL",
    )
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    connection.exec_driver_sql(CANONICAL.replace("%", "%%"))
    connection.exec_driver_sql(SUBMIT.format(schema=schema).replace("%", "%%"))
    # It may do what its owner may: who is to submit is granted that by name.
    for function in (
        "tallyman_canonical(jsonb, integer)",
        "tallyman_submit(text, jsonb, text, integer, text, text)",
    ):
        connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
