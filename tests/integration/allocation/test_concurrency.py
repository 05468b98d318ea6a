"""Jobs of allocation that meet on real PostgreSQL: what they leave is what some order would."""

from collections import Counter
from collections.abc import Sequence
from threading import Barrier, get_ident

import pytest
from sqlalchemy import Connection, Engine

from adapters.postgres.unit_of_work import BeginPostgresWork
from domain.allocation.commands import (
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    DeallocateLine,
)
from domain.jobs.model import JobState, Submission
from domain.messages import Command
from tests.fakes.allocation_builders import SPRING, SUMMER, a_backorder, a_batch, an_order
from tests.integration.allocation.actors import (
    SECONDS,
    Actor,
    Scene,
    a_job,
    deadlocks,
    every_interleaving,
    run,
    stopped,
    told,
    wait_until_they_wait,
)
from tests.stock_audit import Books, read_books


def books_of(engine: Engine) -> Books:
    with engine.connect() as connection:
        books = read_books(connection)
    books.audit()
    return books


def gather(actors: Sequence[Actor]) -> Counter[str]:
    """Start actors, wait for all of them and count what they were told."""
    for actor in actors:
        actor.start()
    return Counter(told(actor.end())[0] for actor in actors)


def accept(engine: Engine, *jobs: Submission) -> None:
    with BeginPostgresWork(engine=engine)() as work:
        work.jobs.accept([(job, "allocation", 5) for job in jobs])
        work.commit()


class Gate:
    """Lets no actor pass a boundary, the first time, until all are there."""

    def __init__(self, parties: int, point: str = "stock.glanced") -> None:
        self._barrier = Barrier(parties)
        self._point = point
        self._passed: set[int] = set()

    def __call__(self, point: str) -> None:
        if point == self._point and get_ident() not in self._passed:
            self._passed.add(get_ident())
            self._barrier.wait(SECONDS)


class TestManyOrders:
    def test_fifty_that_all_saw_the_last_unit_end_as_one_success_and_49_refusals(
        self, engine: Engine
    ) -> None:
        run(engine, a_batch("b1", 1))
        gate = Gate(50)
        actors = [
            Actor(engine, a_job(an_order(f"o{number}", 1)), watch=gate) for number in range(50)
        ]

        assert gather(actors) == {"ok": 1, "OutOfStock": 49}
        books = books_of(engine)
        assert books.batches["b1"].allocated == 1
        assert len([move for move in books.movements if move.counter == "allocated"]) == 1
        assert deadlocks(engine) == 0

    def test_of_two_products_in_opposite_orders_never_deadlock(self, engine: Engine) -> None:
        run(engine, a_batch("b2", 12), a_batch("b1", 12, sku="CHAIR"))
        gate = Gate(24)
        actors = [
            Actor(
                engine,
                a_job(
                    an_order(f"o{number}", ("LAMP", 1), ("CHAIR", 1))
                    if number % 2
                    else an_order(f"o{number}", ("CHAIR", 1), ("LAMP", 1))
                ),
                watch=gate,
            )
            for number in range(24)
        ]

        assert gather(actors) == {"ok": 12, "OutOfStock": 12}
        assert {row.available for row in books_of(engine).batches.values()} == {0}
        assert [actor.contention.errors for actor in actors] == [[]] * 24
        assert deadlocks(engine) == 0

    def test_backordered_cancelled_and_cut_in_opposite_orders_never_deadlock(
        self, engine: Engine
    ) -> None:
        run(engine, a_batch("b2", 6), a_batch("b1", 6, sku="CHAIR"))
        run(engine, *(an_order(f"c{number}", ("CHAIR", 1), 1) for number in range(6)))
        commands: list[Command] = [
            command
            for number in range(6)
            for command in (
                a_backorder(f"o{number}", ("LAMP", 1), ("CHAIR", 1)),
                CancelOrder(order_id=f"c{number}"),
                a_backorder(f"p{number}", ("CHAIR", 1), ("LAMP", 1)),
                ChangeBatchQuantity(reference=f"b{number % 2 + 1}", quantity=number),
            )
        ]
        gate = Gate(len(commands), "job.claimed")
        actors = [Actor(engine, a_job(each), watch=gate) for each in commands]

        assert gather(actors) == {"ok": 24}
        books_of(engine)
        assert [actor.contention.errors for actor in actors] == [[]] * 24
        assert deadlocks(engine) == 0

    def test_of_the_same_ids_in_batches_of_opposite_orders_never_deadlock(
        self, engine: Engine
    ) -> None:
        run(engine, a_batch("b1", 100))
        names = [f"o{number}" for number in range(9)]
        there = [a_job(an_order(name, 1), f"there-{name}") for name in names]
        back = [
            a_job(an_order(name, 1), f"back-{place}") for place, name in enumerate(reversed(names))
        ]
        accept(engine, *there, *back)
        # The order in the middle is being placed, so both batches stop halfway.
        middle = stopped(engine, an_order("o4", 1), at="commit.ready")
        batches = [Actor(engine, *jobs, together=True).start() for jobs in (there, back)]
        with engine.connect() as connection:
            wait_until_they_wait(connection, 2)

        assert told(middle.end())[0] == "ok"

        for batch in batches:
            batch.end()
            assert {told(report)[0] for report in batch.reports} == {"ok"}
            assert batch.contention.errors == []
        assert books_of(engine).batches["b1"].allocated == 9
        assert deadlocks(engine) == 0


