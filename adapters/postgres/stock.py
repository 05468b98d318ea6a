"""Products, batches, orders and lines, read and written a batch of jobs at a time."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import date
from typing import Any

from adapters.postgres import stock_sql as sql
from adapters.postgres.rows import as_array, as_rows
from adapters.postgres.statements import Row, Statement, Statements
from domain.allocation.batches import Batch
from domain.allocation.commands import Policy
from domain.allocation.orders import Allocation, LineState, Order, OrderLine, Terms
from domain.allocation.products import Product
from domain.allocation.strategies import Strategy
from domain.allocation.tally import Counter, StockMovement, Tally
from domain.errors import StaleDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a transaction has yet to write, and what it took on trust."""

    movements: list[tuple[str, StockMovement]]
    glanced: dict[str, date | None]


class PostgresStock:
    """Meets `domain.allocation.ports.Stock`."""

    def __init__(self, statements: Statements, *, reached: Callable[[str], None]) -> None:
        self._statements = statements
        self._reached = reached
        self._movements: list[tuple[str, StockMovement]] = []
        self._glanced: dict[str, date | None] = {}
        """Etas by reference, of batches that were read without a lock on their product."""

    def pending(self) -> "Pending":
        """Return what is not yet written and was read unlocked, to `restore` it."""
        return Pending(movements=list(self._movements), glanced=dict(self._glanced))

    def restore(self, pending: "Pending") -> None:
        """Forget what was done since `pending` was asked: the database has forgotten it too."""
        self._movements = pending.movements
        self._glanced = pending.glanced

    def look(
        self, order_ids: Collection[str], skus: Collection[str]
    ) -> tuple[dict[str, Order], dict[str, Product]]:
        self.flush()
        orders, products = self._statements.ask_together(
            Statement(sql.ORDERS, {"ids": as_array(order_ids)}),
            Statement(sql.GLANCE, {"skus": as_array(skus)}),
        )
        return self._orders(orders), self._glance(products)

    def glance(self, skus: Collection[str]) -> dict[str, Product]:
        return self._glance(self._read(sql.GLANCE, skus=as_array(skus)))

    def _glance(self, rows: Iterable[Row]) -> dict[str, Product]:
        products: dict[str, Product] = {}
        for sku, version, reference, purchased, allocated, eta, fingerprint in rows:
            product = products.get(sku)
            if product is None:
                product = products[sku] = Product(sku=sku, version=version)
            if reference is not None:
                product.batches[reference] = _batch(
                    reference, sku, purchased, allocated, eta, fingerprint
                )
                self._glanced[reference] = eta
        self._reached("stock.glanced")
        return products

    def hold(self, skus: Collection[str], *, batches: bool) -> dict[str, Product]:
        products = {
            row.sku: Product(sku=row.sku, version=row.version)
            for row in self._read(sql.LOCK_PRODUCTS, skus=as_array(skus))
        }
        lock = " FOR NO KEY UPDATE" if batches else ""
        for row in self._read(sql.BATCHES + lock, skus=as_array(products)):
            products[row.sku].batches[row.reference] = _batch(*row)
            self._glanced.pop(row.reference, None)
        self._reached("stock.held")
        return products

    def introduce(self, skus: Collection[str]) -> None:
        self._read(
            "INSERT INTO product (sku) SELECT unnest(%(skus)s::text[]) AS sku ORDER BY sku"
            " ON CONFLICT (sku) DO NOTHING RETURNING sku",
            skus=list(skus),
        )

    def skus_of(self, references: Collection[str]) -> Mapping[str, str]:
        rows = self._read(
            "SELECT reference, sku FROM batch WHERE reference = ANY(%(references)s)",
            references=list(references),
        )
        return {row.reference: row.sku for row in rows}

    def orders(self, order_ids: Collection[str]) -> dict[str, Order]:
        return self._orders(self._read(sql.ORDERS, ids=as_array(order_ids)))

    def _orders(self, rows: Iterable[Row]) -> dict[str, Order]:
        orders = {
            row.order_id: Order(
                order_id=row.order_id, terms=_terms(row), fingerprint=row.fingerprint, lines=[]
            )
            for row in rows
        }
        if orders:
            where = " WHERE order_id = ANY(%(ids)s) ORDER BY order_id, position"
            for line in self._lines(where, ids=list(orders)):
                orders[line.order_id].lines.append(line)
        return orders

    def waiting(self, skus: Collection[str]) -> list[OrderLine]:
        return self._lines(
            " WHERE line.sku = ANY(%(skus)s) AND state = 'backordered'", skus=list(skus)
        )

    def holders(self, reference: str) -> list[OrderLine]:
        return self._lines(
            " WHERE EXISTS (SELECT FROM allocation WHERE allocation.order_id = line.order_id"
            " AND allocation.line_id = line.line_id AND batch_reference = %(reference)s)",
            reference=reference,
        )

    def complete(self, order_ids: Collection[str]) -> list[str]:
        wanted = list(order_ids)
        self._read(sql.LOCK_ORDERS, ids=wanted)
        return [row.order_id for row in self._read(sql.COMPLETE, ids=wanted)]

    def save(self, tallies: Iterable[Tally]) -> None:
        tallies = list(tallies)
        self._save_versions({sku: v for tally in tallies for sku, v in tally.versions.items()})
        self._save_batches({r: b for tally in tallies for r, b in tally.batches.items()})
        lines = {identity: line for tally in tallies for identity, line in tally.lines.items()}
        placed = [(tally.job_id, order) for tally in tallies for order in tally.orders]
        self._add_orders(placed, lines)
        new = {line.identity for _, order in placed for line in order.lines}
        self._change_lines([line for line in lines.values() if line.identity not in new])
        self._save_allocations(tallies, lines, new)
        self._movements += [
            (tally.job_id, movement) for tally in tallies for movement in tally.movements
        ]

    def flush(self) -> None:
        """Lock the batches that moved, in reference order, and move their counters.

        Raises:
            StaleDecision: A counter would leave its bounds, or an eta has moved.
        """
        if not self._movements:
            return
        movements, self._movements = self._movements, []
        totals: dict[tuple[str, Counter], int] = defaultdict(int)
        rows: list[dict[str, object]] = []
        for job_id, movement in movements:
            counter = (movement.batch_reference, movement.counter)
            rows.append(
                {
                    "job_id": job_id,
                    "cause": movement.cause,
                    "sku": movement.sku,
                    "batch_reference": movement.batch_reference,
                    "counter": movement.counter,
                    "already": totals[counter],
                    "change": movement.change,
                    "order_id": movement.order_id,
                    "line_id": movement.line_id,
                    "place": len(rows),
                }
            )
            totals[counter] += movement.change
        references = list({reference for reference, _ in totals})
        changes = [
            {
                "reference": reference,
                "purchased": totals[reference, Counter.PURCHASED],
                "allocated": totals[reference, Counter.ALLOCATED],
                "glanced": reference in self._glanced,
                "eta": self._glanced.get(reference),
            }
            for reference in references
        ]
        self._reached("stock.before_move")
        self._statements.tell(
            sql.MOVE,
            {
                "references": as_array(references),
                "changes": as_rows(changes),
                "movements": as_rows(rows),
            },
            check=_all(references, "batches have too few units left, or another eta"),
        )

    def _read(self, statement: str, **parameters: Any) -> Sequence[Any]:
        # What is read includes what this transaction has saved.
        self.flush()
        return self._statements.ask(statement, parameters)

    def _lines(self, where: str, **parameters: Any) -> list[OrderLine]:
        lines = {
            (row.order_id, row.line_id): OrderLine(
                order_id=row.order_id,
                line_id=row.line_id,
                sku=row.sku,
                quantity=row.quantity,
                terms=_terms(row),
                state=LineState(row.state),
            )
            for row in self._read(sql.LINES + where, **parameters)
        }
        if lines:
            held = self._read(
                sql.ALLOCATIONS,
                order_ids=[order_id for order_id, _ in lines],
                line_ids=[line_id for _, line_id in lines],
            )
            for row in held:
                line = lines[row.order_id, row.line_id]
                line.allocations[row.batch_reference] = _allocation(row)
        return list(lines.values())

    def _save_versions(self, versions: Mapping[str, int]) -> None:
        self._write_rows(
            sql.VERSIONS, [{"sku": sku, "version": version} for sku, version in versions.items()]
        )

    def _save_batches(self, batches: Mapping[str, Batch]) -> None:
        self._write_rows(
            sql.SET_BATCHES,
            [
                {
                    "reference": batch.reference,
                    "sku": batch.sku,
                    "eta": batch.eta,
                    "fingerprint": batch.fingerprint,
                }
                for batch in batches.values()
            ],
            check=_all(batches, "batches were created meanwhile"),
        )

    def _add_orders(
        self, placed: Sequence[tuple[str, Order]], lines: Mapping[tuple[str, str], OrderLine]
    ) -> None:
        self._write_rows(
            sql.NEW_ORDERS,
            [
                {
                    "order_id": order.order_id,
                    "policy": order.terms.policy,
                    "may_split": order.terms.may_split,
                    "strategy": order.terms.strategy,
                    "priority": order.terms.priority,
                    "fingerprint": order.fingerprint,
                    "job_id": job_id,
                }
                for job_id, order in placed
            ],
            check=_all(placed, "orders were placed meanwhile"),
        )
        self._write_rows(
            sql.NEW_LINES,
            [
                # A refused order may be decided again later in the same batch of jobs.
                _line_row(lines.get(line.identity, line)) | {"position": position, "sku": line.sku}
                for _, order in placed
                for position, line in enumerate(order.lines)
            ],
        )

    def _change_lines(self, lines: Sequence[OrderLine]) -> None:
        self._write_rows(sql.CHANGED_LINES, [_line_row(line) for line in lines])

    def _save_allocations(
        self,
        tallies: Sequence[Tally],
        lines: Mapping[tuple[str, str], OrderLine],
        new: Collection[tuple[str, str]],
    ) -> None:
        # What moved is what changed; the last job to move it is the one to name.
        moved = {
            (movement.order_id, movement.line_id, movement.batch_reference): tally.job_id
            for tally in tallies
            for movement in tally.movements
            if movement.order_id is not None and movement.line_id is not None
        }
        first: list[dict[str, object]] = []
        held: list[dict[str, object]] = []
        released: list[dict[str, object]] = []
        for (order_id, line_id, reference), job_id in moved.items():
            row: dict[str, object] = {
                "order_id": order_id,
                "line_id": line_id,
                "batch_reference": reference,
            }
            allocation = lines[order_id, line_id].allocations.get(reference)
            if allocation is None:
                released.append(row)
            else:
                row |= {
                    "quantity": allocation.quantity,
                    "strategy": allocation.strategy,
                    "ranking": allocation.ranking,
                    "job_id": job_id,
                }
                # A line that was just written has nothing yet that could be in the way.
                (first if (order_id, line_id) in new else held).append(row)
        self._write_rows(sql.RELEASE, released)
        self._write_rows(sql.NEW_ALLOCATIONS, first)
        self._write_rows(sql.ALLOCATE, held)

    def _write_rows(
        self,
        statement: str,
        rows: Sequence[Mapping[str, object]],
        *,
        check: Callable[[int], None] | None = None,
    ) -> None:
        if rows:
            self._statements.tell(statement, {"rows": as_rows(rows)}, check=check)


