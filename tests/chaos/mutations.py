"""The mutations: what keeps promises is switched off, one thing at a time, and must be missed.

`python -m tests.chaos.mutations` prints the table, and ends with 1 where a mutation was not
noticed, or where the load alone, with nothing switched off, does not end well.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from rich.console import Console
from rich.table import Table

from adapters.broker import CeleryBroker
from adapters.embedded.servers import EmbeddedServers
from adapters.postgres import ledger, schema, stock_sql
from adapters.postgres.engine import create
from adapters.postgres.ledger import PostgresLedger
from adapters.postgres.outbox import PostgresOutbox
from adapters.redis_transport import channel
from domain.allocation import placing
from domain.jobs.executor import Executor, _FirstSight
from domain.jobs.model import OPEN_STATES
from tests.chaos import audit_trail
from tests.chaos.checker import check
from tests.chaos.evidence import plain
from tests.chaos.families import BATCH, CUT, ORDER
from tests.chaos.history import History
from tests.chaos.stand import Stand
from tests.databases import drop

CROWD = 4
"""Processes that work at once."""
DEADLINE_SECONDS = 8.0
"""Time that a load has to be drained; it takes one or two when nothing is switched off."""
DEATHS = 12
"""Workers that a job may kill before somebody has to notice: it has five attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A fresh database and broker, and the history of what clients do there."""

    url: str
    broker_url: str
    folder: Path

    @contextmanager
    def stand(
        self,
        name: str,
        *,
        reached: Callable[[str], None] = lambda _: None,
        is_successor: bool = False,
    ) -> Iterator[Stand]:
        engine = create(self.url, by_index=True)
        try:
            with History(self.folder / f"{name}.jsonl") as told:
                yield Stand(
                    engine=engine,
                    broker_url=self.broker_url,
                    history=told,
                    name="all",
                    reached=reached,
                    folder=self.folder / "files",
                    is_successor=is_successor,
                )
        finally:
            engine.dispose()

    def execute(self, statement: str) -> None:
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            connection.execute(statement.encode())


Load = Callable[[Scene], None]
SwitchOff = Callable[[Scene], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """Something that keeps a promise, switched off, and a load that needs it."""

    name: str
    load: Load
    switch_off: SwitchOff


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was noticed of a mutation."""

    name: str
    load: str
    noticed: Sequence[str]
    seconds: float


# Loads: each ends well where nothing is switched off.


def crowd(scene: Scene) -> None:
    """Have four processes place orders for the last units of three products, in any order."""
    skus = [f"sku-{number}" for number in range(3)]
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {sku: _batch(sku, quantity=60) for sku in skus})
        stand.submit(
            ORDER,
            {
                f"order-{number}": {
                    "order_id": f"order-{number}",
                    "lines": [
                        {"sku": skus[(number + step) % 3], "quantity": 1 + number % 3}
                        for step in range(3)
                    ],
                }
                for number in range(120)
            },
        )

    def work(number: int) -> None:
        with scene.stand(f"worker-{number}", reached=_slowly("stock.glanced")) as stand:
            for first in range(number, 120, CROWD):
                stand.run(ORDER, [stand.id(f"order-{first}")])

    _at_once(work)


def crossing(scene: Scene) -> None:
    """Have four processes place orders that all want the same twelve products."""
    skus = [f"sku-{number}" for number in range(12)]
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {sku: _batch(sku, quantity=10_000) for sku in skus})
        lines = [{"sku": sku, "quantity": 1} for sku in skus]
        ids = stand.submit(
            ORDER,
            {f"order-{n}": {"order_id": f"order-{n}", "lines": lines} for n in range(160)},
        )

    def work(number: int) -> None:
        with scene.stand(f"worker-{number}") as stand:
            for job_id in ids[number::CROWD]:
                stand.run(ORDER, [job_id])

    _at_once(work)


