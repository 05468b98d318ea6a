"""Payloads: JSON checked against the command of its job kind, and the JSON Schemas of all."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from domain.errors import InvalidPayload
from domain.jobs.errors import UnknownKind
from domain.jobs.kinds import JobKind
from domain.messages import Command

SHOWN_ERRORS = 5
UNKNOWN_FIELD = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
"""What Pydantic calls it."""


class Payloads:
    """Decodes payloads strictly: JSON types as they are, and no unknown field."""

    def __init__(self, kinds: Mapping[str, JobKind]) -> None:
        self._kinds = kinds

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Command]]:
        return {name: TypeAdapter(kind.command) for name, kind in self._kinds.items()}

    def decode(self, kind: str, payload: Mapping[str, Any]) -> Command:
        """Return the command that `payload` holds.

        Raises:
            UnknownKind: No job kind is called that.
            InvalidPayload: A field is missing, unknown or of the wrong type.
            DomainError: A value is not one that the business can take.
        """
        self.kind(kind)
        try:
            return self._adapters[kind].validate_json(orjson.dumps(payload), strict=True)
        except (ValidationError, orjson.JSONEncodeError) as error:
            raise _invalid(self._kinds[kind], error) from None

    def kind(self, name: str) -> JobKind:
        """Return the job kind of this name, or raise UnknownKind."""
        try:
            return self._kinds[name]
        except KeyError:
            raise UnknownKind.of(name, sorted(self._kinds)) from None

    def schema(self, kind: str) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of this kind's payload."""
        self.kind(kind)
        schema = self._adapters[kind].json_schema()
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:tallyman:{kind}",
            **schema,
            "title": kind,
        }


def _invalid(known: JobKind, error: ValidationError | orjson.JSONEncodeError) -> InvalidPayload:
    kind = known.name
    if not isinstance(error, ValidationError):
        return InvalidPayload(f"the payload of {kind} is not JSON: {error}", {"kind": kind})
    # Only places and rules are told, not values: a payload may hold personal data.
    found = error.errors(include_input=False, include_url=False, include_context=False)
    told = [f"{_place(problem, personal=known.personal)}: {problem['msg']}" for problem in found]
    more = f" and {len(told) - SHOWN_ERRORS} more" if len(told) > SHOWN_ERRORS else ""
    return InvalidPayload(
        f"the payload does not fit {kind}: {'; '.join(told[:SHOWN_ERRORS])}{more};"
        f" see `tallyman schema {kind}`",
        {"kind": kind, "errors": told},
    )


def _place(problem: ErrorDetails, *, personal: bool) -> str:
    if personal and problem["type"] in UNKNOWN_FIELD:
        # Its name is the sender's: who swaps names and values sends those of people.
        return "a field that it does not have"
    return ".".join(str(step) for step in problem["loc"]) or "payload"
