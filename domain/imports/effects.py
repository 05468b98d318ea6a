"""What the rows of a chunk do: the handlers of single jobs, and what they say of each row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.allocation.orders import LineState, OrderState
from domain.allocation.placing import allocate_orders
from domain.allocation.services import create_batches
from domain.errors import DomainError
from domain.imports.ports import ImportWork
from domain.imports.reading import Item
from domain.imports.rows import Row
from domain.imports.runs import Report, RowEnd, RowError, Run
from domain.imports.targets import Target
from domain.jobs.model import Request
from domain.jobs.outcomes import Json, Rejected, Succeeded
from domain.messages import Event
from domain.users.ports import Users
from domain.users.services import register_users


class Effect(Protocol):
    """Lets items take effect, in order, and reports on their rows."""

    @property
    def personal(self) -> bool: ...

    def take(self, items: Sequence[Item]) -> Report: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Orders find stock in the order of the file."""

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
        report = Report()
        for item, outcome in zip(items, allocate_orders(requests, self.work), strict=True):
            match outcome:
                case Succeeded() if item.command.order_id in known:
                    report.ends[RowEnd.UNCHANGED] += len(item.rows)
                case Succeeded(result=result):
                    _count_lines(report, item, result)
                    known.add(item.command.order_id)
                case Rejected(error=error):
                    _refuse(report, item.rows, error)
        return report


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Batches are announced."""

    work: ImportWork
    job_id: str
    personal: bool = False

    def take(self, items: Sequence[Item]) -> Report:
        known = set(self.work.stock.skus_of({item.command.reference for item in items}))
        requests = [Request(job_id=self.job_id, command=item.command) for item in items]
        report = Report()
        for item, outcome in zip(items, create_batches(requests, self.work), strict=True):
            match outcome:
                case Succeeded() if item.command.reference in known:
                    report.ends[RowEnd.UNCHANGED] += 1
                case Succeeded():
                    report.ends[RowEnd.CREATED] += 1
                    known.add(item.command.reference)
                case Rejected(error=error):
                    _refuse(report, item.rows, error)
        return report


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRows:
    """Users are registered."""

    run: Run
    work: ImportWork
    job_id: str
    personal: bool = True

    def take(self, items: Sequence[Item]) -> Report:
        requests = [
            Request(job_id=f"{self.run.id}-{item.rows[0].line:09d}", command=item.command)
            for item in items
        ]
        present = self.work.users.matching(
            ids={request.command.user_id or request.job_id for request in requests}, keys=()
        )
        known = {user.id for user in present}
        report = Report()
        work = _InTheNameOf(self.work, self.job_id)
        for item, outcome in zip(items, register_users(requests, work), strict=True):
            match outcome:
                case Succeeded(result=result) if result["user_id"] in known:
                    report.ends[RowEnd.UNCHANGED] += 1
                case Succeeded():
                    report.ends[RowEnd.CREATED] += 1
                case Rejected(error=error):
                    _refuse(report, item.rows, error)
        return report


class _InTheNameOf:
    """Users' work whose events are of the job that imports them, whatever user they are of."""

    def __init__(self, work: ImportWork, job_id: str) -> None:
        self._work = work
        self._job_id = job_id

    @property
    def users(self) -> Users:
        return self._work.users

    def record(self, job_id: str, events: Iterable[Event]) -> None:  # noqa: ARG002  whose it would be alone
        self._work.record(self._job_id, events)


Make = Callable[[Run, str, ImportWork], Effect]

EFFECTS: Mapping[Target, Make] = {
    Target.ORDERS: lambda _, job_id, work: Orders(work=work, job_id=job_id),
    Target.BATCHES: lambda _, job_id, work: Batches(work=work, job_id=job_id),
    Target.USERS: lambda run, job_id, work: UserRows(run=run, work=work, job_id=job_id),
}

_ENDS = {
    LineState.ALLOCATED: RowEnd.ALLOCATED,
    LineState.PARTIALLY_ALLOCATED: RowEnd.ALLOCATED,
    LineState.BACKORDERED: RowEnd.BACKORDERED,
    LineState.REJECTED: RowEnd.REFUSED,
    LineState.CANCELLED: RowEnd.UNCHANGED,
}


def _count_lines(report: Report, item: Item, result: Json) -> None:
    states = {line["line_id"]: LineState(line["state"]) for line in result["lines"]}
    for row, line in zip(item.rows, item.command.lines, strict=True):
        end = _ENDS[states[line.line_id]]
        report.ends[end] += 1
        if end is RowEnd.REFUSED:
            message = f"line {line.line_id} of order {item.command.order_id!r} found no stock"
            report.errors.append(_error(row, "OutOfStock", message))


def _refuse(report: Report, rows: Sequence[Row], error: DomainError) -> None:
    report.ends[RowEnd.REFUSED] += len(rows)
    report.errors += [_error(row, error.code, error.message) for row in rows]


def _error(row: Row, code: str, message: str) -> RowError:
    return RowError(
        line=row.line, column=None, code=code, message=message, value="|".join(row.cells)
    )