def copies(scene: Scene) -> None:
    """Have four processes run the same jobs at once, each as often as any."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=1_000)})
        ids = stand.submit(ORDER, {f"order-{n}": _order(f"order-{n}") for n in range(20)})
        cuts = {f"cut-{n}": {"reference": "tea", "quantity": 1_000 + n} for n in range(5)}
        cut_ids = stand.submit(CUT, cuts)

    def work(number: int) -> None:
        with scene.stand(f"worker-{number}", reached=_slowly("job.claimed")) as stand:
            for job_id in ids:
                stand.run(ORDER, [job_id])
            for job_id in cut_ids:
                stand.run(CUT, [job_id])

    _at_once(work)


def arrival(scene: Scene) -> None:
    """Let stock arrive after an order has looked for it, and before the order waits for it."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=1)})

    def arrive(boundary: str) -> None:
        if boundary == "stock.glanced":
            with scene.stand("supplier") as supplier:
                supplier.do(BATCH, {"more": _batch("tea", reference="more", quantity=50)})

    with scene.stand("worker", reached=arrive) as stand:
        stand.do(ORDER, {"waits": {**_order("waits", quantity=20), "policy": "backorder"}})


def forgetful_broker(scene: Scene) -> None:
    """Have Redis forget what the workers were told."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=100)})
        stand.submit(ORDER, {"first": _order("first")})
        stand.relay()
        stand.submit(ORDER, {f"order-{n}": _order(f"order-{n}") for n in range(10)})
        stand.tell()
    with redis.Redis.from_url(scene.broker_url) as client:
        client.flushall()
    with scene.stand("worker") as stand:
        _until_drained(stand, stand.relay)


def killer(scene: Scene) -> None:
    """Have a job kill whoever runs it, with innocent ones in its message."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=100)})
        names = ["order-1", "kills", "order-2"]
        ids = stand.submit(ORDER, {name: _order(name) for name in names})
    for _ in range(DEATHS):
        child = os.fork()
        if not child:
            _as_child(lambda: _die_of(scene, ids))
        os.waitpid(child, 0)


def bad_neighbour(scene: Scene) -> None:
    """Put a job that always fails among others."""
    _refuse_bad(scene)
    with scene.stand("worker") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=100)})
        names = [*(f"order-{n}" for n in range(7)), "bad"]
        ids = stand.submit(ORDER, {name: _order(name) for name in names})
        for _ in range(6):
            stand.run(ORDER, ids)


