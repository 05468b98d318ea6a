"""The port `Stock`: what holds for the fake holds for PostgreSQL."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, text

from adapters.postgres.statements import Statements
from adapters.postgres.stock import PostgresStock
from domain.allocation.batches import Batch
from domain.allocation.commands import (
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    CreateBatch,
    DeallocateLine,
    Policy,
)
from domain.allocation.orders import LineState, Order, OrderLine, Terms
from domain.allocation.ports import Stock
from domain.allocation.products import Product
from domain.allocation.strategies import Strategy
from domain.allocation.tally import Cause, Tally
from domain.errors import StaleDecision
from domain.messages import Command, Event
from tests.fakes.allocation_builders import (
    SPRING,
    SUMMER,
    Together,
    a_backorder,
    a_batch,
    an_order,
    answer,
    handle,
    handle_together,
    histories,
    refusal,
    told,
)
from tests.fakes.stock import FakeAllocationWork, FakeStock
from tests.statements import Watched
from tests.stock_audit import Books, read_books


class FlushedStock(Stock, Protocol):
    """Stock, and what the end of a unit of work does with it."""

    def flush(self) -> None: ...


class SettledStock(PostgresStock):
    """Stock on a real database, which hears of what it has written when it is flushed."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements, reached=lambda _: None)

    def flush(self) -> None:
        super().flush()
        self._statements.settle()


