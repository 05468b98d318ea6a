"""What can be set, and what a wrong value is answered with."""

from pathlib import Path

import pytest

from worker.flower import check
from worker.flower import url as flower_url
from worker.settings import Settings, SettingsError, load

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read nobody's `.env`."""
    monkeypatch.chdir(tmp_path)


class TestSettings:
    @pytest.mark.parametrize("name", sorted(Settings.model_fields))
    def test_are_all_in_the_docs_and_the_example(self, name: str) -> None:
        variable = f"TALLYMAN_{name.upper()}"
        assert f"| `{variable}` |" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
        assert f"{variable}=" in (ROOT / ".env.example").read_text(encoding="utf-8")

    def test_say_what_each_is(self) -> None:
        assert all(field.description for field in Settings.model_fields.values())

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_take_any_address_of_postgresql(
        self, scheme: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TALLYMAN_DATABASE_URL", f"{scheme}://u:p@h:1/d")
        url = load().database_url
        assert url is not None
        assert url.get_secret_value() == "postgresql+psycopg://u:p@h:1/d"

    @pytest.mark.parametrize("variable", ["broker_url", "mirror_url"])
    @pytest.mark.parametrize(
        ("scheme", "protocol"),
        [("redis", "redis"), ("rediss", "rediss"), ("valkey", "redis"), ("valkeys", "rediss")],
    )
    def test_take_any_address_of_valkey(
        self, variable: str, scheme: str, protocol: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"TALLYMAN_{variable.upper()}", f"{scheme}://:p@h:1/0")
        url = getattr(load(), variable)
        assert url.get_secret_value().startswith(f"{protocol}://:p@h:1/0")

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("TALLYMAN_CONCURRENCY", "many"),
            ("TALLYMAN_CONCURRENCY", "0"),
            ("TALLYMAN_DATABASE_URL", "mysql://u:secret@h/d"),
            ("TALLYMAN_BROKER_URL", "secret"),
            ("TALLYMAN_BROKER_URL", "sentinel://:secret@h:26379"),
            ("TALLYMAN_MIRROR_URL", "rediscluster://:secret@h:6379"),
            ("TALLYMAN_LOG_LEVEL", "LOUD"),
        ],
    )
    def test_name_what_cannot_be_used_and_keep_its_value(
        self, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match=f"^{variable}: ") as refusal:
            load()
        assert "secret" not in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_have_limits_that_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TALLYMAN_TIME_LIMIT_SECONDS", "60")
        with pytest.raises(SettingsError, match="have to grow in this order, got 60, 60, 120"):
            load()


class TestFlower:
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
    def test_may_be_seen_without_a_password_on_this_machine(self, address: str) -> None:
        check(Settings(flower_address=address))

    @pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3", "tally.example"])  # noqa: S104  what is refused
    def test_needs_a_password_beyond_it(self, address: str) -> None:
        with pytest.raises(SettingsError, match="TALLYMAN_FLOWER_BASIC_AUTH"):
            check(Settings(flower_address=address))
        check(Settings.model_validate({"flower_address": address, "flower_basic_auth": "me:pass"}))

    @pytest.mark.parametrize("credentials", ["me", "me:", ":pass"])
    def test_needs_both_a_name_and_a_password(self, credentials: str) -> None:
        with pytest.raises(SettingsError, match="name:password"):
            check(Settings.model_validate({"flower_basic_auth": credentials}))

    def test_needs_a_password_that_every_client_sends_alike(self) -> None:
        with pytest.raises(SettingsError, match="printable ASCII"):
            check(Settings.model_validate({"flower_basic_auth": "me:pässword"}))

    def test_needs_a_password_behind_a_proxy(self) -> None:
        behind = {"flower_behind_proxy": True}
        with pytest.raises(SettingsError, match="whoever reaches the proxy reaches Flower"):
            check(Settings.model_validate(behind))
        check(Settings.model_validate({**behind, "flower_basic_auth": "me:pass"}))

    @pytest.mark.parametrize(
        ("prefix", "address", "url"),
        [
            ("", "127.0.0.1", "http://127.0.0.1:5"),
            ("/jobs/", "127.0.0.1", "http://127.0.0.1:5/jobs"),
            ("a/b", "::1", "http://[::1]:5/a/b"),
        ],
    )
    def test_is_found_below_its_prefix(self, prefix: str, address: str, url: str) -> None:
        settings = Settings.model_validate({"flower_url_prefix": prefix, "flower_address": address})
        assert flower_url(settings, port=5) == url
