"""Families of jobs: what has to be there before, and what a process does that may die of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from tests.chaos.stand import Stand

BATCH = "allocation.create_batch"
ORDER = "allocation.allocate_order"
CUT = "allocation.change_batch_quantity"
ETA = "allocation.change_batch_eta"
RESIZE = "allocation.change_line_quantity"
DEALLOCATE = "allocation.deallocate_line"
CANCEL = "allocation.cancel_order"
PRUNE = "maintenance.prune_ledger"

ROWS = 10
"""Rows of a file: two whole chunks and a half."""

# Two attempts at the order fail; a sequence counts them, for no rollback takes that back.
_BREAK = """
CREATE SEQUENCE IF NOT EXISTS broken_attempts;
CREATE OR REPLACE FUNCTION break_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.order_id LIKE '%-breaks' AND nextval('broken_attempts') % 3 <> 0 THEN
        RAISE EXCEPTION 'this attempt fails' USING ERRCODE = 'internal_error';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER break_once BEFORE INSERT ON sales_order
    FOR EACH ROW EXECUTE FUNCTION break_once();
SELECT setval('broken_attempts', 3);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Jobs of one sort."""

    name: str
    prepare: Callable[[Stand], None]
    """Bring about what has to be there; nobody dies of it."""
    act: Callable[[Stand], None]
    """Do it; a successor does it again, as clients and brokers do."""
    later: tuple[int, ...] = ()
    """Later visits to a boundary that are deadly too: those of the jobs that follow."""


def _order(stand: Stand, name: str, **terms: object) -> dict[str, Any]:
    return {
        "order_id": stand.id(name),
        "lines": [
            {"sku": stand.id("tea"), "quantity": 2},
            {"sku": stand.id("cup"), "quantity": 1},
        ],
        **terms,
    }


def _orders(stand: Stand, count: int) -> dict[str, dict[str, Any]]:
    return {
        f"order-{n}": _order(stand, f"order-{n}", may_split=bool(n % 2), policy="backorder")
        for n in range(count)
    }


def _stock(stand: Stand) -> None:
    stand.do(
        BATCH,
        {
            "tea": {"reference": stand.id("tea"), "sku": stand.id("tea"), "quantity": 10},
            "cup": {"reference": stand.id("cup"), "sku": stand.id("cup"), "quantity": 10},
        },
    )


def _placed(stand: Stand) -> None:
    _stock(stand)
    stand.do(ORDER, {"placed": _order(stand, "placed")})


def _short(stand: Stand) -> None:
    """Have little stock, all of it taken, and an order that waits."""
    _stock(stand)
    lines = [{"sku": stand.id("tea"), "quantity": 10}]
    stand.do(ORDER, {"first": {"order_id": stand.id("first"), "lines": lines}})
    waits = {"order_id": stand.id("waits"), "lines": lines, "policy": "backorder"}
    stand.do(ORDER, {"waits": waits})


def _registered(stand: Stand) -> None:
    stand.do("users.register", {"ann": _person(stand, "ann")})


def _person(stand: Stand, name: str) -> Mapping[str, Any]:
    # Ids are long; names are not.
    short = f"{name}{crc32(stand.name.encode())}"
    return {
        "user_id": stand.id(name),
        "username": short,
        "email": f"{short}@example.com",
        "name": name,
    }


def _batch_rows(stand: Stand) -> list[dict[str, str]]:
    return [
        {"reference": stand.id(f"B{n}"), "sku": stand.id(f"S{n % 3}"), "quantity": "7"}
        for n in range(ROWS)
    ]


def _stock_and_file(stand: Stand) -> None:
    _stock(stand)
    rows = [
        {"order_id": stand.id(f"O{n // 2}"), "sku": stand.id(sku), "quantity": "1"}
        for n, sku in enumerate(["tea", "cup"] * (ROWS // 2))
    ]
    stand.lay("orders", rows)


def _user_rows(stand: Stand) -> list[dict[str, str]]:
    people = (_person(stand, f"u{n}") for n in range(ROWS))
    return [{name: str(value) for name, value in person.items()} for person in people]


def _breaking(stand: Stand) -> None:
    _stock(stand)
    stand.execute(_BREAK)


def _one(kind: str, **payload: Callable[[Stand], object] | object) -> Callable[[Stand], None]:
    """Hand over one job and run it; a value of the payload may depend on the stand."""

    def act(stand: Stand) -> None:
        values = {
            name: value(stand) if callable(value) else value for name, value in payload.items()
        }
        stand.do(kind, {"job": values})

    return act


def _id(name: str) -> Callable[[Stand], object]:
    return lambda stand: stand.id(name)


def _relayed(stand: Stand) -> None:
    stand.submit(ORDER, {f"order-{n}": _order(stand, f"order-{n}") for n in range(5)})
    stand.relay()


def _known_to_the_broker(stand: Stand) -> None:
    _stock(stand)
    stand.submit(ORDER, {"first": _order(stand, "first")})
    stand.relay()


def _forgotten(stand: Stand) -> None:
    stand.submit(ORDER, {f"order-{n}": _order(stand, f"order-{n}") for n in range(3)})
    if not stand.is_successor:
        stand.forget()
    stand.relay()


_ALL = (
    Family(
        name="batches",
        prepare=lambda _: None,
        act=_stock,
    ),
    Family(
        name="order",
        prepare=_stock,
        act=lambda stand: stand.do(ORDER, {"order": _order(stand, "order")}),
    ),
    Family(
        name="message",
        prepare=_stock,
        act=lambda stand: stand.take(ORDER, "order", _order(stand, "order")),
    ),
    Family(
        name="together",
        prepare=_stock,
        act=lambda stand: stand.take_together(ORDER, _orders(stand, 8)),
    ),
    Family(
        name="together, one fails",
        prepare=_breaking,
        act=lambda stand: stand.take_together(
            ORDER, {**_orders(stand, 2), "breaks": _order(stand, "breaks")}
        ),
    ),
    Family(
        name="received",
        prepare=_stock,
        act=lambda stand: stand.receive(ORDER, _orders(stand, 4)),
    ),
    Family(
        name="many orders",
        prepare=_stock,
        act=lambda stand: stand.do(
            ORDER,
            _orders(stand, 8),
        ),
    ),
    Family(
        name="refusal",
        prepare=_short,
        act=lambda stand: stand.do(ORDER, {"refused": _order(stand, "refused")}),
    ),
    Family(
        name="failure",
        prepare=_breaking,
        act=lambda stand: stand.do(
            ORDER, {"breaks": _order(stand, "breaks"), "holds": _order(stand, "holds")}
        ),
    ),
    Family(
        name="suspects",
        prepare=_stock,
        act=lambda stand: stand.run(
            ORDER,
            stand.submit(ORDER, {f"order-{n}": _order(stand, f"order-{n}") for n in range(3)}),
            redelivered=True,
        ),
    ),
    Family(
        name="cut",
        prepare=_short,
        act=_one(CUT, reference=_id("tea"), quantity=4),
    ),
    Family(
        name="more stock",
        prepare=_short,
        act=_one(CUT, reference=_id("tea"), quantity=25),
    ),
    Family(name="eta", prepare=_placed, act=_one(ETA, reference=_id("tea"), eta="2031-05-01")),
    Family(
        name="resize",
        prepare=_placed,
        act=_one(RESIZE, order_id=_id("placed"), line_id="1", quantity=5),
    ),
    Family(
        name="deallocate",
        prepare=_placed,
        act=_one(DEALLOCATE, order_id=_id("placed"), line_id="2"),
    ),
    Family(name="cancel", prepare=_placed, act=_one(CANCEL, order_id=_id("placed"))),
    Family(
        name="register",
        prepare=lambda _: None,
        act=lambda stand: stand.do(
            "users.register", {"ann": _person(stand, "ann"), "ben": _person(stand, "ben")}
        ),
    ),
    Family(
        name="update",
        prepare=_registered,
        act=_one("users.update", user_id=_id("ann"), name="Ann the Second"),
    ),
    Family(
        name="status",
        prepare=_registered,
        act=_one("users.change_status", user_id=_id("ann"), status="active"),
    ),
    Family(name="erase", prepare=_registered, act=_one("users.erase", user_id=_id("ann"))),
    Family(
        name="schedule",
        prepare=lambda _: None,
        act=lambda stand: stand.tick(PRUNE, {"older_than_days": 3_000}),
    ),
    Family(
        name="import batches",
        prepare=lambda stand: stand.lay("batches", _batch_rows(stand)),
        act=lambda stand: stand.look("batches"),
    ),
    Family(
        name="import orders",
        prepare=_stock_and_file,
        act=lambda stand: stand.look("orders"),
        later=(2,),
    ),
    Family(
        name="import users",
        prepare=lambda stand: stand.lay("users", _user_rows(stand)),
        act=lambda stand: stand.look("users"),
    ),
    Family(name="relay", prepare=_known_to_the_broker, act=_relayed),
    Family(name="lost memory", prepare=_stock, act=_forgotten),
)

FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
