"""A trail of every state that any job was in, which nothing that the product does escapes."""

from dataclasses import dataclass

import psycopg

TABLE = "chaos_job_move"

_LAY = f"""
CREATE TABLE {TABLE} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text NOT NULL,
    before text,
    after text,
    attempts smallint,
    answer text
);
CREATE FUNCTION {TABLE}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO {TABLE} (job_id, before) VALUES (OLD.id, OLD.state);
    ELSE
        INSERT INTO {TABLE} (job_id, before, after, attempts, answer) VALUES (
            NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.attempts,
            CASE WHEN NEW.finished_at IS NOT NULL AND NEW.scrubbed_at IS NULL
                 THEN md5(row(NEW.result, NEW.error)::text) END
        );
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER {TABLE}_made AFTER INSERT OR DELETE ON job
    FOR EACH ROW EXECUTE FUNCTION {TABLE}();
CREATE TRIGGER {TABLE}_changed AFTER UPDATE ON job
    FOR EACH ROW WHEN (
        OLD.state IS DISTINCT FROM NEW.state OR OLD.attempts IS DISTINCT FROM NEW.attempts
        OR OLD.result IS DISTINCT FROM NEW.result
    )
    EXECUTE FUNCTION {TABLE}();
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMove:
    """A job came, went, or changed its state, its attempts or its result."""

    job_id: str
    before: str | None
    """None where the job came."""
    after: str | None
    """None where its row went."""
    attempts: int | None
    answer: str | None
    """Digest of result and error of a finished job that still has them."""


def lay(database_url: str) -> None:
    """Lay the trail in a database that has its schema and no jobs yet."""
    url = database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_LAY.encode())
