"""`tallyman stock`, `orders`, `users` and `schema`: what there is, and why."""

import json
from typing import Any

import pytest

from domain.kinds import KINDS
from tests.fakes.user_builders import PASSWORD_HASH
from tests.integration.command.conftest import RunJobs, Tallyman

ORDER = "allocation.allocate_order"


@pytest.fixture
def done(tallyman: Tallyman, run_jobs: RunJobs) -> Tallyman:
    """Give the command in a shop with some stock and some orders."""
    for kind, payload in (
        ("allocation.create_batch", {"reference": "shelf", "sku": "LAMP", "quantity": 5}),
        (
            "allocation.create_batch",
            {"reference": "ship", "sku": "LAMP", "quantity": 20, "eta": "2027-01-10"},
        ),
        ("allocation.create_batch", {"reference": "rug", "sku": "RUG", "quantity": 0}),
        (ORDER, _order("o1", ("LAMP", 4))),
        (ORDER, _order("o2", ("LAMP", 21), ("RUG", 3), policy="backorder")),
        (ORDER, _order("o3", ("RUG", 1))),
        (ORDER, _order("o4", ("RUG", 2), policy="backorder", priority=9)),
    ):
        tallyman("submit", kind, json.dumps(payload))
        run_jobs()
    return tallyman


def _order(order_id: str, *lines: tuple[str, int], **terms: object) -> dict[str, object]:
    wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return {"order_id": order_id, "lines": wanted, "may_split": True, **terms}


class TestStock:
    def test_sums_up_each_product(self, done: Tallyman) -> None:
        assert done("stock", "--json").json == [
            {
                "sku": "LAMP",
                "purchased": 25,
                "allocated": 25,
                "available": 0,
                "backordered": 0,
                "next_eta": None,
            },
            {
                "sku": "RUG",
                "purchased": 0,
                "allocated": 0,
                "available": 0,
                "backordered": 5,
                "next_eta": None,
            },
        ]

    def test_tells_when_the_next_free_units_arrive(self, done: Tallyman, run_jobs: RunJobs) -> None:
        done("submit", "allocation.cancel_order", '{"order_id": "o2"}')
        run_jobs()
        product = done("stock", "LAMP", "--json").json
        assert (product["available"], product["next_eta"]) == (21, "2027-01-10")

    def test_shows_a_product_with_its_batches_and_who_waits_in_their_turn(
        self, done: Tallyman
    ) -> None:
        lamp = done("stock", "LAMP", "--json").json
        assert [(each["reference"], each["allocated"]) for each in lamp["batches"]] == [
            ("shelf", 5),
            ("ship", 20),
        ]
        rug = done("stock", "RUG", "--json").json
        assert [(line["order_id"], line["outstanding"]) for line in rug["waiting"]] == [
            ("o4", 2),
            ("o2", 3),
        ]

    def test_tells_people_the_same(self, done: Tallyman) -> None:
        assert "LAMP" in done("stock").out
        assert "1 of 2 products" in done("stock", "--limit", "1").err
        shown = done("stock", "RUG").out
        assert "Waiting" in shown
        assert "o4" in shown

    def test_knows_no_other_product(self, done: Tallyman) -> None:
        ran = done("stock", "SOFA")
        assert (ran.code, ran.out) == (3, "")
        assert "no product has sku 'SOFA'" in ran.err


