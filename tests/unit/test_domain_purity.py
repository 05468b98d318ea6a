"""The domain imports the standard library and itself, nothing else."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import domain

SOURCES = sorted(Path(domain.__file__).parent.rglob("*.py"))


def imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.split(".")[0] for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0]
            case _:
                pass


class TestDomain:
    def test_imports_the_standard_library_alone(self) -> None:
        foreign = {
            f"{source.stem} imports {name}"
            for source in SOURCES
            for name in imported(source)
            if name not in sys.stdlib_module_names and name != "domain"
        }
        assert len(SOURCES) > 20
        assert not foreign
