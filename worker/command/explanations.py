"""Failures that users can act on: what to tell them, and with which exit code."""

from adapters.broker import BrokerAway
from adapters.embedded.errors import EmbeddedServerError
from adapters.postgres.persistence import is_outage
from adapters.postgres.schema import SchemaTooOld
from domain.allocation.errors import OrderNotFound
from domain.errors import Contended, DomainError, InvalidPayload, Unavailable
from domain.imports.errors import (
    FileError,
    InvalidMapping,
    InvalidSource,
    RunNotFound,
    SourceNotFound,
)
from domain.jobs.errors import (
    JobNotFound,
    ParkedNotFound,
    QueueFull,
    QueueNotFound,
    UnknownKind,
)
from domain.users.errors import UserNotFound
from worker.addresses import NotRunning
from worker.command.exit_codes import ExitCode
from worker.settings import SettingsError

UNDEFINED_TABLE = "42P01"
"""What PostgreSQL calls it (appendix A of its manual)."""


def explain(error: Exception) -> tuple[str, ExitCode] | None:
    """Return a line and a code for what users can act on; None for a bug."""
    if is_outage(error):
        # The driver's words alone: SQLAlchemy adds the statement.
        cause = getattr(error, "orig", None) or error
        return f"PostgreSQL is away: {_one_line(cause)}", ExitCode.AWAY
    if getattr(getattr(error, "orig", None), "sqlstate", None) == UNDEFINED_TABLE:
        return "the database has no tables yet: run `tallyman migrate upgrade`", ExitCode.AWAY
    match error:
        case (
            JobNotFound()
            | OrderNotFound()
            | ParkedNotFound()
            | QueueNotFound()
            | RunNotFound()
            | SourceNotFound()
            | UserNotFound()
        ):
            code = ExitCode.NOT_FOUND
        case QueueFull():
            code = ExitCode.FULL
        case (
            InvalidPayload()
            | UnknownKind()
            | InvalidMapping()
            | InvalidSource()
            | FileError()
            | SettingsError()
        ):
            code = ExitCode.USAGE
        case DomainError():
            return _one_line(f"{error.code}: {error}"), ExitCode.REFUSED
        case (
            Unavailable()
            | Contended()
            | NotRunning()
            | BrokerAway()
            | EmbeddedServerError()
            | SchemaTooOld()
        ):
            code = ExitCode.AWAY
        case _:
            return None
    return _one_line(error), code


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
