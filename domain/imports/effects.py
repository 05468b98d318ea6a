"""What the rows of a chunk do: the handlers of single jobs, and what they say of each row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.allocation.orders import LineState, OrderState
from domain.allocation.placing import allocate_orders
from domain.allocation.services import create_batches
from domain.imports.ports import ImportWork
from domain.imports.reading import Item
from domain.imports.reporting import Reporter
from domain.imports.runs import Report, RowEnd, Run
from domain.imports.targets import Target
from domain.imports.user_rows import UserRows
from domain.jobs.model import Request
from domain.jobs.outcomes import Json, Rejected, Succeeded


class Effect(Protocol):
    """Lets items take effect, in order, and reports on their rows."""

    @property
    def personal(self) -> bool: ...

    def take(self, items: Sequence[Item]) -> Report: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Orders find stock in the order of the file."""

    run: Run
    work: ImportWork
    job_id: str
    personal: bool = False

    def take(self, items: Sequence[Item]) -> Report:
        ids = {item.command.order_id for item in items}
        known = {
            order_id
            for order_id, order in self.work.stock.orders(ids).items()
            if order.state is not OrderState.REJECTED
        }
        requests = [Request(job_id=self.job_id, command=item.command) for item in items]
        reporter = Reporter(plan=self.run.plan)
        ends = reporter.report.ends
        for item, outcome in zip(items, allocate_orders(requests, self.work), strict=True):
            match outcome:
                case Succeeded() if item.command.order_id in known:
                    ends[RowEnd.UNCHANGED] += len(item.rows)
                case Succeeded(result=result):
                    _count_lines(reporter, item, result)
                    known.add(item.command.order_id)
                case Rejected(error=error):
                    reporter.refuse(item.rows, error)
        return reporter.report


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batches are announced."""

    run: Run
    work: ImportWork
    job_id: str
    personal: bool = False

    def take(self, items: Sequence[Item]) -> Report:
        known = set(self.work.stock.skus_of({item.command.reference for item in items}))
        requests = [Request(job_id=self.job_id, command=item.command) for item in items]
        reporter = Reporter(plan=self.run.plan)
        ends = reporter.report.ends
        for item, outcome in zip(items, create_batches(requests, self.work), strict=True):
            match outcome:
                case Succeeded() if item.command.reference in known:
                    ends[RowEnd.UNCHANGED] += 1
                case Succeeded():
                    ends[RowEnd.CREATED] += 1
                    known.add(item.command.reference)
                case Rejected(error=error):
                    reporter.refuse(item.rows, error)
        return reporter.report


Make = Callable[[Run, str, ImportWork], Effect]

EFFECTS: Mapping[Target, Make] = {
    Target.ORDERS: lambda run, job_id, work: Orders(run=run, work=work, job_id=job_id),
    Target.BATCHES: lambda run, job_id, work: Batches(run=run, work=work, job_id=job_id),
    Target.USERS: lambda run, job_id, work: UserRows(run=run, work=work, job_id=job_id),
}

_ENDS = {
    LineState.ALLOCATED: RowEnd.ALLOCATED,
    LineState.PARTIALLY_ALLOCATED: RowEnd.ALLOCATED,
    LineState.BACKORDERED: RowEnd.BACKORDERED,
    LineState.REJECTED: RowEnd.REFUSED,
    LineState.CANCELLED: RowEnd.UNCHANGED,
}


def _count_lines(reporter: Reporter, item: Item, result: Json) -> None:
    states = {line["line_id"]: LineState(line["state"]) for line in result["lines"]}
    for row, line in zip(item.rows, item.command.lines, strict=True):
        end = _ENDS[states[line.line_id]]
        if end is RowEnd.REFUSED:
            reporter.refuse_row(
                row,
                "OutOfStock",
                f"line {line.line_id} of order {item.command.order_id!r} found no stock",
                field="sku",
            )
        else:
            reporter.report.ends[end] += 1
