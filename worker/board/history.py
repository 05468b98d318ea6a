"""What finished in the last minutes, second by second."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from adapters.postgres.board import Sight
from domain.jobs.model import JobState

BACK = timedelta(minutes=5)
LATE = timedelta(seconds=2)
"""A job is committed about as long as this after it finished: its second is read again."""
NOW = timedelta(seconds=5)
"""What finishes "now" is the average of so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What looks one after the other have seen, added up."""

    begin: datetime | None = None
    """All that finished since then is known."""
    end: datetime | None = None
    seconds: Mapping[datetime, Counter[JobState]] = field(default_factory=dict)

    @property
    def ask_from(self) -> datetime | None:
        """Where the next look has to begin; None where nothing is known."""
        return self.end - LATE if self.end else None

    def after(self, sight: Sight) -> "History":
        """Take what a look has seen in the place of what was known of the same seconds."""
        is_gap = self.begin is None or self.end is None or sight.since > self.end
        earliest = sight.now.replace(microsecond=0) - BACK
        begin = sight.since if is_gap or self.begin is None else max(self.begin, earliest)
        seconds = {
            second: jobs for second, jobs in self.seconds.items() if begin <= second < sight.since
        }
        for each in sight.finished:
            seconds.setdefault(each.second, Counter())[each.state] = each.jobs
        # The last second is not over, and what finished in the one before may not be committed.
        end = max(begin, sight.now.replace(microsecond=0) - timedelta(seconds=1))
        return History(begin=begin, end=end, seconds=seconds)

    @property
    def states(self) -> Counter[JobState]:
        """Jobs that finished since `begin`, by how."""
        return sum(self.seconds.values(), Counter())

    @property
    def jobs_per_second(self) -> float | None:
        """Of the last seconds; None where nothing is known of them."""
        if self.begin is None or self.end is None or self.end <= self.begin:
            return None
        begin = max(self.begin, self.end - NOW)
        jobs = sum(
            jobs.total() for second, jobs in self.seconds.items() if begin <= second < self.end
        )
        return jobs / (self.end - begin).total_seconds()

    def rates(self, parts: int) -> Sequence[float | None]:
        """Return jobs a second in equal parts of the last minutes; None where it is not known."""
        if self.begin is None or self.end is None:
            return [None] * parts
        length = BACK / parts
        edges = [self.end - BACK + number * length for number in range(parts)]
        sums = [0] * parts
        for second, jobs in self.seconds.items():
            place = (second - edges[0]) // length
            if 0 <= place < parts and second < self.end:
                sums[place] += jobs.total()
        return [
            jobs / length.total_seconds() if edge + length > self.begin else None
            for edge, jobs in zip(edges, sums, strict=True)
        ]
