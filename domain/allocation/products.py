"""Products: who may have which stock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from domain.allocation.batches import Batch
from domain.allocation.commands import Policy
from domain.allocation.errors import Shortage
from domain.allocation.events import (
    LineAllocated,
    LineBackordered,
    LineDeallocated,
    Portion,
    PromiseDateChanged,
)
from domain.allocation.orders import Allocation, LineState, OrderLine, Ranking, Terms
from domain.allocation.strategies import earliest, rank
from domain.allocation.tally import Cause, Counter, StockMovement, Tally


class Choice(NamedTuple):
    """Stock picked for a line but not yet given to it: thousands a second, so a tuple."""

    picks: tuple[tuple[Batch, int], ...]
    ranking: Ranking

    @property
    def quantity(self) -> int:
        return sum([quantity for _, quantity in self.picks])

    def hold(self) -> None:
        """Count the picks as allocated while the rest of an order is chosen."""
        for batch, quantity in self.picks:
            batch.allocated += quantity

    def let_go(self) -> None:
        """Undo `hold`."""
        for batch, quantity in self.picks:
            batch.allocated -= quantity


@dataclass(slots=True, kw_only=True, eq=False)
class Product:
    """The aggregate of a SKU: its batches, and the only one who gives and takes their units."""

    sku: str
    version: int = 0
    batches: dict[str, Batch] = field(default_factory=dict)
    """By reference."""

    @property
    def available(self) -> int:
        return sum(batch.available for batch in self.batches.values())

    def choose(self, quantity: int, *, terms: Terms, partly: bool = False) -> Choice | None:
        """Pick batches for `quantity` units: one that fits whole, else several where terms allow.

        With `partly`, what there is will do, if it is at least one unit.
        """
        ranked = [batch for batch in self.batches.values() if batch.available > 0]
        if len(ranked) > 1:
            ranked = rank(terms.strategy, ranked)
        ranking = tuple([(batch.reference, batch.available, batch.eta) for batch in ranked])
        for batch in ranked:
            if batch.can_allocate(quantity):
                return Choice(picks=((batch, quantity),), ranking=ranking)
        if not terms.may_split:
            return None
        picks = []
        wanted = quantity
        for batch in ranked:
            taken = min(wanted, batch.available)
            picks.append((batch, taken))
            wanted -= taken
            if not wanted:
                break
        if not picks or (wanted and not partly):
            return None
        return Choice(picks=tuple(picks), ranking=ranking)

    def shortage(self, line: OrderLine, *, available: int) -> Shortage:
        """Say what `line` lacks, of `available` units that its order found."""
        covered = 0
        eta = None
        for batch in sorted(self.batches.values(), key=earliest):
            covered += batch.available
            if covered >= line.outstanding:
                eta = batch.eta
                break
        return Shortage(
            line_id=line.line_id,
            sku=line.sku,
            requested=line.outstanding,
            available=available,
            earliest_eta=eta,
        )

    def allocate(
        self, line: OrderLine, tally: Tally, *, cause: Cause, partly: bool = False
    ) -> bool:
        """Give `line` what it lacks; false, and nothing done, where that cannot be had.

        A line that has a part, but may not be split, grows on its batch or moves whole.
        """
        if line.allocations and not line.terms.may_split:
            choice = self._choose_to_grow(line)
            if choice and choice.quantity == line.quantity:
                self.take_back(line, tally, cause=cause)
        else:
            choice = self.choose(line.outstanding, terms=line.terms, partly=partly)
        if choice is None:
            return False
        portions = self.give(line, choice, tally, cause=cause)
        tally.events.append(
            LineAllocated(
                order_id=line.order_id, line_id=line.line_id, sku=line.sku, portions=portions
            )
        )
        return True

    def give(
        self, line: OrderLine, choice: Choice, tally: Tally, *, cause: Cause
    ) -> tuple[Portion, ...]:
        """Give `line` what was chosen for it; the caller tells of the portions."""
        for batch, quantity in choice.picks:
            batch.allocated += quantity
            held = line.allocations.get(batch.reference)
            line.allocations[batch.reference] = Allocation(
                batch_reference=batch.reference,
                quantity=quantity + (held.quantity if held else 0),
                eta=batch.eta,
                strategy=line.terms.strategy,
                ranking=choice.ranking,
            )
            self._move(tally, cause, batch, Counter.ALLOCATED, quantity, line=line)
        if not line.outstanding:
            _settle(line, LineState.ALLOCATED, tally)
        elif line.state is not LineState.BACKORDERED:
            line.state = LineState.PARTIALLY_ALLOCATED
        tally.touch(line)
        return tuple(
            [
                Portion(batch=batch.reference, quantity=quantity, eta=batch.eta)
                for batch, quantity in choice.picks
            ]
        )

    def take_back(
        self,
        line: OrderLine,
        tally: Tally,
        *,
        cause: Cause,
        quantity: int | None = None,
        only: str | None = None,
    ) -> None:
        """Take `quantity` units from `line` (all where None), `only` from one batch if given.

        What arrives last is taken first, so what stays with the line is what it has soonest.
        """
        held = [
            self.batches[reference]
            for reference in line.allocations
            if only is None or reference == only
        ]
        left = quantity if quantity is not None else line.allocated
        portions = []
        for batch in sorted(held, key=earliest, reverse=True):
            allocation = line.allocations[batch.reference]
            taken = min(left, allocation.quantity)
            if not taken:
                break
            left -= taken
            batch.allocated -= taken
            if taken == allocation.quantity:
                del line.allocations[batch.reference]
            else:
                line.allocations[batch.reference] = allocation._replace(
                    quantity=allocation.quantity - taken
                )
            self._move(tally, cause, batch, Counter.ALLOCATED, -taken, line=line)
            portions.append(Portion(batch=batch.reference, quantity=taken, eta=batch.eta))
        tally.touch(line)
        if portions:
            tally.events.append(
                LineDeallocated(
                    order_id=line.order_id,
                    line_id=line.line_id,
                    sku=line.sku,
                    portions=tuple(portions),
                    cause=cause,
                )
            )

    def backorder(self, line: OrderLine, tally: Tally) -> None:
        """Let `line` wait for what it lacks."""
        line.state = LineState.BACKORDERED
        tally.touch(line)
        tally.events.append(
            LineBackordered(
                order_id=line.order_id,
                line_id=line.line_id,
                sku=line.sku,
                outstanding=line.outstanding,
            )
        )

    def serve(self, waiting: Iterable[OrderLine], tally: Tally) -> None:
        """Give free stock to those who wait, by priority, then first come.

        One who cannot be served whole does not hold up those behind.
        """
        queue = sorted(waiting, key=lambda line: line.turn)
        freed = True
        while freed:
            # A line that moves whole frees units, which those before it may have waited for.
            freed = False
            for line in queue:
                if not self.available:
                    return
                freed |= self._serve_next(line, tally)

    def _serve_next(self, line: OrderLine, tally: Tally) -> bool:
        """Serve `line` where it waits and can be; tell whether that freed other units."""
        if line.state is not LineState.BACKORDERED:
            return False
        before, held = line.promise, set(line.allocations)
        if self.allocate(line, tally, cause=Cause.BACKORDER_SERVED, partly=True) and held:
            _tell_promise(line, before, tally)
        return not held <= set(line.allocations)

    def add_batch(self, batch: Batch, tally: Tally) -> None:
        """Take a new batch on record."""
        self.batches[batch.reference] = batch
        tally.batches[batch.reference] = batch
        self._move(tally, Cause.BATCH_CREATED, batch, Counter.PURCHASED, batch.purchased)
        self._changed(tally)

    def change_quantity(
        self, batch: Batch, quantity: int, holders: Sequence[OrderLine], tally: Tally
    ) -> None:
        """Set what `batch` holds; of its `holders`, those it can no longer serve move or wait.

        Victims are taken in a fixed order: lowest priority, newest, line id. Each gives up what
        it has of this batch, then finds other stock in the order of those who wait, or waits.
        """
        victims = []
        promises = {line.identity: line.promise for line in holders}
        for line in sorted(holders, key=_displacement):
            if batch.allocated <= quantity:
                break
            self.take_back(line, tally, cause=Cause.DISPLACED, only=batch.reference)
            victims.append(line)
        self._move(
            tally, Cause.QUANTITY_CHANGED, batch, Counter.PURCHASED, quantity - batch.purchased
        )
        batch.purchased = quantity
        tally.batches[batch.reference] = batch
        self._changed(tally)
        for line in sorted(victims, key=lambda line: line.turn):
            if self.allocate(line, tally, cause=Cause.REALLOCATED):
                _tell_promise(line, promises[line.identity], tally)
            else:
                self.backorder(line, tally)

    def change_eta(
        self, batch: Batch, eta: date | None, holders: Sequence[OrderLine], tally: Tally
    ) -> None:
        """Set the day `batch` arrives and tell its `holders` whose promise moves."""
        batch.eta = eta
        tally.batches[batch.reference] = batch
        self._changed(tally)
        for line in sorted(holders, key=lambda line: line.turn):
            before = line.promise
            held = line.allocations[batch.reference]
            line.allocations[batch.reference] = held._replace(eta=eta)
            _tell_promise(line, before, tally)

    def withdraw(self, line: OrderLine, tally: Tally, *, cause: Cause) -> None:
        """Release all that `line` holds; it waits no longer."""
        self.take_back(line, tally, cause=cause)
        _settle(line, LineState.CANCELLED, tally)
        self._changed(tally)

    def resize(self, line: OrderLine, quantity: int, tally: Tally) -> Shortage | None:
        """Set what `line` wants: release the surplus, or find the rest as its order agreed.

        A line that may not be split grows on its batch or moves whole to another.
        """
        before, had = line.promise, bool(line.allocations)
        if quantity <= line.quantity:
            self._shrink(line, quantity, tally)
        elif line.state is LineState.BACKORDERED:
            line.quantity = quantity
        else:
            shortage = self._grow(line, quantity, tally)
            if shortage:
                return shortage
        tally.touch(line)
        if had:
            _tell_promise(line, before, tally)
        self._changed(tally)
        return None

    def _shrink(self, line: OrderLine, quantity: int, tally: Tally) -> None:
        line.quantity = quantity
        self.take_back(line, tally, cause=Cause.LINE_CHANGED, quantity=max(0, -line.outstanding))
        if not line.outstanding:
            _settle(line, LineState.ALLOCATED, tally)

    def _grow(self, line: OrderLine, quantity: int, tally: Tally) -> Shortage | None:
        before, line.quantity = line.quantity, quantity
        if self.allocate(line, tally, cause=Cause.LINE_CHANGED):
            return None
        match line.terms.policy:
            case Policy.BACKORDER:
                self.backorder(line, tally)
                return None
            case Policy.PARTIAL if line.terms.may_split:
                self.allocate(line, tally, cause=Cause.LINE_CHANGED, partly=True)
                line.state = LineState.PARTIALLY_ALLOCATED
                return None
            case Policy.PARTIAL | Policy.ALL_OR_NOTHING:
                shortage = self.shortage(line, available=self.available)
                line.quantity = before
                return shortage

    def _choose_to_grow(self, line: OrderLine) -> Choice | None:
        [reference] = line.allocations
        batch = self.batches[reference]
        if not batch.can_allocate(line.outstanding):
            return self.choose(line.quantity, terms=line.terms)
        ranking = ((reference, batch.available, batch.eta),)
        return Choice(picks=((batch, line.outstanding),), ranking=ranking)

    def _changed(self, tally: Tally) -> None:
        if self.sku not in tally.versions:
            self.version += 1
            tally.versions[self.sku] = self.version

    def _move(
        self,
        tally: Tally,
        cause: Cause,
        batch: Batch,
        counter: Counter,
        change: int,
        *,
        line: OrderLine | None = None,
    ) -> None:
        if change:
            tally.movements.append(
                StockMovement(
                    cause=cause,
                    sku=self.sku,
                    batch_reference=batch.reference,
                    counter=counter,
                    change=change,
                    order_id=line.order_id if line else None,
                    line_id=line.line_id if line else None,
                )
            )


def _settle(line: OrderLine, state: LineState, tally: Tally) -> None:
    """Set the state of a line that lacks nothing now; its order may be complete by that."""
    if line.state not in (LineState.PENDING, LineState.ALLOCATED):
        tally.settled.add(line.order_id)
    line.state = state


def _displacement(line: OrderLine) -> tuple[int, int, str, str]:
    return (line.terms.priority, -line.terms.sequence, line.order_id, line.line_id)


def _tell_promise(line: OrderLine, before: date | None, tally: Tally) -> None:
    if line.promise != before:
        tally.events.append(
            PromiseDateChanged(
                order_id=line.order_id,
                line_id=line.line_id,
                sku=line.sku,
                before=before,
                after=line.promise,
            )
        )
