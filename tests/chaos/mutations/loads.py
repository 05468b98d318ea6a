"""The loads: each ends well where nothing is switched off."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from domain.jobs.model import OPEN_STATES
from tests.chaos.families import BATCH, CUT, ORDER
from tests.chaos.mutations.children import CROWD, DEADLINE_SECONDS, as_child, at_once, one_by_one
from tests.chaos.mutations.scene import Scene
from tests.chaos.stand import Stand

DEATHS = 12
"""Workers that a job may kill before somebody has to notice: it has five attempts."""


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

    at_once(work)


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

    at_once(work)


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

    at_once(work)


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
            as_child(lambda: _die_of(scene, ids))
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

    at_once(work)


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

    one_by_one(work, 2)


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
