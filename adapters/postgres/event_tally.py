"""Tallying events: part of the statement that writes them, so that a count costs no round trip."""

from collections.abc import Mapping

from adapters.postgres.rows import as_rows
from domain.measures import Amount, What

TALLY_EVENTS = """
INSERT INTO event_tally (name, label, hour, number, units)
SELECT name, label,
       CASE WHEN is_hourly THEN floor(extract(epoch FROM now()) / 3600)::integer END,
       number, units
FROM jsonb_to_recordset(%(tallies)s::jsonb)
    AS tally (name text, label text, is_hourly boolean, number bigint, units bigint)"""


def tally_rows(amounts: Mapping[What, Amount]) -> str:
    """Return the parameter `tallies` of the statement."""
    return as_rows(
        {
            "name": what.name,
            "label": what.label,
            "is_hourly": what.is_hourly,
            "number": amount.number,
            "units": amount.units,
        }
        for what, amount in amounts.items()
        if amount.number
    )
