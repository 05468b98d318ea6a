"""What an import refuses before it looks at a single row."""

from domain.errors import DomainError


class InvalidMapping(DomainError):
    """The file's columns cannot be matched with the fields of the jobs."""
