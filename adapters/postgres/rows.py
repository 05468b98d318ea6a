"""Many rows in one parameter: JSON, which both ends read and write faster than arrays."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson


def as_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows for `json_to_recordset(%(rows)s::json) AS row (column type, …)`.

    Measured with 600 rows of an outbox: a third of the time of `unnest` over arrays, a fortieth
    of the client's share, and a fifth above COPY, which cannot RETURN or skip conflicts.
    """
    return orjson.dumps(list(rows)).decode()


def as_json(text: str) -> orjson.Fragment:
    """Put JSON that is text already into a row as it is."""
    return orjson.Fragment(text)
