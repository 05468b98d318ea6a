"""What imports refuse."""

from domain.errors import DomainError
from domain.jobs.model import Failure


class InvalidMapping(DomainError):
    """The file's columns cannot be matched with the fields of the jobs."""


class FileError(DomainError):
    """The file cannot be read as rows."""


class FileChanged(DomainError):
    """Somebody wrote to the file while it was read."""


class SourceNotFound(DomainError):
    """No source has this name."""


class InvalidSource(DomainError):
    """A source's description cannot be used."""


class SourceAway(Exception):
    """A source cannot be reached; the job that looks there is tried again later."""


class SourceLeftAlone(DomainError):
    """A source was away a moment ago and is not asked again yet."""

    @classmethod
    def of(cls, source: str, *, seconds: float) -> "SourceLeftAlone":
        return cls(
            f"source {source} was away a moment ago and is left alone for {seconds:.0f} seconds;"
            " a look after that finds what has arrived",
            {"source": source},
        )


class RunNotFound(DomainError):
    """No import run has this id."""

    @classmethod
    def of(cls, run_id: str) -> "RunNotFound":
        return cls(f"there is no import run {run_id!r}", {"run_id": run_id})


class RunNotOpen(DomainError):
    """The run is not in a state in which this can be done to it."""

    @classmethod
    def of(cls, run_id: str, state: str) -> "RunNotOpen":
        return cls(
            f"import run {run_id!r} is {state}: one that is checking or running can be cancelled,"
            " and one that is cancelled can be resumed",
            {"run_id": run_id, "state": state},
        )


class ImportRefused(DomainError):
    """More rows are bad than the policy of the run allows."""


class RowsBroken(Exception):
    """Importing these rows failed for a reason that is neither the business's nor the world's."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.type)
