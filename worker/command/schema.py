"""`tallyman schema`: what the payload of each job kind looks like."""

from typing import Annotated

import typer

from adapters.payloads import Payloads
from domain.kinds import KINDS
from worker.command.output import show_json


def schema(
    kind: Annotated[
        str | None, typer.Argument(help="One job kind; all, by name, if left out.")
    ] = None,
) -> None:
    """Print the JSON Schema of a job kind's payload, or of all kinds by name."""
    payloads = Payloads(KINDS)
    if kind is None:
        show_json({name: payloads.schema(name) for name in sorted(KINDS)})
    else:
        show_json(payloads.schema(kind))
