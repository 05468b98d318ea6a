"""The textbook's way: an aggregate of the ORM per line, its row locked, on stock Celery.

Written from the description in "Architecture Patterns with Python" (chapters 6 to 11): a unit of
work around one session, a repository that gets the product `FOR UPDATE`, batches in order of
their eta, one transaction for each message.
"""

import os
from datetime import date

from celery import Celery
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

app = Celery(broker=os.environ.get("TALLYMAN_BROKER_URL"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_default_queue="textbook",
)


class Base(DeclarativeBase):
    """The textbook's tables."""


class OrderLine(Base):
    """A line of an order."""

    __tablename__ = "book_order_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str]
    sku: Mapped[str]
    quantity: Mapped[int]


class Allocation(Base):
    """A line that a batch serves."""

    __tablename__ = "book_allocation"

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("book_order_line.id"))
    batch_id: Mapped[int] = mapped_column(ForeignKey("book_batch.id"), index=True)
    line: Mapped[OrderLine] = relationship(lazy="joined")


class Batch(Base):
    """Stock of one product; what is allocated of it is a counter, or it would load every line."""

    __tablename__ = "book_batch"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(unique=True)
    sku: Mapped[str] = mapped_column(ForeignKey("book_product.sku"), index=True)
    purchased: Mapped[int]
    allocated: Mapped[int] = mapped_column(default=0)
    eta: Mapped[date | None]

    def can_allocate(self, quantity: int) -> bool:
        return self.purchased - self.allocated >= quantity


class Product(Base):
    """The aggregate: its version goes up with each allocation."""

    __tablename__ = "book_product"

    sku: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=0)
    batches: Mapped[list[Batch]] = relationship()

    def allocate(self, line: OrderLine) -> Batch | None:
        ranked = sorted(self.batches, key=lambda batch: (batch.eta is not None, batch.eta))
        batch = next((batch for batch in ranked if batch.can_allocate(line.quantity)), None)
        if batch is not None:
            batch.allocated += line.quantity
            self.version += 1
        return batch


_sessions: list[sessionmaker[Session]] = []


def _session() -> Session:
    if not _sessions:
        engine = create_engine(os.environ["TALLYMAN_DATABASE_URL"], pool_size=1)
        _sessions.append(sessionmaker(engine))
    return _sessions[0]()


@app.task(name="textbook.allocate", acks_late=True)
def allocate(order_id: str, sku: str, quantity: int) -> None:
    """Allocate one line."""
    with _session() as session:
        product = session.scalars(select(Product).where(Product.sku == sku).with_for_update()).one()
        line = OrderLine(order_id=order_id, sku=sku, quantity=quantity)
        batch = product.allocate(line)
        session.add(line)
        if batch is not None:
            session.add(Allocation(line=line, batch_id=batch.id))
        session.commit()
