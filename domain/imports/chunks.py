"""Importing a chunk: its rows become commands of single jobs, handled as one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.imports.commands import ImportChunk, ImportFile
from domain.imports.effects import EFFECTS, Effect
from domain.imports.errors import ImportRefused, RowsBroken, RunNotFound
from domain.imports.events import ImportEnded
from domain.imports.ports import ImportWork
from domain.imports.reading import Item, Reader
from domain.imports.reporting import Reporter
from domain.imports.rows import Reject, Row
from domain.imports.runs import Report, RowEnd, Run, RunState
from domain.imports.taking import hand_over_chunk
from domain.imports.targets import Target
from domain.jobs.model import Request
from domain.jobs.outcomes import Answer, Postponed, Rejected, Succeeded


def import_chunks(requests: Sequence[Request[ImportChunk]], work: ImportWork) -> list[Answer]:
    """Import the next chunk of each run, and hand over the job of the one after it."""
    return [_import_chunk(request, work) for request in requests]


def import_files(requests: Sequence[Request[ImportFile]], work: ImportWork) -> list[Answer]:
    """Answer for runs that are over; the job of one that is not stays as it is."""
    return [_answer(request.command.run_id, work) for request in requests]


def _import_chunk(request: Request[ImportChunk], work: ImportWork) -> Answer:
    run = work.imports.locked(request.command.run_id)
    if run is None:
        return Rejected(error=RunNotFound.of(request.command.run_id))
    number = request.command.number
    if not run.expects(number, job_id=request.job_id):
        return Succeeded(result={"run_id": run.id, "chunk": number, "left_out": run.state})
    rows = work.imports.chunk(run, number)
    effect = EFFECTS[Target(run.plan.target)](run, request.job_id, work)
    report = _Importing(run=run, work=work, effect=effect).all(rows)
    run.count(report)
    work.imports.report(run, number, report, job_id=request.job_id)
    work.imports.save(run)
    if run.state.is_open:
        hand_over_chunk(run, work)
    else:
        end(run, work, job_id=request.job_id)
    return Succeeded(
        result={
            "run_id": run.id,
            "chunk": number,
            "chunks": run.chunks,
            "rows": sum(report.ends.values()),
            **{end.value: rows for end, rows in report.ends.items()},
            **({"progress": _progress(run)} if run.state.is_open else {}),
        }
    )


def _progress(run: Run) -> Mapping[str, object]:
    return {
        "job_id": run.job_id,
        "state": run.state,
        "rows_done": run.rows_done,
        "rows": run.rows,
    }


def end(run: Run, work: ImportWork, *, job_id: str) -> None:
    """Tell of the end of a run, and let its job answer."""
    work.jobs.make_due(run.job_id)
    work.record(
        job_id,
        [
            ImportEnded(
                run_id=run.id,
                file=run.file_name,
                source=run.source,
                state=run.state,
                rows=run.rows,
                ends={end.value: rows for end, rows in run.ends.items() if rows},
            )
        ],
    )


def _answer(run_id: str, work: ImportWork) -> Answer:
    run = work.imports.locked(run_id)
    if run is None:
        return Rejected(error=RunNotFound.of(run_id))
    match run.state:
        case RunState.FINISHED:
            return Succeeded(result=run.summary())
        case RunState.REFUSED:
            return Rejected(
                error=ImportRefused(
                    f"{run.ends[RowEnd.FAILED]} rows of {run.file_name} are bad:"
                    f" see `tallyman imports errors {run.id}`",
                    dict(run.summary()),
                )
            )
        case RunState.CHECKING | RunState.RUNNING | RunState.CANCELLED:
            return Postponed()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Importing:
    """The rows of one chunk on their way."""

    run: Run
    work: ImportWork
    effect: Effect

    def all(self, rows: Sequence[Row | Reject]) -> Report:
        report = Report()
        items = Reader(self.run.plan, self.work.decode).items(rows, report)
        if self.run.state is RunState.RUNNING:
            report.absorb(self._take_effect(items))
        else:
            # Nothing has an effect in a check: what could be imported is left as it is.
            report.ends[RowEnd.UNCHANGED] += sum(len(item.rows) for item in items)
        return report

    def _take_effect(self, items: Sequence[Item]) -> Report:
        """Handle items as one batch; one that breaks it is found by halving, and fails alone."""
        if not items:
            return Report()
        try:
            with self.work.attempt(personal=self.effect.personal):
                return self.effect.take(items)
        except RowsBroken as broken:
            if len(items) == 1:
                return self._broken(items[0], broken)
            middle = len(items) // 2
            report = self._take_effect(items[:middle])
            report.absorb(self._take_effect(items[middle:]))
            return report

    def _broken(self, item: Item, broken: RowsBroken) -> Report:
        reporter = Reporter(plan=self.run.plan)
        for row in item.rows:
            reporter.fail(row.line, row.cells, broken.failure.type, broken.failure.message)
        return reporter.report
