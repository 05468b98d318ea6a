"""When a failed job is tried again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter.

    The n-th failure waits a random time between 0 and min(cap, base * 2^(n-1)) seconds; the
    database draws it. Source: M. Brooker, "Exponential Backoff And Jitter", AWS, 2015.
    """

    base_seconds: float = 2.0
    cap_seconds: float = 600.0
