"""No process may die anywhere so that a job is lost, or done twice."""

import ast
from pathlib import Path

import pytest

from adapters.embedded.servers import Addresses
from tests.chaos.boundaries import BOUNDARIES
from tests.chaos.families import FAMILIES
from tests.chaos.sweep import sweep

ROOT = Path(__file__).parents[2]
PRODUCT = ("domain", "adapters", "tasks", "worker")


# Later Pythons warn of forks beside threads; a child here runs none of the parent's.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestAProcessThatDies:
    def test_anywhere_loses_nothing_and_does_nothing_twice(
        self, servers: Addresses, database_url: str, broker_url: str, tmp_path: Path
    ) -> None:
        deaths = sweep(database_url, broker_url, tmp_path, visits=(1,))
        assert [str(death) for death in deaths if death.problems] == []
        assert {death.boundary for death in deaths} == set(BOUNDARIES)
        assert {death.family for death in deaths} == set(FAMILIES)


class TestTheBoundaries:
    def test_are_those_that_the_product_names(self) -> None:
        named = {
            call.args[0].value
            for package in PRODUCT
            for path in (ROOT / package).rglob("*.py")
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("reached", "_reached")
            and call.args
            and isinstance(call.args[0], ast.Constant)
        }
        assert named == set(BOUNDARIES)
