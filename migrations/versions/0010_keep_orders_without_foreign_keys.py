"""keep orders without foreign keys."""

from collections.abc import Sequence

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What a foreign key would refuse at the side of orders and lines, which nobody deletes; the other
# side is held by whoever writes: an order, its lines and what these hold come in one transaction,
# which finds that the order is new.
RULES = (
    """
    CREATE FUNCTION refuse_lost_order() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM order_line WHERE order_id = OLD.order_id) THEN
            RAISE EXCEPTION 'order % has lines and has to stay', OLD.order_id
                USING ERRCODE = 'foreign_key_violation';
        END IF;
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER order_stays BEFORE DELETE OR UPDATE OF order_id ON sales_order
    FOR EACH ROW EXECUTE FUNCTION refuse_lost_order()
    """,
    """
    CREATE FUNCTION refuse_lost_line() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM allocation WHERE order_id = OLD.order_id AND line_id = OLD.line_id
        ) THEN
            RAISE EXCEPTION 'line % of order % holds stock and has to stay',
                OLD.line_id, OLD.order_id USING ERRCODE = 'foreign_key_violation';
        END IF;
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER line_stays BEFORE DELETE OR UPDATE OF order_id, line_id ON order_line
    FOR EACH ROW EXECUTE FUNCTION refuse_lost_line()
    """,
)


def upgrade() -> None:
    op.drop_constraint("fk_order_line_order_id", "order_line", type_="foreignkey")
    op.drop_constraint("fk_allocation_order_id_line_id", "allocation", type_="foreignkey")
    for rule in RULES:
        op.execute(rule)


def downgrade() -> None:
    raise RuntimeError(
        "migrations go forward only: restore a backup, or write the revision that undoes this one"
    )