def lots(scene: Scene) -> None:
    """Have four processes take the same messages together, while others have them alone."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=1_000)})
    orders = {f"order-{n}": _order(f"order-{n}") for n in range(20)}

    def work(number: int) -> None:
        with scene.stand(f"worker-{number}", reached=_slowly("job.claimed")) as stand:
            for first in range(0, 20, 5):
                names = list(orders)[first : first + 5]
                if number % 2:
                    names.reverse()
                stand.take_together(ORDER, {name: orders[name] for name in names})

    _at_once(work)


def received(scene: Scene) -> None:
    """Have a worker die of what it has taken from Redis, and another go on."""
    with scene.stand("prepare") as stand:
        stand.do(BATCH, {"tea": _batch("tea", quantity=100)})
    orders = {f"order-{n}": _order(f"order-{n}") for n in range(20)}

    def die(boundary: str) -> None:
        if boundary == "messages.taken":
            os.kill(os.getpid(), signal.SIGKILL)

    def work(number: int) -> None:
        reached = _slowly("") if number else die
        with scene.stand(f"worker-{number}", reached=reached, is_successor=bool(number)) as stand:
            stand.receive(ORDER, orders)

    _one_by_one(work, 2)


# What is switched off.


def nothing(_: Scene) -> None:
    """Leave all as it is."""


def guard(scene: Scene) -> None:
    """Move counters without looking whether there is enough, nor a CHECK that stands behind."""
    bounds = (
        "      AND batch.allocated + change.allocated\n"
        "          BETWEEN 0 AND batch.purchased + change.purchased\n"
    )
    stock_sql.MOVE = _without(stock_sql.MOVE, bounds)

    scene.execute("""
        DO $$
        DECLARE held record;
        BEGIN
            FOR held IN SELECT conname FROM pg_constraint
                        WHERE contype = 'c' AND conrelid = 'batch'::regclass LOOP
                EXECUTE format('ALTER TABLE batch DROP CONSTRAINT %I', held.conname);
            END LOOP;
        END $$""")


def claim(scene: Scene) -> None:
    """Take jobs without their lock, and finish what was finished meanwhile."""
    ledger._CLAIM = _without(ledger._CLAIM, " FOR NO KEY UPDATE")
    scene.execute("DROP TRIGGER job_moves ON job")


def claim_of_new(scene: Scene) -> None:
    """Take the messages in hand together for new ones, though they are known."""
    ledger._CLAIM_NEW = _instead(
        ledger._CLAIM_NEW,
        "ON CONFLICT (id) DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET state = 'queued', result = NULL, finished_at = NULL,"
        " next_dispatch = now()",
    )
    scene.execute("DROP TRIGGER job_moves ON job")


def note(_: Scene) -> None:
    """Take messages from Redis and note them nowhere."""
    kept = "".join(
        line
        for line in channel.TAKE.splitlines(keepends=True)
        if "HSET" not in line and "ZADD" not in line
    )
    assert kept != channel.TAKE
    channel.TAKE = kept


def lock_order(_: Scene) -> None:
    """Lock batches in the order in which they come."""
    stock_sql.MOVE = _instead(
        stock_sql.MOVE,
        "ORDER BY reference FOR NO KEY UPDATE",
        "ORDER BY random() FOR NO KEY UPDATE",
    )


def second_look(_: Scene) -> None:
    """Refuse, and let wait, on what was glanced."""
    decide = placing._decide

    def decide_once(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401  as it is
        decision = decide(*arguments, **options)
        decision.short.clear()
        return decision

    setattr(placing, "_decide", decide_once)  # noqa: B010  as above


def epoch_key(_: Scene) -> None:
    """Never notice that Redis has forgotten."""
    setattr(CeleryBroker, "lost_its_memory", lambda _: False)  # noqa: B010  a patch, whatever its type


def crash_accounting(_: Scene) -> None:
    """Run suspects without counting their attempts first."""
    setattr(PostgresLedger, "begin_attempt", lambda _, job, **__: job)  # noqa: B010  as above


def halving(_: Scene) -> None:
    """Blame all jobs of a message for what one of them did."""

    def blame_all(executor: Executor, kind: Any, claim: Any, error: Any, **options: Any) -> Any:  # noqa: ANN401
        return executor._record_failure(
            kind, claim, error, _FirstSight(), counted=options["counted"]
        )

    setattr(Executor, "_after_failure", blame_all)  # noqa: B010  as above


def outbox(_: Scene) -> None:
    """Lose the events of every other transaction."""
    flush = PostgresOutbox.flush
    calls = iter(range(1_000_000))

    def flush_half(self: PostgresOutbox, *origins: Any) -> None:
        if next(calls) % 2:
            self._events.clear()
        flush(self, *origins)

    setattr(PostgresOutbox, "flush", flush_half)  # noqa: B010  as above


def movements(_: Scene) -> None:
    """Note only half of what moves."""
    stock_sql.MOVE = _instead(
        stock_sql.MOVE,
        "JOIN moved ON moved.reference = batch_reference",
        "JOIN moved ON moved.reference = batch_reference AND place %% 2 = 0",
    )


BLAMED: Mapping[Load, str] = {
    killer: "all-kills",
    bad_neighbour: "all-bad",
}
"""Jobs that are to die."""
RESTARTED = (crowd, crossing, copies, arrival, bad_neighbour, lots, received)
"""Loads after which what is left open is run again; the others have to get that far themselves."""
LOADS: tuple[Load, ...] = (
    crowd,
    crossing,
    copies,
    arrival,
    forgetful_broker,
    killer,
    bad_neighbour,
    lots,
    received,
)
MUTATIONS = (
    Mutation(name="guard on the increment", load=crowd, switch_off=guard),
    Mutation(name="claim of the job", load=copies, switch_off=claim),
    Mutation(name="order of locks", load=crossing, switch_off=lock_order),
    Mutation(name="second look before a refusal", load=arrival, switch_off=second_look),
    Mutation(name="epoch key", load=forgetful_broker, switch_off=epoch_key),
    Mutation(name="crash accounting", load=killer, switch_off=crash_accounting),
    Mutation(name="halving of a failed message", load=bad_neighbour, switch_off=halving),
    Mutation(name="claim of messages together", load=lots, switch_off=claim_of_new),
    Mutation(name="note of what is taken", load=received, switch_off=note),
    Mutation(name="events in the transaction", load=crowd, switch_off=outbox),
    Mutation(name="movements in the transaction", load=crowd, switch_off=movements),
)


def control(server: "Server", load: Load) -> Result:
    """Run a load with nothing switched off."""
    return _run(server, Mutation(name="nothing", load=load, switch_off=nothing))


def _run(server: "Server", mutation: Mutation) -> Result:
    began = time.monotonic()
    with server.scene() as scene:
        child = os.fork()
        if not child:
            _as_child(lambda: _play(scene, mutation))
        _, status = os.waitpid(child, 0)
        noticed = [] if status == 0 else [f"the load ended with {status}"]
        noticed += _verdict(scene, mutation)
    return Result(
        name=mutation.name,
        load=mutation.load.__name__.replace("_", " "),
        noticed=noticed,
        seconds=time.monotonic() - began,
    )


def _play(scene: Scene, mutation: Mutation) -> None:
    mutation.switch_off(scene)
    mutation.load(scene)
    with scene.stand("end") as stand:
        stand.relay_events()
        began = time.monotonic()
        if mutation.load in RESTARTED:
            stand.finish()
        stand.history.drained(seconds=time.monotonic() - began, allowed=DEADLINE_SECONDS)


def _verdict(scene: Scene, mutation: Mutation) -> list[str]:
    problems = check(scene.folder, scene.url, stream_url=scene.broker_url).problems
    blamed = BLAMED.get(mutation.load)
    noticed = [
        problem
        for problem in problems
        # That these die is as it should be.
        if not (blamed and problem.startswith("dead: ") and f"'{blamed}'" in problem)
    ]
    with psycopg.connect(plain(scene.url)) as connection:
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    if row and row[0]:
        noticed.append(f"deadlocks: PostgreSQL had to break {row[0]}")
    return noticed


class Server:
    """Servers, and a fresh database for each scene."""

    def __init__(self, folder: Path, *, url: str, broker_url: str) -> None:
        self._folder = folder
        self._url = url
        self._broker_url = broker_url
        self._scenes = 0

    @contextmanager
    def scene(self) -> Iterator[Scene]:
        self._scenes += 1
        name = f"mutation_{os.getpid()}_{self._scenes}"
        with psycopg.connect(plain(self._url), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = urlsplit(self._url)._replace(path=f"/{name}").geturl()
        engine = create(url)
        schema.upgrade(engine)
        engine.dispose()
        audit_trail.lay(url)
        with redis.Redis.from_url(self._broker_url) as client:
            client.flushall()
        try:
            yield Scene(url=url, broker_url=self._broker_url, folder=self._folder / name)
        finally:
            with psycopg.connect(plain(self._url), autocommit=True) as connection:
                drop(connection, name)


def _refuse_bad(scene: Scene) -> None:
    scene.execute("""
        CREATE FUNCTION refuse_bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.order_id = 'bad' THEN
                RAISE EXCEPTION 'bad' USING ERRCODE = 'internal_error';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse_bad BEFORE INSERT ON sales_order
            FOR EACH ROW EXECUTE FUNCTION refuse_bad()""")


def _one_by_one(work: Callable[[int], None], count: int) -> None:
    for number in range(count):
        child = os.fork()
        if not child:
            _as_child(lambda number=number: work(number))  # type: ignore[misc]
        os.waitpid(child, 0)


def _at_once(work: Callable[[int], None]) -> None:
    children = []
    for number in range(CROWD):
        child = os.fork()
        if not child:
            _as_child(lambda number=number: work(number))  # type: ignore[misc]
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _as_child(action: Callable[[], None]) -> None:
    signal.alarm(int(4 * DEADLINE_SECONDS))
    try:
        action()
    except BaseException:  # noqa: BLE001  nothing may return into the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _die_of(scene: Scene, ids: Sequence[str]) -> None:
    def reached(boundary: str) -> None:
        if boundary == "stock.glanced" and dying.get("now"):
            os.kill(os.getpid(), signal.SIGKILL)

    dying: dict[str, bool] = {}
    with scene.stand("worker", reached=reached, is_successor=True) as stand:
        for job_id in ids:
            dying["now"] = job_id.endswith("kills")
            stand.run(ORDER, [job_id])


def _until_drained(stand: Stand, step: Callable[[], None]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while stand.queries.newest(states=sorted(OPEN_STATES), limit=1):
        if time.monotonic() > deadline:
            return
        step()
        time.sleep(0.02)


def _slowly(boundary: str) -> Callable[[str], None]:
    """Take a little time at a boundary, so that others come to it too."""

    def reached(name: str) -> None:
        if name == boundary:
            time.sleep(0.003)

    return reached


def _batch(sku: str, *, quantity: int, reference: str = "") -> Mapping[str, Any]:
    return {"reference": reference or sku, "sku": sku, "quantity": quantity}


def _order(order_id: str, *, quantity: int = 1) -> dict[str, Any]:
    return {"order_id": order_id, "lines": [{"sku": "tea", "quantity": quantity}]}


def _without(statement: str, part: str) -> str:
    return _instead(statement, part, "")


def _instead(statement: str, part: str, other: str) -> str:
    assert part in statement, f"there is nothing to switch off: {part!r}"
    return statement.replace(part, other)


def table(results: Sequence[Result]) -> Table:
    """Show what was noticed of each."""
    found = Table(title="What was switched off, and what was noticed of it")
    for column in ("switched off", "load", "noticed", "seconds"):
        found.add_column(column, overflow="fold")
    for result in results:
        first = result.noticed[0] if result.noticed else "nothing"
        more = f" and {len(result.noticed) - 1} more" if len(result.noticed) > 1 else ""
        found.add_row(result.name, result.load, f"{first}{more}", f"{result.seconds:.1f}")
    return found


def play(server: Server) -> tuple[list[Result], list[Result]]:
    """Run all loads with nothing switched off, then all mutations."""
    return (
        [control(server, load) for load in LOADS],
        [_run(server, mutation) for mutation in MUTATIONS],
    )


def main() -> None:
    """Switch off one thing after the other and print the table."""
    console = Console(width=150)
    with tempfile.TemporaryDirectory(prefix="tallyman-mutations-") as name:
        servers = EmbeddedServers(Path(name))
        try:
            addresses = servers.start()
            server = Server(Path(name), url=addresses.database_url, broker_url=addresses.broker_url)
            controls, results = play(server)
        finally:
            servers.remove_data()
    console.print(table([*controls, *results]))
    unwell = [result.load for result in controls if result.noticed]
    unnoticed = [result.name for result in results if not result.noticed]
    console.print(f"{len(results) - len(unnoticed)} of {len(results)} mutations were noticed")
    if unwell or unnoticed:
        sys.exit(f"unnoticed: {unnoticed}; loads that do not end well alone: {unwell}")


if __name__ == "__main__":
    main()
