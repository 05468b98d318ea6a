"""The schema: every table, constraint and index, and the one source that migrations follow."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _moment(name: str) -> Column[datetime]:
    return Column(name, DateTime(timezone=True))


def _now(name: str) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("door", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("payload", JSONB, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    _moment("run_after"),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("max_attempts", SmallInteger, nullable=False),
    Column("dispatches", Integer, nullable=False, server_default=text("0")),
    _moment("next_dispatch"),
    Column("result", JSONB),
    Column("error", JSONB),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("parent_id", Text),
    _now("created_at"),
    # When the transaction began that decided it: until then it waited, from then on it ran.
    _moment("began_at"),
    _moment("finished_at"),
    _moment("scrubbed_at"),
    CheckConstraint("char_length(id) BETWEEN 1 AND 255", name="id_length"),
    CheckConstraint("door IN ('celery', 'ledger')", name="door"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
    CheckConstraint("attempts BETWEEN 0 AND max_attempts", name="attempts"),
    CheckConstraint(
        "state IN ('queued', 'retry', 'succeeded', 'rejected', 'dead', 'cancelled')", name="state"
    ),
    CheckConstraint("(state IN ('queued', 'retry')) = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state IN ('queued', 'retry')) = (next_dispatch IS NOT NULL)", name="due"),
    CheckConstraint("(state = 'succeeded') = (result IS NOT NULL)", name="result"),
    CheckConstraint("state NOT IN ('rejected', 'dead') OR error IS NOT NULL", name="error"),
    # The relay's question: what is due in this queue, most urgent first?
    Index(
        "ix_job_due",
        "queue",
        text("priority DESC"),
        "next_dispatch",
        postgresql_where=text("state IN ('queued', 'retry')"),
    ),
    # Operators list what is new and what went wrong; retention deletes what is old.
    Index("ix_job_created_at", "created_at"),
    Index("ix_job_dead", "finished_at", postgresql_where=text("state = 'dead'")),
    Index("ix_job_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    # A job that succeeds never enters these: what few jobs come to must not cost all of them.
    Index(
        "ix_job_state",
        "state",
        "created_at",
        postgresql_where=text("state IN ('retry', 'rejected', 'dead', 'cancelled')"),
    ),
    Index(
        "ix_job_error",
        text("(error ->> 'type')"),
        "created_at",
        postgresql_where=text("error IS NOT NULL"),
    ),
    # An import, or a producer, follows what it submitted together; a job by itself stays out.
    Index(
        "ix_job_correlation_id",
        "correlation_id",
        postgresql_where=text("correlation_id <> id"),
    ),
    # Erasing a person finds every job that speaks of them.
    Index(
        "ix_job_user_id",
        text("(payload ->> 'user_id')"),
        postgresql_where=text("queue = 'users'"),
    ),
    Index(
        "ix_job_email",
        text("lower(payload ->> 'email')"),
        postgresql_where=text("queue = 'users'"),
    ),
)

job_failure = Table(
    "job_failure",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("attempt", SmallInteger, nullable=False),
    Column("error", JSONB, nullable=False),
    Column("worker", Text, nullable=False),
    # Where in a trace it failed: the next attempt points there.
    Column("traceparent", Text),
    _now("failed_at"),
)

# `tallyman migrate upgrade` brings it up to date; `tallyman_submit`, in SQL, asks it.
job_kind = Table(
    "job_kind",
    metadata,
    Column("name", Text, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("max_attempts", SmallInteger, nullable=False),
    comment="The kinds that releases brought, for who submits with SQL",
)

queue = Table(
    "queue",
    metadata,
    Column("name", Text, primary_key=True),
    _moment("paused_at"),
    Column("pause_reason", Text),
    Column("priority", SmallInteger, nullable=False, server_default=text("0")),
    Column("jobs_per_second", Double),
    # When the rate allows the next job; behind the clock, it allows one now.
    _moment("next_job_at"),
    Column("most_waiting", Integer),
    _now("changed_at"),
    CheckConstraint("priority BETWEEN -9 AND 9", name="priority"),
    CheckConstraint("jobs_per_second BETWEEN 0.001 AND 1000000", name="rate"),
    CheckConstraint("most_waiting BETWEEN 1 AND 10000000", name="most_waiting"),
    CheckConstraint("pause_reason IS NULL OR paused_at IS NOT NULL", name="pause"),
    comment="What operators have set for a queue; one without a row runs as it comes",
)

# What a relay saw at its last look: producers and operators ask this, and count nothing.
queue_gauge = Table(
    "queue_gauge",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("waiting", Integer, nullable=False),
    # When the job became due that waits longest; nothing where no job waits to be handed out.
    _moment("due_since"),
    Column("jobs_per_second", Double, nullable=False),
    # Nothing while the broker is away.
    Column("messages", Integer),
    Column("measured_at", DateTime(timezone=True), nullable=False),
    # The next look comes before this, if a relay runs.
    Column("good_until", DateTime(timezone=True), nullable=False),
    comment="How much waits in each queue, as a relay measured it",
)

parked_message = Table(
    "parked_message",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("task", Text),
    Column("message_id", Text),
    Column("content_type", Text),
    Column("form", Text, nullable=False),
    Column("content", LargeBinary),
    Column("size", BigInteger, nullable=False),
    # The same for copies of one message: they are counted.
    Column("digest", LargeBinary, nullable=False),
    Column("copies", BigInteger, nullable=False, server_default=text("1")),
    _now("parked_at"),
    _now("last_parked_at"),
    Column("closed_as", Text),
    _moment("closed_at"),
    CheckConstraint("form IN ('message', 'bytes')", name="form"),
    CheckConstraint("octet_length(content) <= size", name="size"),
    CheckConstraint("copies >= 1", name="copies"),
    CheckConstraint("closed_as IN ('requeued', 'dropped')", name="closed_as"),
    CheckConstraint("(closed_as IS NULL) = (closed_at IS NULL)", name="closed"),
    CheckConstraint("closed_at IS NULL OR content IS NULL", name="forgotten"),
    Index(
        "uq_parked_message_open", "digest", unique=True, postgresql_where=text("closed_at IS NULL")
    ),
    Index("ix_parked_message_closed_at", "closed_at"),
    comment="Messages that are no job: kept as they came, until an operator has seen them",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("event_id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    Column("name", Text, nullable=False),
    Column("aggregate", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("correlation_id", Text),
    # Where in a trace it has happened: who publishes it carries on from there.
    Column("traceparent", Text),
    _now("occurred_at"),
    _moment("published_at"),
    Index("ix_outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),
    # Rows lie about as they were published. It costs those who write next to nothing, and has what
    # was published last found by a relay that begins.
    Index(
        "ix_outbox_published_at",
        "published_at",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    ),
)

# Tallies: what happened, counted in the transaction that made it so. Rows of one key add up; now
# and then many are replaced by few. Nobody updates one, so nobody waits for another.
job_tally = Table(
    "job_tally",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", Text, nullable=False),
    # The state that jobs came to; `queued` where an operator had dead ones tried again.
    Column("state", Text, nullable=False),
    Column("error", Text),
    # Upper bounds, in seconds, of how long they took from acceptance and in their last attempt.
    Column("waited_below", Double),
    Column("took_below", Double),
    Column("jobs", BigInteger, nullable=False),
    Column("waited", Double, nullable=False, server_default=text("0")),
    Column("took", Double, nullable=False, server_default=text("0")),
    comment="How jobs went, for metrics",
)

event_tally = Table(
    "event_tally",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("label", Text, nullable=False, server_default=text("''")),
    # Hours since 1970, for what is forgotten after a day.
    Column("hour", Integer),
    Column("number", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False, server_default=text("0")),
    comment="What happened to orders, stock, users and imports, for metrics",
)

product = Table(
    "product",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
)

batch = Table(
    "batch",
    metadata,
    Column("reference", Text, primary_key=True),
    Column("sku", Text, ForeignKey("product.sku"), nullable=False, index=True),
    Column("purchased", Integer, nullable=False),
    Column("allocated", Integer, nullable=False, server_default=text("0")),
    Column("eta", Date),
    Column("fingerprint", Text, nullable=False),
    _now("created_at"),
    CheckConstraint("allocated BETWEEN 0 AND purchased", name="allocated_within_purchased"),
)

sales_order = Table(
    "sales_order",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("sequence", BigInteger, Identity(), nullable=False, unique=True),
    Column("policy", Text, nullable=False),
    Column("may_split", Boolean, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    _now("created_at"),
    CheckConstraint("policy IN ('all_or_nothing', 'partial', 'backorder')", name="policy"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
)

order_line = Table(
    "order_line",
    metadata,
    # No foreign key: order and lines are written together, and trigger `order_stays` keeps them so.
    Column("order_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    # Products are found before this is written, and one with a batch cannot be deleted.
    Column("sku", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("state", Text, nullable=False),
    CheckConstraint("quantity >= 1", name="quantity"),
    CheckConstraint(
        "state IN ('allocated', 'partially_allocated', 'backordered', 'rejected', 'cancelled')",
        name="state",
    ),
    # Who waits for this product? Which orders did not get all they asked for?
    Index("ix_order_line_state", "state", "sku", postgresql_where=text("state <> 'allocated'")),
)

allocation = Table(
    "allocation",
    metadata,
    # No foreign key: what a line holds is written with it or under its lock, and trigger
    # `line_stays` keeps the line.
    Column("order_id", Text, primary_key=True),
    Column("line_id", Text, primary_key=True),
    # No foreign key: it would lock the batches that everybody wants, twice for every line. The
    # statement that moves stock finds its batches or does nothing, and trigger `batch_stays`
    # keeps them.
    Column("batch_reference", Text, primary_key=True, index=True),
    Column("quantity", Integer, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("ranking", JSONB, nullable=False),
    Column("job_id", Text, nullable=False),
    _now("allocated_at"),
    CheckConstraint("quantity >= 1", name="quantity"),
)

stock_movement = Table(
    "stock_movement",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("job_id", Text, nullable=False, index=True),
    Column("cause", Text, nullable=False),
    Column("sku", Text, nullable=False),
    Column("batch_reference", Text, nullable=False, index=True),
    Column("counter", Text, nullable=False),
    Column("before", Integer, nullable=False),
    Column("after", Integer, nullable=False),
    Column("order_id", Text),
    Column("line_id", Text),
    _now("occurred_at"),
    CheckConstraint("counter IN ('purchased', 'allocated')", name="counter"),
    CheckConstraint("before >= 0 AND after >= 0 AND before <> after", name="moves"),
)

user_account = Table(
    "user_account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("external_id", Text, unique=True),
    Column("username", Text),
    Column("username_key", Text, unique=True),
    Column("email", Text),
    Column("email_key", Text, unique=True),
    Column("email_verified", Boolean, nullable=False, server_default=text("false")),
    Column("name", Text),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("password_hash", Text),
    _now("created_at"),
    _now("updated_at"),
    CheckConstraint(
        "status IN ('pending', 'active', 'inactive', 'banned', 'erased')", name="status"
    ),
    CheckConstraint("char_length(username) <= 50", name="username_length"),
    CheckConstraint("char_length(email) <= 254", name="email_length"),
    CheckConstraint(
        "CASE WHEN status = 'erased'"
        " THEN num_nonnulls("
        "username, username_key, email, email_key, name, password_hash, external_id) = 0"
        " ELSE num_nulls(username, username_key, email, email_key, name) = 0 END",
        name="erased",
    ),
    # Operators list who is new, and who is not as most are.
    Index("ix_user_account_created_at", "created_at"),
    Index(
        "ix_user_account_status",
        "status",
        "created_at",
        postgresql_where=text("status <> 'active'"),
    ),
)

erased_identity = Table(
    "erased_identity",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    _now("erased_at"),
    comment="SHA-256 of what an erased person was known by, so that imports do not bring them back",
)

import_run = Table(
    "import_run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("source", Text),
    Column("file_name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, index=True),
    Column("plan", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_checked", Boolean, nullable=False),
    Column("chunks", Integer, nullable=False, server_default=text("0")),
    Column("next_chunk", Integer, nullable=False, server_default=text("1")),
    Column("rows", Integer, nullable=False, server_default=text("0")),
    Column("rows_done", Integer, nullable=False, server_default=text("0")),
    Column("ends", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("skipped", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("resumed", Integer, nullable=False, server_default=text("0")),
    _now("created_at"),
    _moment("finished_at"),
    CheckConstraint(
        "state IN ('checking', 'running', 'finished', 'refused', 'cancelled')", name="state"
    ),
    CheckConstraint("(state IN ('checking', 'running')) = (finished_at IS NULL)", name="finished"),
    # Every row comes to exactly one end.
    CheckConstraint("state <> 'finished' OR rows_done = rows", name="rows"),
    Index("ix_import_run_created_at", "created_at"),
)

import_chunk = Table(
    "import_chunk",
    metadata,
    Column("run_id", Text, ForeignKey("import_run.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_line", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("content", LargeBinary, comment="The rows as JSON; gone once they are imported"),
    Column("job_id", Text),
    Column("ends", JSONB),
    _moment("finished_at"),
)

import_error = Table(
    "import_error",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("run_id", Text, ForeignKey("import_run.id", ondelete="CASCADE"), nullable=False),
    Column("line", Integer, nullable=False),
    Column("column_name", Text),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("value", Text),
    Column("is_personal", Boolean, nullable=False, server_default=text("false")),
    Index("ix_import_error_run_id", "run_id", "line"),
    # Erasing a person finds what was wrong about them.
    Index(
        "ix_import_error_value",
        text("lower(value)"),
        postgresql_where=text("is_personal AND value IS NOT NULL"),
    ),
)