def _all(wanted: Sized, otherwise: str) -> Callable[[int], None]:
    """Check that as many rows are written as are wanted; or else the decision is stale."""

    def check(written: int) -> None:
        if written != len(wanted):
            raise StaleDecision(f"{len(wanted) - written} {otherwise}")

    return check


def _line_row(line: OrderLine) -> dict[str, object]:
    return {
        "order_id": line.order_id,
        "line_id": line.line_id,
        "quantity": line.quantity,
        "state": line.state,
    }


def _batch(  # noqa: PLR0917  the columns of a batch, of which there are thousands a second
    reference: str,
    sku: str,
    purchased: int,
    allocated: int,
    eta: date | None,
    fingerprint: str,
) -> Batch:
    return Batch(
        reference=reference,
        sku=sku,
        purchased=purchased,
        allocated=allocated,
        eta=eta,
        fingerprint=fingerprint,
    )


def _terms(row: Row) -> Terms:
    return Terms(
        policy=Policy(row.policy),
        may_split=row.may_split,
        strategy=Strategy(row.strategy),
        priority=row.priority,
        sequence=row.sequence,
    )


def _allocation(row: Row) -> Allocation:
    return Allocation(
        batch_reference=row.batch_reference,
        quantity=row.quantity,
        eta=row.eta,
        strategy=Strategy(row.strategy),
        ranking=tuple(
            (reference, available, date.fromisoformat(eta) if eta else None)
            for reference, available, eta in row.ranking
        ),
    )