class TestOneJobDeliveredManyTimes:
    def test_at_once_has_one_effect_and_ten_equal_answers(self, engine: Engine) -> None:
        run(engine, a_batch("b1", 10))
        job = a_job(an_order("o1", 3))
        actors = [Actor(engine, job) for _ in range(10)]

        assert gather(actors) == {"ok": 10}

        answers = [told(actor.reports[0]) for actor in actors]
        assert all(answer == answers[0] for answer in answers)
        assert books_of(engine).batches["b1"].allocated == 3
        assert sum("job.handled" in actor.points for actor in actors) == 1

    @pytest.mark.parametrize("stop", ["job.claimed", "stock.held", "commit.ready"])
    def test_waits_for_the_one_that_runs_and_answers_with_its_outcome(
        self, engine: Engine, connection: Connection, stop: str
    ) -> None:
        run(engine, a_batch("b1", 1))
        job = a_job(an_order("o1", 3))
        first = stopped(engine, job, at=stop)
        second = Actor(engine, job).start()
        wait_until_they_wait(connection, 1)

        refused = told(first.end())

        assert refused[0] == "OutOfStock"
        assert told(second.end()) == refused
        assert "job.handled" not in second.points


class TestAnOrderAndACut:
    def test_end_refused_or_displaced_at_every_interleaving(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku, reference = f"s{number}", f"b{number}"
            return Scene(
                before=[a_batch(reference, 10, sku=sku)],
                first=an_order(f"o{number}", (sku, 10)),
                second=ChangeBatchQuantity(reference=reference, quantity=5),
            )

        ends = set()
        for meeting in every_interleaving(engine, stage):
            (code, _), (cut, result) = meeting.answers
            assert (cut, result["quantity"], result["allocated"]) == ("ok", 5, 0)
            ends.add((meeting.number, code))

        books = books_of(engine)
        for number, code in ends:
            assert books.batches[f"b{number}"][1:3] == (5, 0)
            state = books.lines[f"o{number}", "1"].state
            assert (code, state) in {("ok", "backordered"), ("OutOfStock", "rejected")}
        assert {code for _, code in ends} == {"ok", "OutOfStock"}
        assert deadlocks(engine) == 0

    def test_that_may_wait_and_split_ends_with_five_at_every_interleaving(
        self, engine: Engine
    ) -> None:
        def stage(number: int) -> Scene:
            sku, reference = f"s{number}", f"b{number}"
            return Scene(
                before=[a_batch(reference, 10, sku=sku)],
                first=a_backorder(f"o{number}", (sku, 10), may_split=True),
                second=ChangeBatchQuantity(reference=reference, quantity=5),
            )

        numbers = [meeting.number for meeting in every_interleaving(engine, stage)]

        books = books_of(engine)
        for number in numbers:
            assert books.batches[f"b{number}"][1:3] == (5, 5)
            assert books.lines[f"o{number}", "1"].state == "backordered"
        assert deadlocks(engine) == 0


class TestAnOrderAndAnArrivingBatch:
    def test_never_end_with_a_stale_no(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 0, sku=sku)],
                first=an_order(f"o{number}", (sku, 5)),
                second=a_batch(f"c{number}", 5, sku=sku),
            )

        available = "SELECT coalesce(max(purchased), 0) FROM batch WHERE sku = 's' || :number"
        seen = set()
        for meeting in every_interleaving(engine, stage, observe=available):
            (code, _), (arrived, _) = meeting.answers
            assert arrived == "ok"
            assert code == "ok" or meeting.observed[0] == 0, meeting
            seen.add(code)

        books_of(engine)
        assert seen == {"ok", "OutOfStock"}
        assert deadlocks(engine) == 0

    def test_always_end_served_where_the_order_waits(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 0, sku=sku)],
                first=a_backorder(f"o{number}", (sku, 5)),
                second=a_batch(f"c{number}", 5, sku=sku),
            )

        numbers = [meeting.number for meeting in every_interleaving(engine, stage)]

        books = books_of(engine)
        assert {books.lines[f"o{number}", "1"].state for number in numbers} == {"allocated"}
        assert deadlocks(engine) == 0

    def test_always_end_served_where_an_increase_a_cancellation_or_a_release_brings_it(
        self, engine: Engine
    ) -> None:
        def stage(number: int) -> Scene:
            sku, held = f"s{number}", f"h{number}"
            releases: list[Command] = [
                ChangeBatchQuantity(reference=f"b{number}", quantity=10),
                CancelOrder(order_id=held),
                DeallocateLine(order_id=held, line_id="1"),
                ChangeLineQuantity(order_id=held, line_id="1", quantity=1),
            ]
            return Scene(
                before=[a_batch(f"b{number}", 6, sku=sku), an_order(held, (sku, 5))],
                first=a_backorder(f"o{number}", (sku, 5)),
                second=releases[number % 4],
            )

        numbers = [meeting.number for meeting in every_interleaving(engine, stage)]

        books = books_of(engine)
        assert {books.lines[f"o{number}", "1"].state for number in numbers} == {"allocated"}
        assert deadlocks(engine) == 0


