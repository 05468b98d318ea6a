"""Many rows, or many keys, in one parameter that both ends are quick with."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson


def as_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows for `jsonb_to_recordset(%(rows)s::jsonb) AS row (column type, …)`.

    Measured with 800 allocations: two thirds of the time of `json_to_recordset`, which makes a
    hash table of each row, and a thirtieth of the client's share in `unnest` over arrays.
    """
    return orjson.dumps(list(rows)).decode()


def as_array(keys: Iterable[str]) -> str:
    """Return an array as PostgreSQL writes it, such as for `= ANY(%(keys)s::text[])`.

    The driver looks at each element of a list in Python.
    """
    quoted = [
        key.replace("\\", "\\\\").replace('"', '\\"') if "\\" in key or '"' in key else key
        for key in keys
    ]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


def as_json(text: str) -> orjson.Fragment:
    """Put JSON that is text already into a row as it is."""
    return orjson.Fragment(text)
