"""What clients did and saw, kept outside of the system that is under test.

One JSON object a line, appended with one system call each, so that threads and processes may
share a file and a killed one leaves whole lines. Many files in a folder are one history.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

Record = dict[str, Any]
"""A line: `what` happened, `at` what time (seconds since 1970), and what belongs to it."""


class What(StrEnum):
    """What a record tells of."""

    INTENDED = "intended"
    """A client is about to hand a job over."""
    ACCEPTED = "accepted"
    """It was told that the job is taken."""
    AMBIGUOUS = "ambiguous"
    """It was told of an error that may have come after the commit."""
    REFUSED = "refused"
    """It was told that the job is not taken, and why."""
    ANSWERED = "answered"
    """It read how a job stands."""
    EVENT = "event"
    """A consumer read an entry of the stream."""
    FILE = "file"
    """A file of rows was laid where somebody looks for files."""
    FAULT = "fault"
    """Something was broken on purpose, and is whole again."""
    DRAINED = "drained"
    """All jobs were finished, so many seconds after the load and the faults had ended."""


class Door(StrEnum):
    """How a job was handed over."""

    MESSAGE = "celery"
    """Door (a): a message to the broker."""
    SUBMISSION = "ledger"
    """Door (b): a row, written by `submit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A job as a client hands it over."""

    job_id: str
    kind: str
    payload: Mapping[str, Any]
    door: Door = Door.SUBMISSION


class History:
    """Appends to one file; safe for threads, and for processes that share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def intended(self, *handovers: Handover) -> None:
        """Note what is about to be handed over, before it is: whoever dies then, told no more."""
        self._append(_told(What.INTENDED, handover) for handover in handovers)

    def accepted(self, *handovers: Handover) -> None:
        self._append(_told(What.ACCEPTED, handover) for handover in handovers)

    def ambiguous(self, *handovers: Handover, error: object) -> None:
        self._append(
            {**_told(What.AMBIGUOUS, handover), "error": repr(error)} for handover in handovers
        )

    def refused(self, *handovers: Handover, error: object) -> None:
        self._append(
            {**_told(What.REFUSED, handover), "error": repr(error)} for handover in handovers
        )

    def answered(
        self,
        job_id: str,
        *,
        state: str,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Note how a job was seen to stand; `error` is the name of its error's type."""
        self._append(
            [
                {
                    "what": What.ANSWERED,
                    "job_id": job_id,
                    "state": state,
                    "result": result,
                    "error": error,
                }
            ]
        )

    def events(self, entries: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Note entries of the stream: id and fields."""
        self._append(
            {
                "what": What.EVENT,
                "entry": entry_id,
                "event_id": fields["event_id"],
                "aggregate": fields["aggregate"],
            }
            for entry_id, fields in entries
        )

    def file(self, name: str, *, what: str, rows: Sequence[Mapping[str, str]]) -> None:
        """Note what is in a file of batches, orders or users."""
        self._append([{"what": What.FILE, "name": name, "of": what, "rows": rows}])

    def fault(self, kind: str, *, began: float, ended: float) -> None:
        """Note what was broken, and from when to when, in seconds since 1970."""
        self._append([{"what": What.FAULT, "kind": kind, "began": began, "ended": ended}])

    def drained(self, *, seconds: float, allowed: float) -> None:
        self._append([{"what": What.DRAINED, "seconds": seconds, "allowed": allowed}])

    def _append(self, records: Iterable[Record]) -> None:
        at = time.time()
        lines = [
            json.dumps({"at": at, **record}, separators=(",", ":"), default=str)
            for record in records
        ]
        if lines:
            block = ("\n".join(lines) + "\n").encode()
            written = os.write(self._file, block)
            if written != len(block):
                raise OSError(
                    f"{self.path} took {written} of {len(block)} bytes: is the disk full?"
                )


def read(path: Path) -> Iterator[Record]:
    """Read the records of a file, or of all `*.jsonl` files in a folder, file by file.

    A last line without its end was being written when its client died: it tells nothing.

    Raises:
        ValueError: A line is no record.
    """
    for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith("\n"):
                    continue
                try:
                    record: Record = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{file}, line {number} is no record: {line!r}") from error
                yield record


def _told(what: What, handover: Handover) -> Record:
    return {
        "what": what,
        "job_id": handover.job_id,
        "kind": handover.kind,
        "door": handover.door,
        "payload": handover.payload,
    }
