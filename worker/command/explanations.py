"""Failures that users can act on: what to tell them, and with which exit code."""

from adapters.broker import BrokerAway
from adapters.embedded.errors import EmbeddedServerError
from adapters.postgres.persistence import is_contention, is_outage
from adapters.postgres.roles import LacksPrivileges, UnfitPrefix
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
INSUFFICIENT_PRIVILEGE = "42501"
"""Likewise."""


def explain(error: Exception) -> tuple[str, ExitCode] | None:
    """Return a line and a code for what users can act on; None for a bug."""
    if is_outage(error):
        # The driver's words alone: SQLAlchemy adds the statement.
        cause = getattr(error, "orig", None) or error
        return f"PostgreSQL is away: {_one_line(cause)}", ExitCode.AWAY
    if told := _explain_refusal(getattr(error, "orig", None) or error):
        return told
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
            | UnfitPrefix()
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
            | LacksPrivileges()
        ):
            code = ExitCode.AWAY
        case _:
            return None
    return _one_line(error), code


def _explain_refusal(error: BaseException) -> tuple[str, ExitCode] | None:
    """Return what to say where PostgreSQL did not do what it was asked."""
    said = _first_line(error)
    if is_contention(error):
        return f"PostgreSQL is busy: {said}; nothing was done, try again", ExitCode.AWAY
    match getattr(error, "sqlstate", None):
        case state if state == UNDEFINED_TABLE:
            return "the database has no tables yet: run `tallyman migrate upgrade`", ExitCode.AWAY
        case state if state == INSUFFICIENT_PRIVILEGE:
            hint = "`tallyman migrate roles --print` tells which role may do what"
            return f"PostgreSQL refuses this login: {said}; {hint}", ExitCode.REFUSED
        case _:
            return None


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
