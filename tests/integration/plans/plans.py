"""What PostgreSQL does for the product's own statements, seen while the product runs them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event

from adapters.postgres.statements import Row, Statement, Statements

LARGE = frozenset(
    {
        "allocation",
        "import_chunk",
        "import_error",
        "job",
        "job_failure",
        "order_line",
        "outbox",
        "sales_order",
        "stock_movement",
        "user_account",
    }
)
"""Tables that grow for as long as Tallyman runs."""

_PLANNED = re.compile(r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one statement was run."""

    statement: str
    root: Mapping[str, Any]
    is_generic: bool = False
    """Made for whatever parameters may come."""

    @property
    def scanned(self) -> set[str]:
        """Return the large tables, and their indexes, that are read from end to end."""
        return {
            node.get("Relation Name") or node["Index Name"]
            for node in _nodes(self.root)
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE
        }

    @property
    def pages(self) -> int:
        """Return how many pages were looked at to find rows, each as often as it was."""
        if self.root.get("Operation") == "Insert":
            return 0
        return int(self.root.get("Shared Hit Blocks", 0) + self.root.get("Shared Read Blocks", 0))


@dataclass(slots=True)
class Watch:
    """Collects the plans of whatever runs on an engine."""

    plans: list[Plan] = field(default_factory=list)

    def scans(self) -> list[str]:
        """Return the statements that read a large table from end to end, and which."""
        return [
            f"{sorted(plan.scanned)}{' (generic plan)' if plan.is_generic else ''}:"
            f" {plan.statement}"
            for plan in self.plans
            if plan.scanned
        ]

    def most_pages(self) -> tuple[int, str]:
        """Return the pages of the statement that looked at most, and what it was."""
        dearest = max(self.plans, key=lambda plan: plan.pages)
        return dearest.pages, dearest.statement

    def add_generic(self, connection: psycopg.Connection[Any]) -> None:
        """Add the plans that a session has come to use for any parameters."""
        prepared = connection.execute(
            "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements"
            " WHERE generic_plans > 0"
        ).fetchall()
        for name, statement, parameters in prepared:
            if _PLANNED.match(statement):
                nothing = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
                found = connection.execute(
                    f"EXPLAIN (FORMAT JSON) EXECUTE {name}{nothing}".encode()
                ).fetchone()
                assert found is not None
                self.plans.append(
                    Plan(statement=statement, root=found[0][0]["Plan"], is_generic=True)
                )


@contextmanager
def watched(engine: Engine) -> Iterator[Watch]:
    """Explain every statement of `engine` right before it runs, with what it is given.

    It is run for it in a transaction that is rolled back, so that its effects are those of one run.
    """
    watch = Watch()

    def explain(
        driver: "psycopg.Connection[Any]", statement: str, parameters: Mapping[str, Any] | None
    ) -> None:
        if not _PLANNED.match(statement):
            return
        with driver.transaction(force_rollback=True), driver.cursor() as cursor:
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(),
                parameters,
                prepare=False,
            )
            [[[found]]] = cursor.fetchall()
        watch.plans.append(Plan(statement=statement, root=found["Plan"]))

    def explain_for_sqlalchemy(
        connection: Connection,
        _cursor: object,
        statement: str,
        parameters: Mapping[str, Any],
        _context: object,
        _many: object,
    ) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        explain(driver, statement, parameters)

    def send_each(statements: Statements, *last: Statement) -> "list[psycopg.Cursor[Row]]":
        # One by one, for what is explained has to find what those before it have written.
        waiting, statements._waiting = statements._waiting, []
        sent = []
        for each in (*waiting, *last):
            explain(statements._driver, each.text, each.parameters)
            sent.append(statements._execute(each))
            if each.check:
                each.check(sent[-1].rowcount)
        return sent[len(waiting) :]

    event.listen(engine, "before_cursor_execute", explain_for_sqlalchemy)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Statements, "_send", send_each)
            yield watch
    finally:
        event.remove(engine, "before_cursor_execute", explain_for_sqlalchemy)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
