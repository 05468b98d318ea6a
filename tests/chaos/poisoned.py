"""The real `tallyman`, in which some orders are poison to whoever places them.

`python -m tests.chaos.poisoned worker` runs the worker that `tallyman worker` runs. An order whose
id begins with one of `SORTS` and `-poison-` does its worst after its rows are written and before
they are committed; every other order is placed as always.
"""

import ctypes
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import NoReturn, cast

from billiard.exceptions import SoftTimeLimitExceeded

from adapters.postgres.unit_of_work import PostgresUnitOfWork
from domain.allocation.commands import AllocateOrder
from domain.jobs.kinds import Handler, JobKind
from domain.jobs.model import Request
from domain.jobs.outcomes import Answer
from domain.kinds import KINDS
from worker.command.main import main

MARK = "-poison-"
MEMORY_BYTES = 1 << 30
"""Address space of each process here, by which memory runs out for real."""
PIECE_BYTES = 16 << 20

Poison = Callable[[PostgresUnitOfWork], None]


def leave(_: PostgresUnitOfWork) -> NoReturn:
    os._exit(3)


def give_up(_: PostgresUnitOfWork) -> NoReturn:
    sys.exit(3)


def fault(_: PostgresUnitOfWork) -> None:
    """Read the address 0."""
    ctypes.string_at(0)


def be_killed(_: PostgresUnitOfWork) -> None:
    """End as by the kernel when a machine or a container is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def take_all_memory(_: PostgresUnitOfWork) -> NoReturn:
    taken = []
    while True:
        # Zeros, which take no time: others have to be written, for longer than a job may take.
        taken.append(bytes(PIECE_BYTES))


def loop(_: PostgresUnitOfWork) -> NoReturn:
    while True:
        pass


def loop_on(_: PostgresUnitOfWork) -> NoReturn:
    """Loop, and make nothing of being interrupted."""
    while True:
        try:
            while True:
                pass
        except SoftTimeLimitExceeded:
            continue


def loop_in_c(_: PostgresUnitOfWork) -> None:
    """Loop where the interpreter never gets to handle a signal."""
    deque(repeat(None), maxlen=0)


def ask_for_ever(work: PostgresUnitOfWork) -> None:
    """Wait for a statement of PostgreSQL's that does not end."""
    work._statements.tell("SET statement_timeout = 0")
    work._statements.ask("SELECT pg_sleep(86400)")


SORTS: Mapping[str, Poison] = {
    "exit": leave,
    "quit": give_up,
    "segfault": fault,
    "kill": be_killed,
    "memory": take_all_memory,
    "loop": loop,
    "stubborn": loop_on,
    "native": loop_in_c,
    "query": ask_for_ever,
}
"""What poison there is."""

REASONS: Mapping[str, str] = {
    "exit": "WorkerLost",
    "quit": "WorkerLost",
    "segfault": "WorkerLost",
    "kill": "WorkerLost",
    "memory": "MemoryError",
    "loop": "SoftTimeLimitExceeded",
    "stubborn": "WorkerLost",
    "native": "WorkerLost",
    "query": "SoftTimeLimitExceeded",
}
"""Type of the error with which an order of each sort is dead in the end."""


def poisoned(handler: Handler) -> Handler:
    """Have a handler of orders do its work, and then what each order's id says."""

    def handle(
        requests: Sequence[Request[AllocateOrder]], work: PostgresUnitOfWork
    ) -> Sequence[Answer]:
        outcomes = handler(requests, work)
        for request in requests:
            sort, mark, _ = request.command.order_id.partition(MARK)
            if mark:
                SORTS[sort](work)
        return outcomes

    return handle


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    kinds = cast("dict[str, JobKind]", KINDS)
    orders = kinds[AllocateOrder.kind]
    kinds[AllocateOrder.kind] = replace(orders, handler=poisoned(orders.handler))
    main()
