"""Descriptions of sources: one TOML file each, in a folder of their own."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain.imports.errors import InvalidMapping, InvalidSource, SourceNotFound
from domain.imports.runs import OnExists, RowPolicy
from domain.imports.skips import SkipRule, Test
from domain.imports.sources import Source
from domain.imports.targets import IMPORTS, Target

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Texts = Mapping[str, str]


class _Skip(BaseModel):
    """A `[[skip]]` of a description: one of the three tests, and what to count the rows as."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    equals: str | None = None
    starts_with: str | None = None
    matches: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _has_one_test(self) -> Self:
        if len(self._tests()) != 1:
            raise ValueError("say one of equals, starts_with and matches")
        return self

    def rule(self) -> SkipRule:
        [(test, text)] = self._tests().items()
        told = self.reason or f"{self.column} {test.replace('_', ' ')} {text}"
        return SkipRule(column=self.column, test=test, text=text, reason=told)

    def _tests(self) -> dict[Test, str]:
        texts = {
            Test.EQUALS: self.equals,
            Test.STARTS_WITH: self.starts_with,
            Test.MATCHES: self.matches,
        }
        return {test: text for test, text in texts.items() if text is not None}


class _Description(BaseModel):
    """A source as its file describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Target
    files: Annotated[str, Field(min_length=1)]
    every_seconds: Annotated[int, Field(ge=1)] | None = None
    cron: str | None = None
    settle_seconds: Seconds = 10.0
    most_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    taken_folder: str | None = None
    refused_folder: str | None = None
    columns: Texts = {}
    constants: Texts = {}
    defaults: Texts = {}
    skip: tuple[_Skip, ...] = ()
    policy: RowPolicy = RowPolicy.REJECT_ROWS
    max_errors: Annotated[int, Field(ge=0)] | None = None
    on_exists: OnExists | None = None

    @field_validator("constants", "defaults", mode="before")
    @classmethod
    def _as_texts(cls, values: object) -> object:
        # TOML has numbers and booleans; a cell of a file is text.
        if not isinstance(values, dict):
            return values
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in values.items()
        }

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and len(cron.split()) != CRON_FIELDS:
            raise ValueError(f"a crontab has {CRON_FIELDS} fields, as in '*/15 6-20 * * mon-fri'")
        return cron

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.every_seconds is not None and self.cron is not None:
            raise ValueError("say every_seconds or cron, not both")
        if self.on_exists is not None and self.what is not Target.USERS:
            raise ValueError("on_exists is for users")
        known = IMPORTS[self.what].fields
        for name in (*self.columns, *self.constants, *self.defaults):
            if name not in known:
                raise ValueError(f"{self.what} have no field {name!r}; known: {', '.join(known)}")
        return self

    def source(self, name: str) -> Source:
        return Source(
            name=name,
            target=self.what,
            files=self.files,
            every_seconds=self.every_seconds,
            cron=self.cron,
            settle_seconds=self.settle_seconds,
            most_bytes=self.most_bytes,
            taken_folder=self.taken_folder,
            refused_folder=self.refused_folder,
            columns=dict(self.columns),
            constants=dict(self.constants),
            defaults=dict(self.defaults),
            skips=tuple(skip.rule() for skip in self.skip),
            policy=self.policy,
            max_errors=self.max_errors,
            on_exists=self.on_exists or OnExists.FAIL,
        )


CRON_FIELDS = 5


def names(folder: Path) -> list[str]:
    """Return the names of the sources that are described in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read(folder: Path, name: str) -> Source:
    """Read a source's description.

    Raises:
        SourceNotFound: The folder has none of this name.
        InvalidSource: It cannot be used; the message names each problem.
    """
    known = names(folder)
    if name not in known:
        raise SourceNotFound(
            f"no source is called {name!r}: {folder} describes {', '.join(known) or 'none'}",
            {"source": name},
        )
    file = folder / f"{name}.toml"
    try:
        return _Description(**tomllib.loads(file.read_text(encoding="utf-8"))).source(name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidMapping) as error:
        raise InvalidSource(f"{file}: {error}") from error
    except ValidationError as error:
        told = "; ".join(_told(problem) for problem in error.errors(include_url=False))
        raise InvalidSource(f"{file}: {told}") from None


def _told(problem: Mapping[str, Any]) -> str:
    place = ".".join(map(str, problem["loc"]))
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
