"""The history, put in order: for each job who handed it over, and what they were told."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import Door, Record, What

TERMINAL = frozenset({"succeeded", "rejected", "dead", "cancelled"})


@dataclass(slots=True, kw_only=True)
class Offer:
    """One job that was handed over under an id; an id that was used for two jobs has two."""

    kind: str
    payload: Mapping[str, Any]
    heard: Counter[What] = field(default_factory=Counter)

    @property
    def may_be_taken(self) -> bool:
        return bool(
            self.heard[What.ACCEPTED] or self.heard[What.AMBIGUOUS] or not self.heard[What.REFUSED]
        )


@dataclass(slots=True, kw_only=True)
class Told:
    """All that clients know of one job id."""

    offers: list[Offer] = field(default_factory=list)
    accepted: Counter[Door] = field(default_factory=Counter)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    """How the job was seen to stand once it was finished: state, result, error; different ones."""

    @property
    def taken(self) -> list[Offer]:
        """Return what may be in the ledger under this id."""
        return [offer for offer in self.offers if offer.may_be_taken]

    @property
    def kinds(self) -> str:
        return " or ".join(sorted({offer.kind for offer in self.offers}))

    def was(self, what: What) -> bool:
        return any(offer.heard[what] for offer in self.offers)

    def hears(self, record: Record) -> None:
        what = What(record["what"])
        self._offer(record["kind"], record["payload"]).heard[what] += 1
        if what is What.ACCEPTED:
            self.accepted[Door(record["door"])] += 1

    def reads(self, record: Record) -> None:
        answer = {name: record[name] for name in ("state", "result", "error")}
        if answer["state"] in TERMINAL and answer not in self.answers:
            self.answers.append(answer)

    def _offer(self, kind: str, payload: Mapping[str, Any]) -> Offer:
        for offer in self.offers:
            if (offer.kind, offer.payload) == (kind, payload):
                return offer
        self.offers.append(Offer(kind=kind, payload=payload))
        return self.offers[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was broken on purpose for a while."""

    kind: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that was laid where somebody looks for files."""

    of: str
    """What its rows are: batches, orders or users."""
    rows: Sequence[Mapping[str, str]]


@dataclass(slots=True, kw_only=True)
class Testimony:
    """What all clients, consumers and whoever broke things told."""

    jobs: dict[str, Told] = field(default_factory=lambda: defaultdict(Told))
    read_events: dict[str, str] = field(default_factory=dict)
    """Event id by entry id, of what consumers read from the stream."""
    files: dict[str, File] = field(default_factory=dict)
    """By name."""
    faults: list[Fault] = field(default_factory=list)
    drains: list[tuple[float, float]] = field(default_factory=list)
    """Seconds that it took to finish everything, and seconds allowed."""


def rows_of(testimony: Testimony, what: str) -> Iterator[Mapping[str, str]]:
    """Return the rows of all files of batches, orders or users."""
    for file in testimony.files.values():
        if file.of == what:
            yield from file.rows


def hear(records: Iterable[Record]) -> Testimony:
    """Put records in order."""
    testimony = Testimony()
    for record in records:
        match record["what"]:
            case What.ANSWERED:
                testimony.jobs[record["job_id"]].reads(record)
            case What.EVENT:
                testimony.read_events[record["entry"]] = record["event_id"]
            case What.FILE:
                testimony.files[record["name"]] = File(of=record["of"], rows=record["rows"])
            case What.FAULT:
                testimony.faults.append(
                    Fault(
                        kind=record["kind"],
                        began=record["began"],
                        ended=record["ended"],
                    )
                )
            case What.DRAINED:
                testimony.drains.append((record["seconds"], record["allowed"]))
            case _:
                testimony.jobs[record["job_id"]].hears(record)
    return testimony