class TestTheSameOrderFromTwoJobs:
    def test_is_placed_once_at_every_interleaving(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            order = an_order(f"o{number}", (sku, 2), (sku, 3))
            return Scene(before=[a_batch(f"b{number}", 10, sku=sku)], first=order, second=order)

        for meeting in every_interleaving(engine, stage):
            first, second = meeting.answers
            assert first == second
            assert first[0] == "ok"

        assert {row.allocated for row in books_of(engine).batches.values()} == {5}
        assert deadlocks(engine) == 0

    def test_with_other_contents_is_a_conflict_for_one_of_them(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 10, sku=sku)],
                first=an_order(f"o{number}", (sku, 2)),
                second=an_order(f"o{number}", (sku, 3)),
            )

        for meeting in every_interleaving(engine, stage):
            assert sorted(code for code, _ in meeting.answers) == ["OrderConflict", "ok"]

        books_of(engine)

    def test_refused_before_and_sent_again_is_placed_once(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            order = an_order(f"o{number}", (sku, 5))
            return Scene(
                before=[
                    a_batch(f"b{number}", 1, sku=sku),
                    order,
                    a_batch(f"c{number}", 9, sku=sku),
                ],
                first=order,
                second=order,
            )

        numbers = []
        for meeting in every_interleaving(engine, stage):
            first, second = meeting.answers
            assert first == second
            assert first[0] == "ok"
            numbers.append(meeting.number)

        books = books_of(engine)
        assert {books.batches[f"c{number}"].allocated for number in numbers} == {5}
        assert deadlocks(engine) == 0

    def test_first_refused_and_served_by_a_batch_between(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            order = an_order(f"o{number}", (sku, 5))
            return Scene(
                before=[a_batch(f"b{number}", 1, sku=sku), order],
                first=order,
                second=a_batch(f"c{number}", 5, sku=sku),
            )

        seen = {meeting.answers[0][0] for meeting in every_interleaving(engine, stage)}

        assert seen == {"ok", "OutOfStock"}
        books_of(engine)


class TestACancellation:
    def test_meets_the_drain_that_would_serve_its_order(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 1, sku=sku), a_backorder(f"o{number}", (sku, 5))],
                first=CancelOrder(order_id=f"o{number}"),
                second=a_batch(f"c{number}", 5, sku=sku),
            )

        for meeting in every_interleaving(engine, stage):
            assert [code for code, _ in meeting.answers] == ["ok", "ok"]

        books = books_of(engine)
        assert {row.state for row in books.lines.values()} == {"cancelled"}
        assert {row.allocated for row in books.batches.values()} == {0}
        assert deadlocks(engine) == 0

    def test_of_two_lines_by_two_batches_tells_once_that_the_order_is_complete(
        self, engine: Engine
    ) -> None:
        def stage(number: int) -> Scene:
            sku, chair = f"s{number}", f"t{number}"
            return Scene(
                before=[
                    a_batch(f"b{number}", 1, sku=sku),
                    a_batch(f"c{number}", 1, sku=chair),
                    a_backorder(f"o{number}", (sku, 5), (chair, 5)),
                ],
                first=a_batch(f"d{number}", 5, sku=sku),
                second=a_batch(f"e{number}", 5, sku=chair),
            )

        meetings = {f"order:o{m.number}" for m in every_interleaving(engine, stage)}

        with engine.connect() as connection:
            told = connection.exec_driver_sql(
                "SELECT aggregate FROM outbox WHERE name = 'OrderAllocated' ORDER BY id"
            ).scalars()
            times = Counter(told)
        assert meetings <= times.keys()
        assert set(times.values()) == {1}
        assert deadlocks(engine) == 0

    def test_meets_the_cancellation_that_would_serve_its_order(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku, chair = f"s{number}", f"t{number}"
            return Scene(
                before=[
                    a_batch(f"b{number}", 5, sku=sku),
                    a_batch(f"c{number}", 5, sku=chair),
                    an_order(f"o{number}", (sku, 5), (chair, 5)),
                    a_backorder(f"p{number}", (chair, 5), (sku, 5)),
                ],
                first=CancelOrder(order_id=f"o{number}"),
                second=CancelOrder(order_id=f"p{number}"),
            )

        for meeting in every_interleaving(engine, stage):
            assert [code for code, _ in meeting.answers] == ["ok", "ok"]

        books = books_of(engine)
        assert {row.state for row in books.lines.values()} == {"cancelled"}
        assert {row.allocated for row in books.batches.values()} == {0}
        assert deadlocks(engine) == 0

    def test_does_not_see_an_order_that_came_after_it_looked(
        self, engine: Engine, connection: Connection
    ) -> None:
        observer = connection.execution_options(isolation_level="AUTOCOMMIT")
        run(engine, a_batch("b0", 0))
        cancel = stopped(engine, CancelOrder(order_id="o1"), at="stock.held")
        run(engine, a_backorder("o1", 5))
        arrival = stopped(engine, a_batch("b1", 5), at="job.handled")
        # Were it to see the order now, it would wait for its product with a line read before.
        cancel.ends(observer)
        arrival.end()

        assert told(cancel.end()) == ("OrderNotFound", {"order_id": "o1"})
        assert books_of(engine).held_by("o1", "1") == {"b1": 5}


class TestTwoCuts:
    def test_follow_one_another_at_every_interleaving(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku, reference = f"s{number}", f"b{number}"
            return Scene(
                before=[
                    a_batch(reference, 10, sku=sku),
                    an_order(f"o{number}", (sku, 6)),
                    an_order(f"p{number}", (sku, 4)),
                ],
                first=ChangeBatchQuantity(reference=reference, quantity=6),
                second=ChangeBatchQuantity(reference=reference, quantity=4),
            )

        numbers = []
        for meeting in every_interleaving(engine, stage):
            assert [code for code, _ in meeting.answers] == ["ok", "ok"]
            numbers.append(meeting.number)

        books = books_of(engine)
        for number in numbers:
            states = [books.lines[f"{name}{number}", "1"].state for name in "op"]
            end = (books.batches[f"b{number}"].purchased, states)
            assert end in [
                (4, ["backordered", "allocated"]),
                (6, ["backordered", "allocated"]),
                (6, ["allocated", "backordered"]),
            ]
        assert deadlocks(engine) == 0

    def test_that_may_not_displace_meet_an_order(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku, reference = f"s{number}", f"b{number}"
            return Scene(
                before=[a_batch(reference, 10, sku=sku)],
                first=an_order(f"o{number}", (sku, 8)),
                second=ChangeBatchQuantity(reference=reference, quantity=5, displace=False),
            )

        seen = set()
        for meeting in every_interleaving(engine, stage):
            seen.add(tuple(code for code, _ in meeting.answers))

        assert seen == {("ok", "QuantityTooLow"), ("OutOfStock", "ok")}
        books_of(engine)


class TestALineThatGrows:
    def test_meets_an_order_that_wants_the_same_units(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 10, sku=sku), an_order(f"o{number}", (sku, 4))],
                first=ChangeLineQuantity(order_id=f"o{number}", line_id="1", quantity=8),
                second=an_order(f"p{number}", (sku, 5)),
            )

        seen = set()
        for meeting in every_interleaving(engine, stage):
            seen.add(tuple(code for code, _ in meeting.answers))

        assert seen == {("ok", "OutOfStock"), ("OutOfStock", "ok")}
        books_of(engine)
        assert deadlocks(engine) == 0


class TestAnOrderAndADelay:
    def test_never_end_with_a_promise_that_nobody_took_back(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            sku = f"s{number}"
            return Scene(
                before=[a_batch(f"b{number}", 10, sku=sku, eta=SPRING)],
                first=an_order(f"o{number}", (sku, 5)),
                second=ChangeBatchEta(reference=f"b{number}", eta=SUMMER),
            )

        promised: dict[str, str] = {}
        for meeting in every_interleaving(engine, stage):
            (code, result), (delay, _) = meeting.answers
            assert (code, delay) == ("ok", "ok")
            promised[f"o{meeting.number}"] = result["lines"][0]["batches"][0]["eta"]

        with engine.connect() as connection:
            corrected = {
                row.order_id
                for row in connection.exec_driver_sql(
                    "SELECT payload ->> 'order_id' AS order_id FROM outbox"
                    " WHERE name = 'PromiseDateChanged'"
                )
            }
        for order_id, eta in promised.items():
            assert (eta == "2030-07-01") != (order_id in corrected), order_id
        assert set(promised.values()) == {"2030-04-01", "2030-07-01"}
        books_of(engine)


class TestTheSameReferenceFromTwoJobs:
    def test_for_two_products_is_a_conflict_for_one_of_them(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            return Scene(
                before=[a_batch(f"x{number}", 1, sku=f"s{number}")],
                first=a_batch(f"b{number}", 5, sku=f"s{number}"),
                second=a_batch(f"b{number}", 7, sku=f"t{number}", eta=SPRING),
            )

        for meeting in every_interleaving(engine, stage):
            codes = [code for code, _ in meeting.answers]
            assert sorted(codes) == ["BatchConflict", "ok"]
            row = books_of_batch(engine, f"b{meeting.number}")
            assert row == (
                (f"s{meeting.number}", 5) if codes[0] == "ok" else (f"t{meeting.number}", 7)
            )

        books_of(engine)
        assert deadlocks(engine) == 0

    def test_with_the_same_contents_is_created_once(self, engine: Engine) -> None:
        def stage(number: int) -> Scene:
            batch = a_batch(f"b{number}", 5, sku=f"s{number}")
            return Scene(before=[], first=batch, second=batch)

        for meeting in every_interleaving(engine, stage):
            first, second = meeting.answers
            assert first == second

        assert {row.purchased for row in books_of(engine).batches.values()} == {5}
        assert deadlocks(engine) == 0


class TestStaleDecisions:
    def test_are_made_again_and_counted_as_one_attempt(
        self, engine: Engine, connection: Connection
    ) -> None:
        run(engine, a_batch("b1", 5))
        slow = stopped(engine, an_order("o1", 3), at="stock.glanced")
        run(engine, an_order("o2", 3))

        report = slow.end()

        assert told(report)[0] == "OutOfStock"
        assert (report.job.state, report.job.attempts) == (JobState.REJECTED, 1)
        assert slow.points.count("job.claimed") == 2
        events = connection.exec_driver_sql("SELECT name FROM outbox ORDER BY id").scalars().all()
        assert events == ["BatchCreated", "OrderAllocated", "OutOfStock"]

    def test_find_other_stock_where_there_is_some(self, engine: Engine) -> None:
        run(engine, a_batch("b1", 5), a_batch("b2", 5, eta=SPRING))
        slow = stopped(engine, an_order("o1", 3), at="stock.before_move")
        run(engine, an_order("o2", 3))

        assert told(slow.end())[0] == "ok"
        books = books_of(engine)
        assert (books.held_by("o1", "1"), books.held_by("o2", "1")) == ({"b2": 3}, {"b1": 3})


def books_of_batch(engine: Engine, reference: str) -> tuple[str, int]:
    with engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT sku, purchased FROM batch WHERE reference = %(reference)s",
            {"reference": reference},
        ).one()
    return row.sku, row.purchased
