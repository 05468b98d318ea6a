"""The handlers of users, on users in memory."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from domain.errors import StaleDecision
from domain.jobs.outcomes import Rejected
from domain.users.commands import ChangeUserStatus, EraseUser, UpdateUser
from domain.users.events import UserErased, UserRegistered, UserStatusChanged, UserUpdated
from domain.users.model import User
from domain.users.services import (
    change_user_statuses,
    erase_users,
    register_users,
    update_users,
)
from domain.users.status import TRANSITIONS, UserStatus
from tests.fakes.user_builders import (
    Batch,
    a_registration,
    a_user,
    batches,
    codes,
    requests,
    results,
)
from tests.fakes.users import FakeUsers, FakeUsersWork

ACTIVE, ERASED = UserStatus.ACTIVE, UserStatus.ERASED


@pytest.fixture
def work() -> FakeUsersWork:
    return FakeUsersWork()


def erased(work: FakeUsersWork, who: str = "ada", **given: Any) -> None:
    work.users.add([a_user(who, **given)])
    erase_users(requests(EraseUser(user_id=who)), work)
    work.recorded.clear()


class TestRegisterUsers:
    def test_answers_with_id_status_and_version_only(self, work: FakeUsersWork) -> None:
        outcomes = register_users(requests(a_registration("ada", user_id="7")), work)

        assert results(outcomes) == [{"user_id": "7", "status": "pending", "version": 1}]
        assert work.recorded == [("job-1", UserRegistered(user_id="7", version=1))]

    def test_gives_the_jobs_id_where_none_is_chosen(self, work: FakeUsersWork) -> None:
        register_users(requests(a_registration(user_id=None)), work)

        assert list(work.users.rows) == ["job-1"]

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("email", "ADA@example.com", "EmailTaken"),
            ("username", "ADA", "UsernameTaken"),
            ("external_id", "x1", "ExternalIdTaken"),
        ],
    )
    def test_lets_the_first_of_a_batch_win(
        self, work: FakeUsersWork, field: str, value: str, code: str
    ) -> None:
        first = a_registration("ada", external_id="x1")
        second = a_registration("bob", **{field: value})

        outcomes = register_users(requests(first, second), work)

        assert codes(outcomes) == ["ok", code]
        assert list(work.users.rows) == ["ada"]
        assert len(work.recorded) == 1

    def test_refuses_what_is_taken_and_names_the_holder(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada")])

        [outcome] = register_users(requests(a_registration("bob", email="ada@example.com")), work)

        assert isinstance(outcome, Rejected)
        assert outcome.error.details == {"field": "email", "held_by": "ada"}
        assert not outcome.forget_payload

    def test_answers_the_same_registration_again_without_a_second_effect(
        self, work: FakeUsersWork
    ) -> None:
        again = requests(a_registration(), a_registration())

        outcomes = register_users(again, work) + register_users(again, work)

        assert codes(outcomes) == ["ok"] * 4
        assert len(work.recorded) == 1

    def test_refuses_other_contents_under_the_same_id(self, work: FakeUsersWork) -> None:
        outcomes = register_users(requests(a_registration(), a_registration(name="Other")), work)

        assert codes(outcomes) == ["ok", "UserConflict"]

    @pytest.mark.parametrize(
        "given",
        [
            {"user_id": "ada", "email": "new@example.com"},
            {"user_id": "new", "email": "Ada@Example.com"},
            {"user_id": "new", "email": "new@example.com", "external_id": "x1"},
            {"user_id": "new", "email": "new@example.com", "external_id": "x1", "returning": True},
        ],
    )
    def test_does_not_bring_back_the_erased(
        self, work: FakeUsersWork, given: dict[str, Any]
    ) -> None:
        erased(work, external_id="x1")

        outcomes = register_users(requests(a_registration(**given)), work)

        assert codes(outcomes) == ["UserIsErased"]
        assert isinstance(outcomes[0], Rejected)
        assert outcomes[0].forget_payload
        assert work.recorded == []

    def test_lets_a_person_come_back_who_asks_to(self, work: FakeUsersWork) -> None:
        erased(work)

        outcomes = register_users(
            requests(
                a_registration(user_id="2", returning=True),
                a_registration(user_id="3"),
            ),
            work,
        )

        assert codes(outcomes) == ["ok", "EmailTaken"]

    @pytest.mark.parametrize("email", [" ada@example.com", "ada@EXAMPLE。com"])
    def test_forgets_a_refused_payload_that_no_erasure_would_find(
        self, work: FakeUsersWork, email: str
    ) -> None:
        work.users.add([a_user("ada")])

        [outcome] = register_users(requests(a_registration("bob", email=email)), work)

        assert isinstance(outcome, Rejected)
        assert outcome.error.code == "EmailTaken"
        assert outcome.forget_payload

    def test_reads_and_writes_as_often_for_500_as_for_1(self, work: FakeUsersWork) -> None:
        register_users(requests(*(a_registration(f"u{n}") for n in range(500))), work)

        assert work.users.calls == ["matching", "tombstones", "add"]


class TestUpdateUsers:
    def test_changes_only_given_fields(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada")])

        outcomes = update_users(
            requests(UpdateUser(user_id="ada", name="Ada King", expected_version=1)), work
        )

        assert results(outcomes) == [{"user_id": "ada", "status": "pending", "version": 2}]
        assert work.users.rows["ada"].known.name == "Ada King"
        assert work.recorded == [
            ("job-1", UserUpdated(user_id="ada", version=2, changed=("name",)))
        ]

    def test_refuses_the_unknown_the_stale_the_taken_and_the_erased(
        self, work: FakeUsersWork
    ) -> None:
        erased(work, "eve")
        work.users.add([a_user("ada"), a_user("bob", external_id="x1")])

        outcomes = update_users(
            requests(
                UpdateUser(user_id="nobody", name="N"),
                UpdateUser(user_id="ada", name="A", expected_version=2),
                UpdateUser(user_id="ada", email="BOB@example.com"),
                UpdateUser(user_id="ada", username="bob"),
                UpdateUser(user_id="ada", external_id="x1"),
                UpdateUser(user_id="eve", name="E"),
            ),
            work,
        )

        assert codes(outcomes) == [
            "UserNotFound",
            "StaleVersion",
            "EmailTaken",
            "UsernameTaken",
            "ExternalIdTaken",
            "UserIsErased",
        ]
        assert isinstance(outcomes[-1], Rejected)
        assert outcomes[-1].forget_payload
        assert work.users.rows["ada"].version == 1
        assert work.recorded == []

    def test_that_changes_nothing_writes_nothing(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada")])
        work.users.calls.clear()

        outcomes = update_users(requests(UpdateUser(user_id="ada", name="Ada")), work)

        assert results(outcomes) == [{"user_id": "ada", "status": "pending", "version": 1}]
        assert "save" not in work.users.calls

    def test_hands_an_address_on_within_a_batch(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada"), a_user("bob")])

        outcomes = update_users(
            requests(
                UpdateUser(user_id="bob", email="ada@example.com"),
                UpdateUser(user_id="ada", email="new@example.com"),
                UpdateUser(user_id="bob", email="ada@example.com"),
                UpdateUser(user_id="ada", email="bob@example.com"),
            ),
            work,
        )

        assert codes(outcomes) == ["EmailTaken", "ok", "ok", "ok"]
        assert work.users.rows["ada"].known.email.given == "bob@example.com"
        assert work.users.rows["bob"].known.email.given == "ada@example.com"

    def test_may_take_an_erased_address_but_no_erased_external_id(
        self, work: FakeUsersWork
    ) -> None:
        erased(work, "ada", external_id="x1")
        work.users.add([a_user("bob")])

        outcomes = update_users(
            requests(
                UpdateUser(user_id="bob", email="ada@example.com"),
                UpdateUser(user_id="bob", external_id="x1"),
            ),
            work,
        )

        assert codes(outcomes) == ["ok", "UserIsErased"]

    def test_counts_versions_within_a_batch(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada")])

        outcomes = update_users(
            requests(
                UpdateUser(user_id="ada", name="A", expected_version=1),
                UpdateUser(user_id="ada", name="B", expected_version=1),
                UpdateUser(user_id="ada", name="C", expected_version=2),
            ),
            work,
        )

        assert codes(outcomes) == ["ok", "StaleVersion", "ok"]
        assert work.users.rows["ada"].known.name == "C"


class TestChangeUserStatuses:
    def test_moves_along_and_refuses_the_rest(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada")])

        outcomes = change_user_statuses(
            requests(
                ChangeUserStatus(user_id="nobody", status=ACTIVE),
                ChangeUserStatus(user_id="ada", status=UserStatus.BANNED),
                ChangeUserStatus(user_id="ada", status=ACTIVE, expected_version=1),
                ChangeUserStatus(user_id="ada", status=ACTIVE, expected_version=1),
                ChangeUserStatus(user_id="ada", status=ERASED),
            ),
            work,
        )

        assert codes(outcomes) == [
            "UserNotFound",
            "InvalidStatusTransition",
            "ok",
            "StaleVersion",
            "InvalidStatusTransition",
        ]
        assert [event for _, event in work.recorded] == [
            UserStatusChanged(user_id="ada", version=2, before=UserStatus.PENDING, after=ACTIVE)
        ]


class TestEraseUsers:
    def test_erases_once_and_answers_again(self, work: FakeUsersWork) -> None:
        work.users.add([a_user("ada", external_id="x1")])
        erase = requests(EraseUser(user_id="ada"), EraseUser(user_id="ada"))

        outcomes = erase_users(erase, work) + erase_users(erase, work)

        assert results(outcomes) == [{"user_id": "ada", "status": "erased", "version": 2}] * 4
        assert work.recorded == [("job-1", UserErased(user_id="ada", version=2))]
        assert [person.user_id for person in work.users.forgotten] == ["ada"]

    def test_refuses_the_unknown(self, work: FakeUsersWork) -> None:
        assert codes(erase_users(requests(EraseUser(user_id="x")), work)) == ["UserNotFound"]

    def test_frees_the_username(self, work: FakeUsersWork) -> None:
        erased(work, "ada")

        outcomes = register_users(requests(a_registration("bob", username="ada")), work)

        assert codes(outcomes) == ["ok"]


class TestRandomHistories:
    @given(batches())
    def test_a_batch_acts_as_if_one_command_came_after_the_other(
        self, history: list[Batch]
    ) -> None:
        together, apart = FakeUsersWork(), FakeUsersWork()

        for handler, batch in history:
            at_once = handler(batch, together)
            one_by_one = [outcome for each in batch for outcome in handler([each], apart)]
            assert codes(at_once) == codes(one_by_one)
            assert results(at_once) == results(one_by_one)

        assert _rows(together.users) == _rows(apart.users)
        assert together.recorded == apart.recorded
        assert together.users.digests == apart.users.digests

    @given(batches())
    def test_keys_stay_unique_and_the_erased_keep_nothing(self, history: list[Batch]) -> None:
        work = FakeUsersWork()

        for handler, batch in history:
            handler(batch, work)
            keys = [key for row in work.users.rows.values() for key in row.keys]
            assert len(keys) == len(set(keys))
            for row in work.users.rows.values():
                assert (row.profile is None) == (row.status is ERASED)

    @given(batches())
    def test_events_tell_every_version_and_only_legal_moves(self, history: list[Batch]) -> None:
        work = FakeUsersWork()
        for handler, batch in history:
            handler(batch, work)

        for user_id, row in work.users.rows.items():
            events = [event for _, event in work.recorded if event.aggregate == f"user:{user_id}"]
            versions = [event.version for event in events]  # type: ignore[attr-defined]
            assert versions == list(range(1, row.version + 1))
            moves = [event for event in events if isinstance(event, UserStatusChanged)]
            assert all(move.after in TRANSITIONS[move.before] for move in moves)
            assert all(one.after is two.before for one, two in pairwise(moves))
            assert not any(isinstance(event, UserErased) for event in events[:-1])

    @given(batches())
    def test_outcomes_and_events_hold_no_personal_data(self, history: list[Batch]) -> None:
        work = FakeUsersWork()

        for handler, batch in history:
            for outcome in handler(batch, work):
                told = (
                    [outcome.error.message, outcome.error.details]
                    if isinstance(outcome, Rejected)
                    else outcome.result
                )
                assert not _is_personal(json.dumps(told))

        assert not any(_is_personal(repr(event)) for _, event in work.recorded)


class TestTwoWorkersAtOnce:
    def test_the_late_one_is_stale_and_then_refused(self) -> None:
        users = FakeUsers()

        class Overtaken(FakeUsers):
            def add(self, added: Sequence[User]) -> None:
                users.add([a_user("ada")])
                users.add(added)

        late = requests(a_registration("bob", email="ada@example.com"))
        with pytest.raises(StaleDecision):
            register_users(late, FakeUsersWork(Overtaken()))

        assert codes(register_users(late, FakeUsersWork(users))) == ["EmailTaken"]


def _is_personal(text: str) -> bool:
    return any(part in text.lower() for part in ("ada", "bob", "cyd", "éve", "\\u00e9ve", "@"))


def _rows(users: FakeUsers) -> dict[str, tuple[object, ...]]:
    return {user_id: (row.status, row.version, row.profile) for user_id, row in users.rows.items()}
