"""Strategies: named, pure ways to rank the batches that could serve a line."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Protocol, TypeVar


class Offer(Protocol):
    """What a strategy may look at."""

    @property
    def reference(self) -> str: ...
    @property
    def eta(self) -> date | None: ...
    @property
    def available(self) -> int: ...


class Strategy(StrEnum):
    """The strategies that an order can name."""

    EARLIEST = "earliest"
    """On hand first, then the earliest to arrive, ties by reference."""
    SMALLEST = "smallest"
    """The batch with the least available first, so that large ones stay whole."""


OfferT = TypeVar("OfferT", bound=Offer)
Key = Callable[[Offer], tuple[Any, ...]]


def earliest(offer: Offer) -> tuple[bool, date, str]:
    """Sort on hand first, then by eta, ties by reference."""
    return (offer.eta is not None, offer.eta or date.min, offer.reference)


def smallest(offer: Offer) -> tuple[int, bool, date, str]:
    """Sort by what is available, ties as `earliest` does."""
    return (offer.available, *earliest(offer))


_KEYS: Mapping[Strategy, Key] = {Strategy.EARLIEST: earliest, Strategy.SMALLEST: smallest}


def rank(strategy: Strategy, offers: Iterable[OfferT]) -> list[OfferT]:
    """Sort offers by the strategy's key, best first."""
    return sorted(offers, key=_KEYS[strategy])
