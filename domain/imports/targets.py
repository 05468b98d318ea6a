"""What a file can be imported as: batches, orders or users."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from domain.allocation.commands import AllocateOrder, CreateBatch, Line
from domain.allocation.errors import InvalidOrder
from domain.errors import DomainError
from domain.imports.columns import Columns
from domain.imports.fields import Field, fields_of, payload
from domain.imports.rows import ImportJob, Planned, Reject, Row
from domain.users.commands import RegisterUser

Plan = Callable[[Iterable[Row | Reject], Columns, Mapping[str, Field]], Iterator[Planned]]

_LINE_FIELDS = frozenset(each.name for each in fields(Line))


class Target(StrEnum):
    """What the rows of a file are."""

    BATCHES = "batches"
    ORDERS = "orders"
    USERS = "users"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """How rows become jobs of one kind."""

    kind: str
    fields: Mapping[str, Field]
    plan: Plan

    def jobs(self, rows: Iterable[Row | Reject], columns: Columns) -> Iterator[Planned]:
        """Yield a job or a reject for every row; rows that were rejected before pass through."""
        return self.plan(rows, columns, self.fields)


def job_per_row(
    rows: Iterable[Row | Reject], columns: Columns, known: Mapping[str, Field]
) -> Iterator[Planned]:
    """Make a job of each row, as it is read."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            values = payload(columns.cells(row), known)
        except DomainError as error:
            yield Reject.of(row, error)
        else:
            yield ImportJob(payload=values, rows=(row,))


def job_per_order(
    rows: Iterable[Row | Reject], columns: Columns, known: Mapping[str, Field]
) -> Iterator[Planned]:
    """Make a job of all rows of an order; rejects come as they are found, jobs at the end.

    A line without an id has its position among the order's rows in the file, so that it can be
    found there. What holds for the whole order is said by its first usable row; a row that says
    otherwise is rejected.
    """
    orders: dict[str, _Order] = {}
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        cells = columns.cells(row)
        order = orders.get(cells["order_id"])
        if order is None:
            order = orders[cells["order_id"]] = _Order(order_id=cells["order_id"])
        order.seen += 1
        try:
            order.add(row, cells, known)
        except DomainError as error:
            yield Reject.of(row, error)
    for order in orders.values():
        if order.lines:
            yield ImportJob(
                payload={**order.terms, "lines": list(order.lines.values())},
                rows=tuple(order.rows),
            )


@dataclass(slots=True, kw_only=True)
class _Order:
    order_id: str
    told: dict[str, str] = field(default_factory=dict)
    """Cells that `terms` were read from."""
    terms: dict[str, object] = field(default_factory=dict)
    lines: dict[object, dict[str, object]] = field(default_factory=dict)
    """By line id."""
    rows: list[Row] = field(default_factory=list)
    seen: int = 0

    def add(self, row: Row, cells: Mapping[str, str], known: Mapping[str, Field]) -> None:
        of_line = {name: text for name, text in cells.items() if name in _LINE_FIELDS}
        told = {name: text for name, text in cells.items() if name not in _LINE_FIELDS}
        # Most rows of an order say of it what the one before said, to the letter.
        terms = self.terms if told == self.told else payload(told, known)
        line = payload(of_line, known)
        line_id = line.setdefault("line_id", str(self.seen))
        Line(**line)  # type: ignore[arg-type]  # for its refusals: each cell was read as its field
        if line_id in self.lines:
            raise InvalidOrder(
                f"order {self.order_id!r} has line {line_id!r} already; line ids are unique"
            )
        if self.lines and terms != self.terms:
            differing = [name for name in known if terms.get(name) != self.terms.get(name)]
            raise InvalidOrder(
                f"the row and the first row of order {self.order_id!r} differ in"
                f" {', '.join(differing)}: what holds for an order must be the same in all its rows"
            )
        self.told = told
        self.terms = terms
        self.lines[line_id] = line
        self.rows.append(row)


IMPORTS: Mapping[Target, Import] = {
    Target.BATCHES: Import(kind=CreateBatch.kind, fields=fields_of(CreateBatch), plan=job_per_row),
    Target.ORDERS: Import(
        kind=AllocateOrder.kind,
        fields={
            name: each
            for name, each in {**fields_of(AllocateOrder), **fields_of(Line)}.items()
            if name != "lines"
        },
        plan=job_per_order,
    ),
    Target.USERS: Import(kind=RegisterUser.kind, fields=fields_of(RegisterUser), plan=job_per_row),
}
