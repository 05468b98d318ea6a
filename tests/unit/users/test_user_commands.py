"""What commands refuse when they are built."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from domain.errors import DomainError
from domain.users.commands import RegisterUser, UpdateUser
from domain.users.errors import (
    InvalidExternalId,
    InvalidName,
    InvalidPasswordHash,
    InvalidUpdate,
    InvalidUserId,
    InvalidUsername,
)
from domain.users.identity import Username
from domain.users.password_hash import check_password_hash
from tests.fakes.user_builders import PASSWORD_HASH, a_registration

SECRET = "correct horse battery staple"


class TestRegisterUser:
    @pytest.mark.parametrize(
        ("field", "value", "error"),
        [
            ("user_id", "", InvalidUserId),
            ("user_id", "1\n", InvalidUserId),
            ("external_id", "x" * 256, InvalidExternalId),
            ("username", "  ", InvalidUsername),
            ("username", "u" * 51, InvalidUsername),
            ("username", "ada\x00", InvalidUsername),
            ("name", "", InvalidName),
            ("name", "n" * 201, InvalidName),
            ("name", "Ada\nLovelace", InvalidName),
            ("password_hash", SECRET, InvalidPasswordHash),
        ],
    )
    def test_refuses_values_that_no_user_can_have(
        self, field: str, value: str, error: type[DomainError]
    ) -> None:
        with pytest.raises(error) as caught:
            a_registration(**{field: value})

        assert caught.value.details == {"field": field}

    def test_accepts_a_name_spelled_with_joiners(self) -> None:
        a_registration(name="\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")

    def test_says_nothing_personal_in_its_repr(self) -> None:
        command = a_registration("ada", user_id="7", password_hash=PASSWORD_HASH)

        assert repr(command) == "RegisterUser(user_id='7', returning=False)"

    def test_fits_a_strict_payload(self) -> None:
        payload = b'{"username": "ada", "email": "ada@example.com", "name": "Ada"}'

        command = TypeAdapter(RegisterUser).validate_json(payload, strict=True)

        assert command == a_registration(name="Ada", user_id=None)

    def test_refuses_a_payload_with_a_password(self) -> None:
        payload = b'{"username":"a","email":"a@example.com","name":"A","password":"hunter2"}'

        with pytest.raises(ValidationError, match="password"):
            TypeAdapter(RegisterUser).validate_json(payload, strict=True)


class TestUpdateUser:
    def test_refuses_to_set_and_clear_one_field(self) -> None:
        with pytest.raises(InvalidUpdate):
            UpdateUser(user_id="ada", external_id="x", clear=("external_id",))

    @pytest.mark.parametrize("field", ["username", "email", "name", "password_hash"])
    def test_refuses_values_that_no_user_can_have(self, field: str) -> None:
        given: dict[str, Any] = {field: "\x00"}

        with pytest.raises(DomainError):
            UpdateUser(user_id="ada", **given)


class TestUsername:
    @pytest.mark.parametrize("other", ["ADA", "\uff41\uff44\uff41", " ada "])
    def test_is_the_same_in_any_case_and_width(self, other: str) -> None:
        assert Username.parse(other).key == Username.parse("ada").key


class TestCheckPasswordHash:
    def test_accepts_argon2id(self) -> None:
        check_password_hash(PASSWORD_HASH)

    @pytest.mark.parametrize(
        "text",
        [
            SECRET,
            "",
            "$2b$12$KIXQ4rQm6h8m0XkK8Xh7UuX0oPp3T4l4dYw1eXo1gZ1Z7W7a5uWmG",
            PASSWORD_HASH.replace("argon2id", "argon2i"),
            PASSWORD_HASH.replace("v=19", "v=16"),
            PASSWORD_HASH.replace("$v=19", ""),
            PASSWORD_HASH.replace("m=65536", "m=31"),
            PASSWORD_HASH.replace("m=65536", "m=4294967296"),
            PASSWORD_HASH.replace("t=3", "t=0"),
            PASSWORD_HASH.replace("t=3", "t=03"),
            PASSWORD_HASH.replace("p=4", "p=16777216"),
            PASSWORD_HASH.replace("m=65536,t=3", "t=3,m=65536"),
            PASSWORD_HASH.replace("c29tZXNhbHRzb21l", "c29t"),
            PASSWORD_HASH + "\n",
            PASSWORD_HASH + "=",
            PASSWORD_HASH[:-3],
            PASSWORD_HASH + f" {SECRET}",
        ],
    )
    def test_refuses_anything_else_and_does_not_repeat_it(self, text: str) -> None:
        with pytest.raises(InvalidPasswordHash) as caught:
            check_password_hash(text)

        assert not text or text not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert caught.value.details == {"field": "password_hash"}
