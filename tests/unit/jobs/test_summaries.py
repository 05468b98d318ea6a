"""What is said of a job where it is listed."""

from collections.abc import Mapping
from dataclasses import fields
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.jobs.dispatching import DueJob, Grouping, group
from domain.kinds import KINDS

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class TestASummary:
    @pytest.mark.parametrize(
        ("kind", "payload", "says"),
        [
            (
                "allocation.allocate_order",
                {"order_id": "O-17", "lines": [{}, {}, {}]},
                "order O-17, 3 lines",
            ),
            (
                "allocation.allocate_order",
                {"order_id": "O-17", "lines": [{}]},
                "order O-17, 1 line",
            ),
            (
                "allocation.create_batch",
                {"reference": "B-1", "sku": "LAMP", "quantity": 10},
                "batch B-1: 10 of LAMP",
            ),
            (
                "allocation.change_batch_eta",
                {"reference": "B-1", "eta": None},
                "batch B-1: eta none",
            ),
            ("imports.import_chunk", {"run_id": "r-1", "number": 7}, "run r-1, chunk 7"),
            ("users.register", {"username": "ada"}, "a new user"),
            ("users.erase", {"user_id": "u-1"}, "user u-1"),
        ],
    )
    def test_says_what_the_job_is_about(
        self, kind: str, payload: Mapping[str, Any], says: str
    ) -> None:
        assert KINDS[kind].summary(payload) == says

    @pytest.mark.parametrize(
        ("order_id", "says"),
        [
            ({"a": 1}, "order …, …"),
            ("two\nlines", "order …, …"),
            ("x" * 65, f"order {'x' * 63}…, …"),
            ("{lines.__class__}", "order {lines.__class__}, …"),
        ],
    )
    def test_leaves_out_what_is_not_of_the_sort_it_should_be(
        self, order_id: object, says: str
    ) -> None:
        assert KINDS["allocation.allocate_order"].summary({"order_id": order_id}) == says

    @pytest.mark.parametrize("kind", KINDS)
    @given(payload=st.dictionaries(st.text(), ANYTHING))
    def test_is_one_short_line_whatever_was_sent(self, kind: str, payload: dict[str, Any]) -> None:
        known = {
            field.name: value
            for field, value in zip(fields(KINDS[kind].command), payload.values(), strict=False)
        }
        for sent in (payload, known):
            said = KINDS[kind].summary(sent)
            assert said.isprintable()
            assert 1 <= len(said) <= 300

    @pytest.mark.parametrize("kind", KINDS)
    def test_names_fields_of_its_kind_alone(self, kind: str) -> None:
        named = {field for _, field, _, _ in Formatter().parse(KINDS[kind].about) if field}
        known = {field.name for field in fields(KINDS[kind].command)}
        assert named <= ({"user_id"} if KINDS[kind].personal else known)


class TestAMessage:
    def test_says_what_a_job_alone_is_about(self) -> None:
        due = [
            DueJob(job_id=job_id, kind="k", priority=0, dispatches=1, about=f"order {job_id}")
            for job_id in "abc"
        ]
        alone = group(due[:1], Grouping(most=2, spread=1))
        together = group(due[:2], Grouping(most=2, spread=1))
        assert [message.about for message in alone] == ["order a"]
        assert [message.about for message in together] == [""]