class TestOrders:
    def test_are_listed_the_newest_first_in_the_states_their_lines_tell(
        self, done: Tallyman
    ) -> None:
        listed = done("orders", "list", "--json").json
        assert [(order["order_id"], order["state"]) for order in listed] == [
            ("o4", "backordered"),
            ("o3", "rejected"),
            ("o2", "backordered"),
            ("o1", "allocated"),
        ]

    @pytest.mark.parametrize(
        ("options", "order_ids"),
        [
            (("--state", "backordered"), ["o4", "o2"]),
            (("--state", "backordered", "--limit", "1"), ["o4"]),
            (("--sku", "LAMP"), ["o2", "o1"]),
            (("--sku", "LAMP", "--state", "allocated"), ["o1"]),
            (("--state", "cancelled"), []),
            (("--limit", "3"), ["o4", "o3", "o2"]),
        ],
    )
    def test_are_listed_as_asked(
        self, done: Tallyman, options: tuple[str, ...], order_ids: list[str]
    ) -> None:
        listed = done("orders", "list", *options, "--json").json
        assert [order["order_id"] for order in listed] == order_ids
        assert all(order_id in done("orders", "list", *options).out for order_id in order_ids)

    def test_are_shown_with_the_reason_for_each_allocation(self, done: Tallyman) -> None:
        shown = done("orders", "show", "o1").out
        assert "4 of shelf by earliest, which ranked 1. shelf (5 available, on hand);" in shown
        assert "2. ship (20 available, arrives 2027-01-10)" in shown
        assert "waits for 3 more of RUG" in done("orders", "show", "o2").out
        assert "refused" in done("orders", "show", "o3").out

    def test_are_shown_to_programs_with_the_ranking_that_was_seen(self, done: Tallyman) -> None:
        order = done("orders", "show", "o1", "--json").json
        [line] = order["lines"]
        [allocation] = line["allocations"]
        assert (order["state"], line["state"], allocation["strategy"]) == (
            "allocated",
            "allocated",
            "earliest",
        )
        assert allocation["ranking"] == [
            {"batch": "shelf", "available": 5, "eta": None},
            {"batch": "ship", "available": 20, "eta": "2027-01-10"},
        ]

    def test_are_not_found_by_another_id(self, done: Tallyman) -> None:
        ran = done("orders", "show", "o9")
        assert (ran.code, ran.err) == (3, "error: no order has id 'o9'\n")


@pytest.fixture
def registered(tallyman: Tallyman, run_jobs: RunJobs) -> Tallyman:
    """Give the command with two users, one of a long address."""
    for payload in (_user("ada", password_hash=PASSWORD_HASH), _user("bob", email=LONG)):
        tallyman("submit", "users.register", json.dumps(payload))
        run_jobs()
    return tallyman


LONG = f"bob@{'a' * 60}.{'b' * 60}.example"


def _user(who: str, **given: Any) -> dict[str, Any]:
    person = {"username": who, "email": f"{who}@example.com", "name": who.title()}
    return {**person, "user_id": f"id-{who}", **given}


class TestUsers:
    def test_are_listed_the_newest_first(self, registered: Tallyman) -> None:
        assert [user["id"] for user in registered("users", "list", "--json").json] == [
            "id-bob",
            "id-ada",
        ]
        assert registered("users", "list", "--status", "active", "--json").json == []
        assert len(registered("users", "list", "--limit", "1", "--json").json) == 1

    @pytest.mark.parametrize("known_by", ["id-ada", "ADA", "Ada@Example.com"])
    def test_are_found_by_id_username_and_email(self, registered: Tallyman, known_by: str) -> None:
        user = registered("users", "show", known_by, "--json").json
        assert (user["id"], user["status"], user["has_password"]) == ("id-ada", "pending", True)

    def test_are_shown_without_the_password_hash(self, registered: Tallyman) -> None:
        for arguments in (("show", "ada"), ("show", "ada", "--json"), ("list",)):
            assert "argon2" not in registered("users", *arguments).out

    def test_are_shown_with_an_email_of_100_characters_at_the_most(
        self, registered: Tallyman
    ) -> None:
        email = registered("users", "show", "bob", "--json").json["email"]
        assert (len(email), email[-1]) == (100, "…")
        assert LONG not in registered("users", "list").out

    def test_are_shown_after_their_erasure_with_nothing_that_tells_who_it_was(
        self, registered: Tallyman, run_jobs: RunJobs
    ) -> None:
        registered("submit", "users.erase", '{"user_id": "id-ada"}')
        run_jobs()
        user = registered("users", "show", "id-ada", "--json").json
        assert (user["status"], user["email"], user["name"]) == ("erased", None, None)
        assert registered("users", "show", "ada").code == 3


class TestSchema:
    def test_is_printed_for_one_kind(self, lonely_tallyman: Tallyman) -> None:
        schema = lonely_tallyman("schema", ORDER).json
        assert schema["$id"] == f"urn:tallyman:{ORDER}"
        assert "order_id" in schema["properties"]

    def test_is_printed_for_all_kinds(self, lonely_tallyman: Tallyman) -> None:
        assert set(lonely_tallyman("schema").json) == set(KINDS)

    def test_is_not_there_for_other_kinds(self, lonely_tallyman: Tallyman) -> None:
        ran = lonely_tallyman("schema", "no.such")
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
