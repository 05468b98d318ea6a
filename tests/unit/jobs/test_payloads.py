"""JSON against the commands of the domain."""

import pytest

from adapters.payloads import Payloads
from domain.allocation.commands import AllocateOrder, Line
from domain.allocation.errors import InvalidOrder, InvalidQuantity
from domain.errors import InvalidPayload
from domain.kinds import KINDS

payloads = Payloads(KINDS)


class TestDecode:
    def test_gives_lines_their_position_as_id(self) -> None:
        command = payloads.decode(
            "allocation.allocate_order",
            {"order_id": "O1", "lines": [{"sku": "LAMP", "quantity": 2}]},
        )
        assert command == AllocateOrder(
            order_id="O1", lines=(Line(sku="LAMP", quantity=2, line_id="1"),)
        )

    def test_lets_the_business_refuse_a_value(self) -> None:
        with pytest.raises(InvalidQuantity, match="quantity must be at least 1, got -3"):
            payloads.decode(
                "allocation.allocate_order",
                {"order_id": "O1", "lines": [{"sku": "LAMP", "quantity": -3}]},
            )

    def test_refuses_an_order_without_lines(self) -> None:
        with pytest.raises(InvalidOrder, match="1 to 1000 lines"):
            payloads.decode("allocation.allocate_order", {"order_id": "O1", "lines": []})

    def test_refuses_unknown_fields_of_a_line(self) -> None:
        with pytest.raises(InvalidPayload, match=r"lines\.0\.qty: Unexpected keyword argument"):
            payloads.decode(
                "allocation.allocate_order",
                {"order_id": "O1", "lines": [{"sku": "LAMP", "quantity": 1, "qty": 1}]},
            )

    def test_never_repeats_a_refused_value(self) -> None:
        with pytest.raises(InvalidPayload) as refused:
            payloads.decode("users.register", {"password": "hunter2"})
        assert "hunter2" not in str(refused.value.args)


class TestSchema:
    @pytest.mark.parametrize("kind", KINDS)
    def test_describes_every_field_of_every_kind(self, kind: str) -> None:
        schema = payloads.schema(kind)
        assert schema["additionalProperties"] is False
        assert all("description" in field for field in schema["properties"].values())
