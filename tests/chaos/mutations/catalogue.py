"""Which switch needs which load to be missed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.chaos.mutations import loads, switches
from tests.chaos.mutations.scene import Scene

Load = Callable[[Scene], None]
SwitchOff = Callable[[Scene], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """Something that keeps a promise, switched off, and a load that needs it."""

    name: str
    load: Load
    switch_off: SwitchOff


BLAMED: Mapping[Load, str] = {
    loads.killer: "all-kills",
    loads.bad_neighbour: "all-bad",
}
"""Jobs that are to die."""
RESTARTED = (
    loads.crowd,
    loads.crossing,
    loads.copies,
    loads.arrival,
    loads.bad_neighbour,
    loads.lots,
    loads.received,
)
"""Loads after which what is left open is run again; the others have to get that far themselves."""
LOADS: tuple[Load, ...] = (
    loads.crowd,
    loads.crossing,
    loads.copies,
    loads.arrival,
    loads.forgetful_broker,
    loads.killer,
    loads.bad_neighbour,
    loads.lots,
    loads.received,
)
MUTATIONS = (
    Mutation(name="guard on the increment", load=loads.crowd, switch_off=switches.guard),
    Mutation(name="claim of the job", load=loads.copies, switch_off=switches.claim),
    Mutation(name="order of locks", load=loads.crossing, switch_off=switches.lock_order),
    Mutation(
        name="second look before a refusal", load=loads.arrival, switch_off=switches.second_look
    ),
    Mutation(name="epoch key", load=loads.forgetful_broker, switch_off=switches.epoch_key),
    Mutation(name="crash accounting", load=loads.killer, switch_off=switches.crash_accounting),
    Mutation(
        name="halving of a failed message", load=loads.bad_neighbour, switch_off=switches.halving
    ),
    Mutation(name="claim of messages together", load=loads.lots, switch_off=switches.claim_of_new),
    Mutation(name="note of what is taken", load=loads.received, switch_off=switches.note),
    Mutation(name="events in the transaction", load=loads.crowd, switch_off=switches.outbox),
    Mutation(name="movements in the transaction", load=loads.crowd, switch_off=switches.movements),
)
