"""Each file is imported once, and each of its rows has its effect once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from tests.chaos.evidence import RunRow
from tests.chaos.rules.kinds import IMPORT_CHUNK
from tests.chaos.rules.problems import Case, Problem, Sort
from tests.chaos.testimony import rows_of

RUN = "import-"
"""How ids of runs, and of the jobs that follow from one, begin."""


def files_are_imported_once(case: Case) -> Iterator[Problem]:
    """Check that a file is one run, in which every row has come to an end."""
    runs: dict[str, list[RunRow]] = defaultdict(list)
    for run in case.evidence.runs:
        runs[run.file_name].append(run)
    for name, file in case.testimony.files.items():
        found = runs.pop(name, [])
        if len(found) != 1:
            yield Problem(
                sort=Sort.DUPLICATED if found else Sort.LOST,
                text=f"file {name!r} of {file.of} is {len(found)} runs",
            )
        for run in found:
            ends = sum(run.ends.values())
            if (run.state, run.rows, run.rows_done, ends) != (
                "finished",
                *[len(file.rows)] * 3,
            ):
                yield Problem(
                    sort=Sort.LEFT_OPEN if run.state != "finished" else Sort.MISSING,
                    text=f"run {run.id!r} of file {name!r} is {run.state}: of {len(file.rows)} rows"
                    f" it has {run.rows}, {run.rows_done} are done and {ends} have an end",
                )
    for name, unasked in runs.items():
        yield Problem(
            sort=Sort.UNASKED,
            text=f"run {unasked[0].id!r} imports file {name!r}, which nobody laid there",
        )


def chunks_are_of_runs(case: Case) -> Iterator[Problem]:
    """Check that jobs of chunks follow from a run."""
    runs = {run.id for run in case.evidence.runs}
    for job in case.evidence.jobs.values():
        if job.kind == IMPORT_CHUNK and job.id.partition(":")[0] not in runs:
            yield Problem(sort=Sort.UNASKED, text=f"job {job.id!r} is of no run")


def orders_of_files_are_placed(case: Case) -> Iterator[Problem]:
    """Check that each order has the lines that the file gives it, and all have stock."""
    lines: dict[str, list[tuple[str, int]]] = defaultdict(list)
    states: dict[str, set[str]] = defaultdict(set)
    for line in case.evidence.lines:
        lines[line.order_id].append((line.sku, line.quantity))
        states[line.order_id].add(line.state)
    wanted: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in rows_of(case.testimony, "orders"):
        wanted[row["order_id"]].append((row["sku"], int(row["quantity"])))
    for order_id, asked in wanted.items():
        if lines[order_id] != asked or states[order_id] != {"allocated"}:
            yield Problem(
                sort=Sort.DUPLICATED if len(lines[order_id]) > len(asked) else Sort.MISSING,
                text=f"order {order_id!r} of a file has lines {lines[order_id]}, the file {asked};"
                f" they are {', '.join(sorted(states[order_id])) or 'not there'}",
            )


def users_of_files_are_registered(case: Case) -> Iterator[Problem]:
    """Check that who stands in a file is there, and was announced once."""
    told: Mapping[str, int] = Counter(
        event.payload["user_id"] for event in case.evidence.events if event.name == "UserRegistered"
    )
    for row in rows_of(case.testimony, "users"):
        user_id = row["user_id"]
        if user_id not in case.evidence.users or told[user_id] != 1:
            there = "there" if user_id in case.evidence.users else "not there"
            yield Problem(
                sort=Sort.DUPLICATED if told[user_id] > 1 else Sort.MISSING,
                text=f"user {user_id!r} of a file is {there} and was announced"
                f" {told[user_id]} times",
            )


RULES = (
    files_are_imported_once,
    chunks_are_of_runs,
    orders_of_files_are_placed,
    users_of_files_are_registered,
)
