"""The user aggregate."""

from typing import Any

import pytest

from domain.users.commands import UpdateUser
from domain.users.errors import InvalidStatusTransition, StaleVersion, UserIsErased
from domain.users.events import UserErased, UserStatusChanged, UserUpdated
from domain.users.model import Profile, User
from domain.users.status import TRANSITIONS, UserStatus
from tests.fakes.user_builders import PASSWORD_HASH, a_registration, a_user

LEGAL = {
    ("pending", "active"),
    ("active", "inactive"),
    ("inactive", "active"),
    ("active", "banned"),
    ("inactive", "banned"),
}
MOVES = [(before, after) for before in UserStatus for after in UserStatus if before != after]


def an_update(**given: Any) -> UpdateUser:
    return UpdateUser(user_id="ada", **given)


class TestRegister:
    def test_starts_pending_at_version_1(self) -> None:
        user = User.register(user_id="7", profile=Profile.of(a_registration()))

        assert (user.status, user.version) == (UserStatus.PENDING, 1)
        assert [event.aggregate for event in user.events] == ["user:7"]


class TestUpdate:
    def test_changes_only_what_is_given(self) -> None:
        user = a_user(external_id="x1", password_hash=PASSWORD_HASH)
        before = user.known

        user.update(before.revised(an_update(name="Ada King")))

        assert before.differences(user.known) == ("name",)
        assert user.events == [UserUpdated(user_id="ada", version=2, changed=("name",))]

    def test_that_changes_nothing_is_no_event_and_no_version(self) -> None:
        user = a_user()

        user.update(user.known.revised(an_update(name="Ada", username="ada")))

        assert (user.version, user.events) == (1, [])

    def test_of_the_email_makes_it_unverified(self) -> None:
        user = a_user()
        user.update(user.known.revised(an_update(email_verified=True)))

        user.update(user.known.revised(an_update(email="new@example.com")))

        assert not user.known.email_verified
        assert user.events[-1] == UserUpdated(
            user_id="ada", version=3, changed=("email", "email_verified")
        )

    def test_of_the_spelling_of_the_email_leaves_it_verified(self) -> None:
        user = a_user()
        user.update(user.known.revised(an_update(email_verified=True)))

        user.update(user.known.revised(an_update(email="ADA@Example.com")))

        assert user.known.email_verified
        assert user.known.email.given == "ADA@Example.com"

    def test_can_confirm_the_email_that_it_brings(self) -> None:
        user = a_user()

        user.update(user.known.revised(an_update(email="b@example.com", email_verified=True)))

        assert user.known.email_verified

    def test_clears_what_it_is_told_to(self) -> None:
        user = a_user(external_id="x1", password_hash=PASSWORD_HASH)

        user.update(user.known.revised(an_update(clear=("external_id", "password_hash"))))

        assert (user.known.external_id, user.known.password_hash) == (None, None)


class TestExpect:
    def test_refuses_a_decision_on_another_version(self) -> None:
        with pytest.raises(StaleVersion, match="at version 3, not 2"):
            a_user(version=3).expect(2)

    @pytest.mark.parametrize("version", [None, 3])
    def test_accepts_the_present_version_or_any(self, version: int | None) -> None:
        a_user(version=3).expect(version)


class TestChangeStatus:
    @pytest.mark.parametrize(("before", "after"), MOVES)
    def test_allows_the_documented_moves_only(self, before: UserStatus, after: UserStatus) -> None:
        if before is UserStatus.ERASED:
            return
        user = a_user(status=before)

        if (before, after) in LEGAL:
            user.change_status(after)
            assert user.status is after
            assert user.events == [
                UserStatusChanged(user_id="ada", version=2, before=before, after=after)
            ]
        else:
            with pytest.raises(InvalidStatusTransition):
                user.change_status(after)
            assert (user.status, user.version, user.events) == (before, 1, [])

    def test_to_the_present_status_changes_nothing(self) -> None:
        user = a_user(status=UserStatus.ACTIVE)

        user.change_status(UserStatus.ACTIVE)

        assert (user.version, user.events) == (1, [])

    def test_knows_every_status(self) -> None:
        assert set(TRANSITIONS) == set(UserStatus)


class TestErase:
    @pytest.mark.parametrize("status", [s for s in UserStatus if s is not UserStatus.ERASED])
    def test_leaves_the_id_and_nothing_else(self, status: UserStatus) -> None:
        user = a_user(status=status)

        user.erase()

        assert user.profile is None
        assert user.status is UserStatus.ERASED
        assert user.events == [UserErased(user_id="ada", version=2)]

    def test_is_final(self) -> None:
        user = a_user()
        profile = user.known
        user.erase()

        user.erase()

        assert len(user.events) == 1
        with pytest.raises(UserIsErased):
            user.change_status(UserStatus.ACTIVE)
        with pytest.raises(UserIsErased):
            user.update(profile)
        with pytest.raises(UserIsErased):
            user.expect(None)

    def test_leaves_digests_of_email_and_external_id_but_frees_the_username(self) -> None:
        traces = a_user(external_id="x1").traces

        assert len(traces.keys) == 3
        assert traces.digests == a_user(username="other", external_id="x1").traces.digests


class TestUser:
    def test_is_the_same_by_id(self) -> None:
        assert a_user(version=1) == a_user(version=2)
        assert a_user("ada") != a_user("bob")
        assert len({a_user(version=1), a_user(version=2)}) == 1

    def test_says_nothing_personal_in_its_repr(self) -> None:
        user = a_user()

        assert "example.com" not in repr(user)
        assert "example.com" not in repr(user.known)
