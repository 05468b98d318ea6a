"""`tallyman stock`: what there is of each product, who has it and who waits for it."""

from dataclasses import asdict
from typing import Annotated

import typer

from domain.allocation.errors import InvalidSku
from worker.command.database import Database, database
from worker.command.exit_codes import ExitCode
from worker.command.output import JsonOption, fail, note, show_fields, show_json, show_table


def stock(
    sku: Annotated[str | None, typer.Argument(help="One product, with its batches.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Products to show at the most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show the stock of all products, or of one: its batches and the lines that wait for it.

    `next_eta` is the day on which the next units arrive that nobody has yet.
    """
    with database() as opened:
        if sku is not None:
            _show_product(opened, sku, as_json=as_json)
            return
        products, total = opened.stock.products(limit=limit)
    if as_json:
        show_json(products)
    else:
        show_table(
            "Stock",
            ("sku", "purchased", "allocated", "available", "backordered", "next eta"),
            [tuple(asdict(product).values()) for product in products],
        )
    if total > len(products):
        note(f"{len(products):,} of {total:,} products; --limit shows more")


def _show_product(opened: Database, sku: str, *, as_json: bool) -> None:
    product = opened.stock.product(sku)
    if product is None:
        fail(str(InvalidSku.of([sku])), ExitCode.NOT_FOUND)
    batches = opened.stock.batches(sku)
    waiting = opened.stock.waiting(sku)
    if as_json:
        show_json({**asdict(product), "batches": batches, "waiting": waiting})
        return
    show_fields(asdict(product))
    show_table(
        "Batches",
        ("reference", "arrives", "purchased", "allocated", "available"),
        [
            (
                batch.reference,
                batch.eta or "on hand",
                batch.purchased,
                batch.allocated,
                batch.available,
            )
            for batch in batches
        ],
    )
    if waiting:
        show_table(
            "Waiting, the next to be served first",
            ("order", "line", "wants", "has", "waits for", "priority"),
            [tuple(asdict(line).values()) for line in waiting],
        )
