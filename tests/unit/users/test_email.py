"""Email addresses."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.users.email import EmailAddress
from domain.users.errors import InvalidEmail


class TestParse:
    def test_keeps_what_was_given_and_lowers_the_key(self) -> None:
        address = EmailAddress.parse("  Ada.Lovelace@Example.COM\n")

        assert address.given == "Ada.Lovelace@Example.COM"
        assert address.key == "ada.lovelace@example.com"

    def test_composes_letters_and_accents(self) -> None:
        address = EmailAddress.parse("e\u0301ve@example.com")

        assert address.given == "\u00e9ve@example.com"
        assert address == EmailAddress.parse("\u00e9ve@example.com")

    @pytest.mark.parametrize(
        "other",
        ["ada@MÜNCHEN.example", "ada@xn--mnchen-3ya.example", "ada@mu\u0308nchen。example"],
    )
    def test_holds_spellings_of_one_domain_to_be_the_same(self, other: str) -> None:
        assert EmailAddress.parse(other).key == EmailAddress.parse("ada@münchen.example").key

    def test_keeps_the_domain_as_given(self) -> None:
        assert EmailAddress.parse("ada@München.example").given == "ada@München.example"

    @pytest.mark.parametrize(
        "raw",
        [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@localhost",
            "ada@example.com.",
            "ada@exa mple.com",
            "ada@-example.com",
            "ada@example-.com",
            "ada@exam_ple.com",
            "ada@example..com",
            "ada@10.0.0.1",
            "ada@[10.0.0.1]",
            "a da@example.com",
            "ada@bob@example.com",
            "Ada <ada@example.com>",
            ".ada@example.com",
            "ada.@example.com",
            "a..da@example.com",
            "ada\x00@example.com",
            "ada\u200b@example.com",
            "ada\ud800@example.com",
            "ada@\ud800.com",
            "a" * 65 + "@example.com",
            "é" * 33 + "@example.com",
            "ada@" + "a" * 64 + ".com",
            "ada@" + "é." * 100 + "example",
            "ada@" + "a." * 130 + "example",
        ],
    )
    def test_refuses_what_no_mail_can_be_sent_to_and_does_not_repeat_it(self, raw: str) -> None:
        with pytest.raises(InvalidEmail) as caught:
            EmailAddress.parse(raw)

        assert "exa" not in str(caught.value)
        assert caught.value.details == {"field": "email"}

    def test_accepts_254_characters(self) -> None:
        labels = ".".join(["a" * 60] * 3)
        raw = "b" * 64 + "@" + labels + ".cccccc"
        assert len(raw) == 254

        assert EmailAddress.parse(raw).given == raw
        with pytest.raises(InvalidEmail):
            EmailAddress.parse(raw + "c")

    @given(st.text(max_size=12), st.text(max_size=12))
    @example("İ", "straße")
    @example("ΑΣ", "example")
    def test_gives_a_key_that_is_its_own_key_or_refuses(self, local: str, label: str) -> None:
        try:
            address = EmailAddress.parse(f"{local}@{label}.example")
        except InvalidEmail:
            return

        assert EmailAddress.parse(address.key).key == address.key
        assert EmailAddress.parse(address.given) == address


class TestShown:
    def test_is_the_address_up_to_100_characters(self) -> None:
        raw = "a" * 60 + "@" + "b" * 35 + ".com"
        assert len(raw) == 100

        assert EmailAddress.parse(raw).shown == raw

    def test_is_cut_with_an_ellipsis_past_that(self) -> None:
        raw = "a" * 60 + "@" + "b" * 36 + ".com"

        shown = EmailAddress.parse(raw).shown

        assert len(shown) == 100
        assert shown == raw[:99] + "…"
