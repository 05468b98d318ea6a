"""What a command of allocation may say."""

from datetime import date
from typing import Any

import pytest

from domain.allocation.commands import (
    MOST_LINES,
    MOST_UNITS,
    AllocateOrder,
    CancelOrder,
    ChangeBatchEta,
    ChangeBatchQuantity,
    ChangeLineQuantity,
    CreateBatch,
    DeallocateLine,
    Line,
    Policy,
)
from domain.allocation.errors import (
    InvalidIdentifier,
    InvalidOrder,
    InvalidQuantity,
    InvalidSku,
)
from domain.allocation.kinds import KINDS
from domain.allocation.strategies import Strategy
from tests.fakes.allocation_builders import SPRING, SUMMER, a_batch, an_order


class TestKinds:
    def test_are_the_seven_commands(self) -> None:
        assert {kind.name for kind in KINDS} == {
            "allocation.create_batch",
            "allocation.change_batch_quantity",
            "allocation.change_batch_eta",
            "allocation.allocate_order",
            "allocation.change_line_quantity",
            "allocation.deallocate_line",
            "allocation.cancel_order",
        }


class TestQuantities:
    @pytest.mark.parametrize("quantity", [0, 1, MOST_UNITS])
    def test_of_a_batch_are_0_or_more(self, quantity: int) -> None:
        assert CreateBatch(reference="b1", sku="LAMP", quantity=quantity).quantity == quantity
        assert ChangeBatchQuantity(reference="b1", quantity=quantity).quantity == quantity

    @pytest.mark.parametrize(
        ("quantity", "rule"),
        [(-1, "at least 0, got -1"), (MOST_UNITS + 1, f"at most {MOST_UNITS}, got 1000000001")],
    )
    def test_of_a_batch_out_of_bounds_are_refused(self, quantity: int, rule: str) -> None:
        with pytest.raises(InvalidQuantity, match=rule) as caught:
            CreateBatch(reference="b1", sku="LAMP", quantity=quantity)
        assert caught.value.details == {"field": "quantity", "quantity": quantity}
        with pytest.raises(InvalidQuantity, match=rule):
            ChangeBatchQuantity(reference="b1", quantity=quantity)

    @pytest.mark.parametrize("quantity", [-1, 0, MOST_UNITS + 1])
    def test_of_a_line_are_1_or_more(self, quantity: int) -> None:
        with pytest.raises(InvalidQuantity, match=f"got {quantity}"):
            Line(sku="LAMP", quantity=quantity)
        with pytest.raises(InvalidQuantity, match=f"got {quantity}"):
            ChangeLineQuantity(order_id="o1", line_id="1", quantity=quantity)


class TestIdentifiers:
    @pytest.mark.parametrize("value", ["", " b1", "b1 ", "a\nb", "a\x00b", "x" * 65, "\u200b"])
    def test_that_cannot_be_told_apart_are_refused(self, value: str) -> None:
        with pytest.raises(InvalidIdentifier, match="reference must be 1 to 64 printable"):
            CreateBatch(reference=value, sku="LAMP", quantity=1)
        with pytest.raises(InvalidSku, match="sku must be 1 to 64 printable"):
            CreateBatch(reference="b1", sku=value, quantity=1)
        with pytest.raises(InvalidSku):
            Line(sku=value, quantity=1)
        for say in (
            lambda: ChangeBatchQuantity(reference=value, quantity=1),
            lambda: ChangeBatchEta(reference=value, eta=None),
            lambda: an_order(value, 1),
            lambda: ChangeLineQuantity(order_id=value, line_id="1", quantity=1),
            lambda: ChangeLineQuantity(order_id="o1", line_id=value, quantity=1),
            lambda: DeallocateLine(order_id=value, line_id="1"),
            lambda: DeallocateLine(order_id="o1", line_id=value),
            lambda: CancelOrder(order_id=value),
        ):
            with pytest.raises(InvalidIdentifier):
                say()

    @pytest.mark.parametrize("value", ["x", "x" * 64, "Ärmel 7/B", "椅子"])
    def test_may_be_any_printable_text(self, value: str) -> None:
        assert Line(sku=value, quantity=1, line_id=value).line_id == value


class TestLinesOfAnOrder:
    def test_are_called_by_their_position_where_they_have_no_id(self) -> None:
        order = AllocateOrder(
            order_id="o1",
            lines=(
                Line(sku="LAMP", quantity=1),
                Line(sku="LAMP", quantity=1, line_id="gift"),
                Line(sku="LAMP", quantity=1),
            ),
        )

        assert [line.line_id for line in order.lines] == ["1", "gift", "3"]

    @pytest.mark.parametrize("count", [0, MOST_LINES + 1])
    def test_are_1_to_1000(self, count: int) -> None:
        with pytest.raises(InvalidOrder) as caught:
            an_order("o1", *[1] * count)
        assert caught.value.details == {"order_id": "o1", "lines": count}

    def test_as_many_as_are_allowed_fit(self) -> None:
        assert len(an_order("o1", *[1] * MOST_LINES).lines) == MOST_LINES

    @pytest.mark.parametrize("ids", [("a", "a"), ("2", "")])
    def test_have_unique_ids_positions_included(self, ids: tuple[str, ...]) -> None:
        lines = tuple(Line(sku="LAMP", quantity=1, line_id=line_id) for line_id in ids)

        with pytest.raises(InvalidOrder, match="line ids are unique") as caught:
            AllocateOrder(order_id="o1", lines=lines)

        assert caught.value.details["line_id"] in {"a", "2"}

    @pytest.mark.parametrize("priority", [-1, 10])
    def test_wait_by_a_priority_of_0_to_9(self, priority: int) -> None:
        with pytest.raises(InvalidOrder, match=f"got {priority}"):
            an_order("o1", 1, priority=priority)


class TestFingerprints:
    @pytest.mark.parametrize(
        "change",
        [
            {"policy": Policy.BACKORDER},
            {"may_split": True},
            {"strategy": Strategy.SMALLEST},
            {"priority": 1},
        ],
    )
    def test_of_orders_tell_their_terms_apart(self, change: dict[str, Any]) -> None:
        assert an_order("o1", 1, 2).fingerprint() != an_order("o1", 1, 2, **change).fingerprint()

    def test_of_orders_tell_their_lines_apart(self) -> None:
        orders = [
            an_order("o1", 1, 2),
            an_order("o1", 2, 1),
            an_order("o1", 1, 2, 3),
            an_order("o1", 1, ("CHAIR", 2)),
        ]
        assert len({order.fingerprint() for order in orders}) == len(orders)

    def test_of_orders_do_not_tell_a_position_from_the_same_id(self) -> None:
        named = AllocateOrder(order_id="o1", lines=(Line(sku="LAMP", quantity=1, line_id="1"),))

        assert named.fingerprint() == an_order("o1", 1).fingerprint()

    @pytest.mark.parametrize(
        "change", [{"sku": "CHAIR"}, {"quantity": 11}, {"eta": SPRING}, {"eta": SUMMER}]
    )
    def test_of_batches_tell_their_contents_apart(self, change: dict[str, Any]) -> None:
        said: dict[str, Any] = {"reference": "b1", "sku": "LAMP", "quantity": 10, "eta": None}

        assert CreateBatch(**said).fingerprint() == a_batch("b1", 10).fingerprint()
        assert CreateBatch(**said | change).fingerprint() != CreateBatch(**said).fingerprint()

    def test_of_batches_take_equal_days_for_equal(self) -> None:
        assert a_batch(eta=date(2030, 4, 1)).fingerprint() == a_batch(eta=SPRING).fingerprint()
