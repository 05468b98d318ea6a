"""JSON Lines: a job a line, accepted or refused by the number of its line.

A line is the payload itself, `{"sku": …}`, or an envelope around it:
`{"id": …, "priority": …, "correlation_id": …, "payload": {…}}`, where all but the payload may be
left out. No job kind has a field called `payload`, so the one is never taken for the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from domain.errors import DomainError, InvalidPayload
from domain.jobs.errors import IdempotencyConflict, QueueFull
from domain.jobs.model import Receipt, Submission
from worker.handing_over import Patience
from worker.producer import Producer

ENVELOPE = frozenset({"id", "priority", "correlation_id", "payload"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that holds a job."""

    number: int
    submission: Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line that was not accepted, and why."""

    line: int
    code: str
    reason: str

    @classmethod
    def of(cls, number: int, error: DomainError) -> "RefusedLine":
        return cls(line=number, code=error.code, reason=error.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedLine:
    """A line whose job the ledger has."""

    line: int
    receipt: Receipt


def read(
    lines: Iterable[bytes],
    producer: Producer,
    kind: str,
    *,
    priority: int,
    correlation_id: str | None,
) -> Iterator[Line | RefusedLine]:
    """Check each line that is not empty; priority and correlation id hold where it names none."""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            envelope = _envelope(text.strip())
            yield Line(
                number=number,
                submission=producer.submission(
                    kind,
                    envelope["payload"],
                    job_id=envelope.get("id"),
                    priority=envelope.get("priority", priority),
                    correlation_id=envelope.get("correlation_id", correlation_id),
                ),
            )
        except DomainError as error:
            yield RefusedLine.of(number, error)


def accept(
    patience: Patience, lines: Sequence[Line]
) -> tuple[list[AcceptedLine], QueueFull | None]:
    """Hand over lines; return those accepted and, where that is not all, why.

    Raises:
        IdempotencyConflict: Ids of these were used for another payload.
    """
    receipts, full = patience.submit_many([line.submission for line in lines])
    accepted = [
        AcceptedLine(line=line.number, receipt=receipt)
        for line, receipt in zip(lines, receipts, strict=full is None)
    ]
    return accepted, full


def accept_what_can_be(
    patience: Patience, lines: Sequence[Line]
) -> tuple[list[AcceptedLine], list[RefusedLine], QueueFull | None]:
    """Hand over lines; those whose ids were used for another payload are refused, the rest not."""
    refused: list[RefusedLine] = []
    left = list(lines)
    while True:
        try:
            accepted, full = accept(patience, left)
        except IdempotencyConflict as conflict:
            known = set(conflict.details["job_ids"])
            refused += [
                RefusedLine.of(line.number, IdempotencyConflict.of(line.submission.job_id))
                for line in left
                if line.submission.job_id in known
            ]
            left = [line for line in left if line.submission.job_id not in known]
        else:
            return accepted, refused, full


def decode(text: bytes | str) -> dict[str, Any]:
    """Return the JSON object that the text is.

    Raises:
        InvalidPayload: It is something else.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidPayload(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidPayload("a payload is a JSON object, {…}")
    return value


def _envelope(text: bytes) -> dict[str, Any]:
    value = decode(text)
    if "payload" not in value or not ENVELOPE.issuperset(value):
        return {"payload": value}
    rules = {"payload": dict, "id": str, "priority": int, "correlation_id": str}
    for name, found in value.items():
        if type(found) is not rules[name]:
            raise InvalidPayload(f"{name} beside payload must be {_WORDS[rules[name]]}")
    return value


_WORDS = {dict: "a JSON object", str: "a text", int: "a whole number"}
