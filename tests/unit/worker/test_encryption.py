"""What an address of the broker says of TLS."""

import ssl
from pathlib import Path

import pytest
from kombu import Connection
from pydantic import SecretStr, ValidationError

from worker.encryption import checked, for_celery
from worker.settings import Settings


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.touch()
    return file


class TestChecked:
    @pytest.mark.parametrize("url", ["redis://:p@h:6379/0", "amqp://u:p@h//", "redis://h/0?db=1"])
    def test_leaves_what_is_not_encrypted(self, url: str) -> None:
        assert checked(url) == url

    def test_says_outright_that_certificates_are_verified(self, authority: Path) -> None:
        url = f"rediss://u:p%40%2F@h:6379/0?ssl_ca_certs={authority}"
        assert checked(url) == f"{url}&ssl_cert_reqs=required"

    def test_can_be_told_not_to(self) -> None:
        assert checked("rediss://h/0?ssl_cert_reqs=none") == "rediss://h/0?ssl_cert_reqs=none"

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("redis://h/0?ssl_ca_certs=/ca", "redis:// is not encrypted"),
            ("rediss://h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs is required, or none"),
            ("rediss://h/0?ssl_cert_reqs=optional", "ssl_cert_reqs is required, or none"),
            ("rediss://h/0?ssl_ca_cert=/ca", "ssl_ca_cert is not known"),
            ("rediss://h/0?ssl_check_hostname=false", "always checked"),
            ("rediss://h/0?ssl_ca_certs=/nowhere/ca", "no file /nowhere/ca"),
        ],
    )
    def test_refuses_what_would_be_left_out(self, url: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            checked(url)
        with pytest.raises(ValidationError, match=said):
            Settings(broker_url=SecretStr(url))
        with pytest.raises(ValidationError, match=said):
            Settings(mirror_url=SecretStr(url))


class TestForCelery:
    def test_has_kombu_verify_redis(self, authority: Path) -> None:
        url, use_ssl = for_celery(checked(f"rediss://h/0?ssl_ca_certs={authority}"))
        with Connection(url, ssl=use_ssl) as connection:
            assert connection.ssl["ssl_cert_reqs"] == ssl.CERT_REQUIRED
            assert connection.ssl["ssl_ca_certs"] == str(authority)

    def test_has_kombu_verify_rabbitmq_and_its_name(self, authority: Path) -> None:
        url, use_ssl = for_celery(checked(f"amqps://u:p@h:5671/v?ssl_ca_certs={authority}"))
        assert url == "amqps://u:p@h:5671/v"
        assert use_ssl == {
            "cert_reqs": ssl.CERT_REQUIRED,
            "ca_certs": str(authority),
            "server_hostname": "h",
        }

    def test_trusts_anybody_where_it_is_told_to(self) -> None:
        _, use_ssl = for_celery(checked("amqps://u:p@h/v?ssl_cert_reqs=none"))
        assert use_ssl == {"cert_reqs": ssl.CERT_NONE}

    def test_says_nothing_of_what_is_not_encrypted(self) -> None:
        assert for_celery("redis://h/0") == ("redis://h/0", None)
