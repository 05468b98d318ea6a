"""How long it took until a fault was overcome, told by the ledger, which keeps all times.

Two times run from the end of a fault: until the next job is finished, when work goes on; and until
everything is finished that was accepted before that end, when nothing is left of the fault.
Faults of all lanes go on meanwhile, so what they cost is in both. Where nothing was open at the
end of a fault, the second is 0. Leases are as short as `tests.chaos.short_leases` says.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import psycopg

from tests.chaos.evidence import plain
from tests.chaos.history import read
from tests.chaos.testimony import hear


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A fault and what it took to overcome it."""

    kind: str
    lasted: float
    """Seconds that something was broken."""
    until_work: float
    """Seconds from its end until the next job was finished."""
    until_all: float
    """Seconds from its end until all that was accepted before was finished."""


def recoveries(history: Path, database_url: str) -> Mapping[str, Sequence[Recovery]]:
    """Return the recoveries from all faults of a history, by kind."""
    with psycopg.connect(plain(database_url)) as connection:
        rows = connection.execute(
            """SELECT extract(epoch FROM created_at)::float, extract(epoch FROM finished_at)::float
               FROM job WHERE finished_at IS NOT NULL ORDER BY created_at"""
        ).fetchall()
    came = [row[0] for row in rows]
    all_done = list(accumulate((row[1] for row in rows), max))
    done = sorted(row[1] for row in rows)
    found: dict[str, list[Recovery]] = defaultdict(list)
    for fault in hear(read(history)).faults:
        before = bisect_right(came, fault.ended)
        following = bisect_right(done, fault.ended)
        found[fault.kind].append(
            Recovery(
                kind=fault.kind,
                lasted=fault.ended - fault.began,
                until_work=done[following] - fault.ended if following < len(done) else 0.0,
                until_all=max(0.0, all_done[before - 1] - fault.ended) if before else 0.0,
            )
        )
    return dict(found)