class Work:
    """A unit of work on a real database whose statements and events can be looked at."""

    def __init__(
        self,
        connection: Connection,
        *,
        locks_first: bool = False,
        before: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.statements = Watched(connection, before=before)
        self.stock = SettledStock(self.statements)
        self.locks_first = locks_first
        self.recorded: list[tuple[str, Event]] = []

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        self.recorded.extend((job_id, event) for event in events)


@pytest.fixture(params=["fake", "postgres"])
def stock(request: pytest.FixtureRequest) -> FlushedStock:
    if request.param == "fake":
        return FakeStock()
    connection: Connection = request.getfixturevalue("connection")
    return SettledStock(Statements(connection))


@pytest.fixture
def books(stock: FlushedStock, request: pytest.FixtureRequest) -> Callable[[], Books]:
    """Read all that is on record, where the flushed stock keeps it."""

    def read() -> Books:
        stock.flush()
        if isinstance(stock, FakeStock):
            return stock.books()
        return read_books(request.getfixturevalue("connection"))

    return read


def create(stock: Stock, reference: str = "b1", quantity: int = 10, **said: Any) -> Tally:
    """Put a batch on record."""
    sku = said.pop("sku", "LAMP")
    stock.introduce([sku])
    product = stock.hold([sku], batches=True)[sku]
    tally = Tally(job_id=f"create-{reference}")
    batch = Batch(reference=reference, sku=sku, purchased=quantity, fingerprint="as said", **said)
    product.add_batch(batch, tally)
    stock.save([tally])
    return tally


def a_new_order(order_id: str, *quantities: int, sku: str = "LAMP", **terms: Any) -> Order:
    agreed = Terms(**terms)
    return Order(
        order_id=order_id,
        terms=agreed,
        fingerprint=f"of {order_id}",
        lines=[
            OrderLine(
                order_id=order_id, line_id=str(place), sku=sku, quantity=quantity, terms=agreed
            )
            for place, quantity in enumerate(quantities, start=1)
        ],
    )


def place(stock: Stock, order: Order, *, waits: bool = False) -> Order:
    """Put an order on record whose lines are served as far as they can be."""
    tally = Tally(job_id=f"place-{order.order_id}", orders=[order])
    products: dict[str, Product] = stock.glance({line.sku for line in order.lines})
    for line in order.lines:
        product = products[line.sku]
        if not product.allocate(line, tally, cause=Cause.ORDER_ALLOCATED, partly=waits):
            product.backorder(line, tally)
    stock.save([tally])
    return order


def held(line: OrderLine) -> list[tuple[str, int]]:
    return [(a.batch_reference, a.quantity) for a in line.allocations.values()]


class TestIntroduce:
    def test_makes_products_known_once(self, stock: FlushedStock) -> None:
        stock.introduce(["LAMP", "CHAIR"])
        stock.introduce(["LAMP"])

        assert list(stock.hold(["CHAIR", "LAMP", "DESK"], batches=True)) == ["CHAIR", "LAMP"]
        assert set(stock.glance(["LAMP", "DESK"])) == {"LAMP"}

    def test_of_nothing_does_nothing(self, stock: FlushedStock) -> None:
        stock.introduce([])

        assert stock.hold([], batches=False) == {}
        assert stock.glance([]) == {}


class TestGlance:
    def test_shows_products_and_the_batches_with_units_free(self, stock: FlushedStock) -> None:
        create(stock, "b1", 5, eta=SPRING)
        create(stock, "b2", 3)
        create(stock, "b3", 0)
        place(stock, a_new_order("o1", 3))

        product = stock.glance(["LAMP"])["LAMP"]

        [batch] = product.batches.values()
        assert (batch.reference, batch.sku, batch.available) == ("b1", "LAMP", 5)
        assert (batch.eta, batch.fingerprint) == (SPRING, "as said")

    def test_shows_a_product_without_batches(self, stock: FlushedStock) -> None:
        stock.introduce(["LAMP"])

        assert stock.glance(["LAMP"])["LAMP"].batches == {}

    def test_gives_what_changes_nothing_until_it_is_saved(self, stock: FlushedStock) -> None:
        create(stock)

        stock.glance(["LAMP"])["LAMP"].batches["b1"].allocated = 9

        assert stock.glance(["LAMP"])["LAMP"].available == 10


class TestHold:
    @pytest.mark.parametrize("batches", [True, False])
    def test_shows_all_batches(self, stock: FlushedStock, *, batches: bool) -> None:
        create(stock, "b2", 3)
        create(stock, "b1", 0)
        create(stock, "b9", 3, sku="CHAIR")
        place(stock, a_new_order("o1", 3))

        product = stock.hold(["LAMP"], batches=batches)["LAMP"]

        assert {r: (b.purchased, b.allocated) for r, b in product.batches.items()} == {
            "b1": (0, 0),
            "b2": (3, 3),
        }

    def test_shows_the_version_that_was_saved(self, stock: FlushedStock) -> None:
        create(stock, "b1")
        create(stock, "b2")

        assert stock.hold(["LAMP"], batches=False)["LAMP"].version == 2


class TestSkusOf:
    def test_names_the_product_of_each_batch_that_exists(self, stock: FlushedStock) -> None:
        create(stock, "b1")
        create(stock, "b2", sku="CHAIR")

        assert stock.skus_of({"b1", "b2", "b3"}) == {"b1": "LAMP", "b2": "CHAIR"}
        assert stock.skus_of([]) == {}


class TestOrders:
    def test_come_with_terms_lines_and_allocations(self, stock: FlushedStock) -> None:
        create(stock, "b1", 2, eta=SPRING)
        create(stock, "b2", 9)
        terms: dict[str, Any] = {
            "policy": Policy.BACKORDER,
            "may_split": True,
            "strategy": Strategy.SMALLEST,
            "priority": 7,
        }
        place(stock, a_new_order("o1", 4, 3, **terms))

        order = stock.orders(["o1", "o2"])["o1"]

        assert (order.order_id, order.fingerprint) == ("o1", "of o1")
        assert (order.terms.policy, order.terms.may_split) == (Policy.BACKORDER, True)
        assert (order.terms.strategy, order.terms.priority) == (Strategy.SMALLEST, 7)
        assert [(line.line_id, line.quantity, line.state) for line in order.lines] == [
            ("1", 4, LineState.ALLOCATED),
            ("2", 3, LineState.ALLOCATED),
        ]
        [allocation] = order.lines[0].allocations.values()
        assert (allocation.quantity, allocation.eta, allocation.strategy) == (
            4,
            None,
            Strategy.SMALLEST,
        )
        assert allocation.ranking == (("b1", 2, SPRING), ("b2", 9, None))
        assert {line.terms for line in order.lines} == {order.terms}

    def test_keep_their_lines_in_the_order_in_which_they_were_placed(
        self, stock: FlushedStock
    ) -> None:
        create(stock, "b1", 99)
        order = a_new_order("o1", *[1] * 12)
        order.lines.reverse()
        place(stock, order)

        read = stock.orders(["o1"])["o1"]

        assert [line.line_id for line in read.lines] == [str(n) for n in range(12, 0, -1)]

    def test_are_numbered_first_come_first(self, stock: FlushedStock) -> None:
        create(stock, "b1", 9)
        place(stock, a_new_order("o2", 1))
        place(stock, a_new_order("o1", 1))

        orders = stock.orders(["o1", "o2"])

        assert orders["o2"].terms.sequence < orders["o1"].terms.sequence

    def test_saved_together_are_numbered_as_the_tallies_come(self, stock: FlushedStock) -> None:
        create(stock, "b1", 9)
        names = ["o7", "o1", "o9", "o3"]

        stock.save([Tally(job_id=name, orders=[_waiting(a_new_order(name, 1))]) for name in names])

        orders = stock.orders(names)
        assert sorted(names, key=lambda name: orders[name].terms.sequence) == names

    def test_show_portions_by_reference_with_the_eta_of_now(self, stock: FlushedStock) -> None:
        create(stock, "b2", 2, eta=SPRING)
        create(stock, "b1", 2, eta=SUMMER)
        place(stock, a_new_order("o1", 4, may_split=True))
        tally = Tally(job_id="delay")
        stock.hold(["LAMP"], batches=True)["LAMP"].change_eta(
            stock.hold(["LAMP"], batches=True)["LAMP"].batches["b2"], None, [], tally
        )
        stock.save([tally])

        [line] = stock.orders(["o1"])["o1"].lines

        assert [(a.batch_reference, a.eta) for a in line.allocations.values()] == [
            ("b1", SUMMER),
            ("b2", None),
        ]

    def test_give_what_changes_nothing_until_it_is_saved(self, stock: FlushedStock) -> None:
        create(stock)
        place(stock, a_new_order("o1", 4))

        [line] = stock.orders(["o1"])["o1"].lines
        line.state = LineState.CANCELLED
        line.allocations.clear()

        [again] = stock.orders(["o1"])["o1"].lines
        assert (again.state, held(again)) == (LineState.ALLOCATED, [("b1", 4)])


class TestWaiting:
    def test_shows_the_backordered_lines_of_the_products(self, stock: FlushedStock) -> None:
        create(stock, "b1", 3)
        create(stock, "b2", 0, sku="CHAIR")
        place(stock, a_new_order("o1", 2))
        place(stock, a_new_order("o2", 5, may_split=True, priority=3), waits=True)
        place(stock, a_new_order("o3", 5, sku="CHAIR"))
        _backorder(stock, "o2")

        [line] = stock.waiting(["LAMP", "DESK"])

        assert line.identity == ("o2", "1")
        assert (line.state, held(line)) == (LineState.BACKORDERED, [("b1", 1)])
        assert (line.terms.priority, line.terms.may_split) == (3, True)
        assert {each.order_id for each in stock.waiting(["LAMP", "CHAIR"])} == {"o2", "o3"}

    def test_shows_a_line_until_it_is_served(self, stock: FlushedStock) -> None:
        create(stock, "b1", 0)
        place(stock, a_new_order("o1", 2))
        [line] = stock.waiting(["LAMP"])
        create(stock, "b2", 2)
        tally = Tally(job_id="serve")
        stock.hold(["LAMP"], batches=True)["LAMP"].serve([line], tally)

        stock.save([tally])

        assert stock.waiting(["LAMP"]) == []


class TestHolders:
    def test_shows_the_lines_that_have_units_of_a_batch_with_all_they_have(
        self, stock: FlushedStock
    ) -> None:
        create(stock, "b1", 3)
        create(stock, "b2", 9)
        place(stock, a_new_order("o1", 2, 5))
        place(stock, a_new_order("o2", 4, may_split=True))

        holders = stock.holders("b1")

        assert {line.identity: held(line) for line in holders} == {
            ("o1", "1"): [("b1", 2)],
        }
        assert {line.identity for line in stock.holders("b2")} == {("o1", "2"), ("o2", "1")}
        assert stock.holders("b3") == []

    def test_shows_a_line_no_more_that_was_displaced(self, stock: FlushedStock) -> None:
        create(stock, "b1", 3)
        place(stock, a_new_order("o1", 2))
        product = stock.hold(["LAMP"], batches=True)["LAMP"]
        tally = Tally(job_id="cut")
        product.change_quantity(product.batches["b1"], 1, stock.holders("b1"), tally)

        stock.save([tally])

        assert stock.holders("b1") == []
        assert [line.identity for line in stock.waiting(["LAMP"])] == [("o1", "1")]


class TestSave:
    def test_counts_both_counters_and_writes_each_movement(
        self, stock: FlushedStock, books: Callable[[], Books]
    ) -> None:
        create(stock, "b1", 9)
        place(stock, a_new_order("o1", 2, 3))
        product = stock.hold(["LAMP"], batches=True)["LAMP"]
        tally = Tally(job_id="cut")
        product.change_quantity(product.batches["b1"], 4, stock.holders("b1"), tally)
        stock.save([tally])

        after = books()

        after.audit()
        assert after.batches["b1"][1:3] == (4, 3)
        assert [
            (m.job_id, m.cause, m.counter, m.before, m.after, m.line_id) for m in after.movements
        ] == [
            ("create-b1", "batch_created", "purchased", 0, 9, None),
            ("place-o1", "order_allocated", "allocated", 0, 2, "1"),
            ("place-o1", "order_allocated", "allocated", 2, 5, "2"),
            ("cut", "displaced", "allocated", 5, 3, "1"),
            ("cut", "quantity_changed", "purchased", 9, 4, None),
        ]

    def test_of_nothing_does_nothing(self, stock: FlushedStock, books: Callable[[], Books]) -> None:
        stock.save([])
        stock.save([Tally(job_id="j")])

        assert books() == Books(
            products={}, batches={}, orders=[], lines={}, allocations={}, movements=[]
        )

    def test_takes_a_batch_without_units(
        self, stock: FlushedStock, books: Callable[[], Books]
    ) -> None:
        create(stock, "b1", 0, eta=SPRING)

        assert books().batches["b1"] == ("LAMP", 0, 0, SPRING)

    def test_keeps_with_each_portion_the_job_that_gave_it(
        self, stock: FlushedStock, books: Callable[[], Books]
    ) -> None:
        create(stock, "b0", 0)
        order = place(stock, a_new_order("o1", 6, may_split=True))
        product = stock.hold(["LAMP"], batches=True)["LAMP"]
        tallies = [Tally(job_id="first"), Tally(job_id="second")]
        for tally, reference in zip(tallies, ("b1", "b2"), strict=True):
            batch = Batch(reference=reference, sku="LAMP", purchased=3, fingerprint="f")
            product.add_batch(batch, tally)
            product.serve(order.lines, tally)

        stock.save(tallies)

        assert {key[2]: row.job_id for key, row in books().allocations.items()} == {
            "b1": "first",
            "b2": "second",
        }

    def test_keeps_the_newest_ranking_of_a_line_put_back_on_its_batch(
        self, stock: FlushedStock, books: Callable[[], Books]
    ) -> None:
        create(stock, "b1", 9)
        place(stock, a_new_order("o1", 6))
        place(stock, a_new_order("o2", 3))
        product = stock.hold(["LAMP"], batches=True)["LAMP"]
        tally = Tally(job_id="cut")
        product.change_quantity(product.batches["b1"], 3, stock.holders("b1"), tally)

        stock.save([tally])

        after = books()
        after.audit()
        assert after.held_by("o2", "1") == {"b1": 3}
        assert after.allocations["o2", "1", "b1"].ranking == (("b1", 3, None),)
        assert after.allocations["o2", "1", "b1"].job_id == "cut"

    def test_takes_the_last_word_on_a_line_that_was_placed_and_decided_again(
        self, stock: FlushedStock, books: Callable[[], Books]
    ) -> None:
        create(stock, "b1", 9)
        refused, again = a_new_order("o1", 3), a_new_order("o1", 3)
        refused.lines[0].state = LineState.REJECTED
        first, second = Tally(job_id="first", orders=[refused]), Tally(job_id="second")
        first.touch(refused.lines[0])
        stock.glance(["LAMP"])["LAMP"].allocate(again.lines[0], second, cause=Cause.ORDER_ALLOCATED)

        stock.save([first, second])

        books().audit()
        assert books().lines["o1", "1"].state == "allocated"

    def test_is_seen_by_what_is_read_next(self, stock: FlushedStock) -> None:
        create(stock, "b1", 5)

        place(stock, a_new_order("o1", 2))

        assert stock.glance(["LAMP"])["LAMP"].available == 3
        assert stock.hold(["LAMP"], batches=True)["LAMP"].available == 3

    def test_sets_the_eta_of_a_batch(self, stock: FlushedStock) -> None:
        create(stock, "b1", 5, eta=SPRING)
        for eta in (SUMMER, None):
            product = stock.hold(["LAMP"], batches=True)["LAMP"]
            tally = Tally(job_id="delay")
            product.change_eta(product.batches["b1"], eta, [], tally)
            stock.save([tally])

            assert stock.glance(["LAMP"])["LAMP"].batches["b1"].eta == eta


class TestStaleDecisions:
    def test_are_those_that_take_more_than_there_is(self, stock: FlushedStock) -> None:
        create(stock, "b1", 5)
        seen = stock.glance(["LAMP"])
        place(stock, a_new_order("o1", 3))
        late, tally = a_new_order("o2", 3), Tally(job_id="late")
        tally.orders.append(late)
        seen["LAMP"].allocate(late.lines[0], tally, cause=Cause.ORDER_ALLOCATED)

        with pytest.raises(StaleDecision, match="too few units"):
            _save_and_flush(stock, tally)

    def test_are_those_that_place_an_order_that_exists(self, stock: FlushedStock) -> None:
        create(stock, "b1", 5)
        place(stock, a_new_order("o1", 1))

        with pytest.raises(StaleDecision, match="placed meanwhile"):
            _save_and_flush(stock, Tally(job_id="late", orders=[_waiting(a_new_order("o1", 1))]))

    @pytest.mark.parametrize("sku", ["LAMP", "CHAIR"])
    def test_are_those_that_create_a_batch_that_exists_with_other_contents(
        self, stock: FlushedStock, sku: str
    ) -> None:
        create(stock, "b1", 5)
        stock.introduce(["CHAIR"])
        other = Batch(reference="b1", sku=sku, purchased=7, eta=SPRING, fingerprint="other")
        tally = Tally(job_id="late")
        stock.hold([sku], batches=True)[sku].add_batch(other, tally)

        with pytest.raises(StaleDecision, match="created meanwhile"):
            _save_and_flush(stock, tally)


class TestServicesOnPostgres:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(history=histories(most=10))
    def test_answer_and_write_as_on_the_fake(
        self, connection: Connection, history: list[Together]
    ) -> None:
        fake, real = FakeAllocationWork(), Work(connection)

        with connection.begin_nested() as savepoint:
            for handler, requests in history:
                outcomes = handler(requests, real)
                assert [told(each) for each in outcomes] == [
                    told(each) for each in handler(requests, fake)
                ]
                real.stock.flush()
                books = read_books(connection)
                books.audit()
                assert books == fake.stock.books()
            assert real.recorded == fake.recorded
            savepoint.rollback()

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(history=histories(most=10))
    def test_write_the_same_with_locks_first(
        self, connection: Connection, history: list[Together]
    ) -> None:
        fake, real = FakeAllocationWork(), Work(connection, locks_first=True)

        with connection.begin_nested() as savepoint:
            for handler, requests in history:
                handler(requests, real)
                handler(requests, fake)
            real.stock.flush()
            assert read_books(connection) == fake.stock.books()
            assert real.recorded == fake.recorded
            savepoint.rollback()

    @settings(
        max_examples=10,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(history=histories(most=8))
    def test_give_the_same_answer_again_without_effect_or_event(
        self, connection: Connection, history: list[Together]
    ) -> None:
        work = Work(connection)

        with connection.begin_nested() as savepoint:
            for batch in history:
                for handler, requests in batch.alone:
                    [first] = handler(requests, work)
                    work.stock.flush()
                    books, recorded = read_books(connection), list(work.recorded)
                    [again] = handler(requests, work)
                    work.stock.flush()
                    assert told(again) == told(first)
                    assert (read_books(connection), work.recorded) == (books, recorded)
            savepoint.rollback()

    def test_place_what_was_refused_before_in_the_same_batch(self, connection: Connection) -> None:
        work = Work(connection)
        order = an_order("o1", 2, 7, 1, 4, 3, strategy=Strategy.SMALLEST)
        other = an_order("o2", 1, strategy=Strategy.SMALLEST)
        handle(work, a_batch("b1", 2), a_batch("b2", 6), a_batch("b3", 10))

        refused, _, placed = handle_together(work, order, other, order)

        work.stock.flush()
        read_books(connection).audit()
        assert refusal(refused)[0] == "OutOfStock"
        assert answer(placed)["state"] == "allocated"

    @pytest.mark.parametrize("size", [1, 150])
    def test_place_orders_in_a_constant_number_of_statements(
        self, connection: Connection, size: int
    ) -> None:
        work = Work(connection)
        handle(work, a_batch("b1", 10 * size))

        assert _statements(work, *(an_order(f"o{n}", 2, 3) for n in range(size))) == 6

    def test_refuse_and_backorder_in_a_constant_number_of_statements(
        self, connection: Connection
    ) -> None:
        work = Work(connection)
        handle(work, a_batch("b1", 10))

        assert _statements(work, *(an_order(f"o{n}", 20) for n in range(150))) == 6
        assert _statements(work, *(a_backorder(f"p{n}", 20) for n in range(150))) == 6

    def test_create_batches_in_a_constant_number_of_statements(
        self, connection: Connection
    ) -> None:
        work = Work(connection)

        assert _statements(work, *(a_batch(f"b{n}") for n in range(150))) == 8

    def test_hold_nothing_that_appears_while_they_lock(self, connection: Connection) -> None:
        seen: list[str] = []

        def create_meanwhile(statement: str) -> None:
            if "FROM batch WHERE sku" in statement and not seen:
                seen.append(statement)
                with connection.engine.begin() as other:
                    late = Work(other)
                    handle(late, a_batch("b1", 5))
                    late.stock.flush()

        work = Work(connection, locks_first=True, before=create_meanwhile)

        [outcome] = handle(work, an_order("o1", 1))

        assert seen
        assert refusal(outcome)[0] == "InvalidSku"


class TestMovements:
    @pytest.mark.parametrize(
        "statement", ["UPDATE stock_movement SET after = 0", "DELETE FROM stock_movement"]
    )
    def test_cannot_be_rewritten(self, connection: Connection, statement: str) -> None:
        work = Work(connection)
        handle(work, a_batch("b1"))
        work.stock.flush()

        with pytest.raises(Exception, match="append-only"):
            connection.execute(text(statement))

    def test_are_written_in_the_order_in_which_they_happened(self, connection: Connection) -> None:
        work = Work(connection)
        names = [f"{n:03}" for n in range(120)]
        handle_together(work, *(a_batch(name, 20, sku=name) for name in names))
        orders = [an_order(name, (name, 7), (name, 7), (name, 3)) for name in names]
        work.stock.flush()
        connection.execute(text("ANALYZE"))  # what the planner knows must not matter

        handle_together(work, *orders)
        handle_together(work, *(CancelOrder(order_id=name) for name in names))

        work.stock.flush()
        books = read_books(connection)
        books.audit()
        placed = [movement for movement in books.movements if movement.cause == "order_allocated"]
        assert [(m.order_id, m.line_id) for m in placed] == [
            (name, line) for name in names for line in ("1", "2", "3")
        ]


class TestBounds:
    def test_hold_the_largest_numbers_and_names(self, connection: Connection) -> None:
        most, name = 1_000_000_000, "x" * 64
        work = Work(connection)

        outcomes = handle(
            work,
            CreateBatch(reference=name, sku=name, quantity=most),
            an_order(name, (name, most)),
            ChangeLineQuantity(order_id=name, line_id="1", quantity=1),
            ChangeBatchEta(reference=name, eta=SPRING),
            ChangeBatchQuantity(reference=name, quantity=0),
            DeallocateLine(order_id=name, line_id="1"),
            CancelOrder(order_id=name),
        )

        work.stock.flush()
        assert {type(outcome).__name__ for outcome in outcomes} == {"Succeeded"}
        read_books(connection).audit()


def _waiting(order: Order) -> Order:
    for line in order.lines:
        line.state = LineState.BACKORDERED
    return order


def _backorder(stock: Stock, order_id: str) -> None:
    tally = Tally(job_id="wait")
    for line in stock.orders([order_id])[order_id].lines:
        Product(sku=line.sku).backorder(line, tally)
    stock.save([tally])


def _save_and_flush(stock: FlushedStock, tally: Tally) -> None:
    stock.save([tally])
    stock.flush()


def _statements(work: Work, *commands: Command) -> int:
    work.stock.flush()
    before = len(work.statements.sent)
    handle_together(work, *commands)
    work.stock.flush()
    return len(work.statements.sent) - before
