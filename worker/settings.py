"""Settings: one frozen object, read from the environment and `.env`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.jobs.queues import MOST_LIMIT
from worker import encryption

POSTGRES_SCHEMES = ("postgresql+psycopg", "postgresql", "postgres")
"""How addresses of PostgreSQL begin; hosts hand out the short ones."""

VALKEY_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
"""How hosts may begin addresses of Valkey, and what its protocol is called."""

UNSUPPORTED = ("sentinel", "rediscluster")
"""How kombu addresses what a worker could not take many messages from at a time, in one step."""


class Settings(BaseSettings):
    """Everything that can be set; each name is an environment variable `TALLYMAN_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix="TALLYMAN_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    database_url: SecretStr | None = None
    """PostgreSQL, as `postgresql://user:password@host:port/database`.
    Not set: an embedded server in `data_folder`."""
    broker_url: SecretStr | None = None
    """Redis or Valkey (`redis://:password@host:port/0`), or RabbitMQ (`amqp://…`).
    Not set: an embedded Valkey in `data_folder`."""
    mirror_url: SecretStr | None = None
    """Redis in which stock Celery clients find results, and other systems the stream of events.
    Not set: the broker, where it is Redis."""
    data_folder: Path = Path(".tallyman")
    """Folder of the embedded servers and of process files."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    """Worker processes of one `tallyman worker`."""
    soft_time_limit_seconds: Annotated[int, Field(ge=1)] = 60
    """A job that runs longer is interrupted; the attempt counts as failed."""
    time_limit_seconds: Annotated[int, Field(ge=2)] = 90
    """A job that ignores the interruption is killed with its process."""
    drain_seconds: Annotated[float, Field(gt=0)] = 20.0
    """A job that runs longer than this after its worker was told to stop is given back."""
    visibility_timeout_seconds: Annotated[int, Field(ge=30)] = 120
    """After this long, Redis delivers a message again that nobody acknowledged."""
    max_memory_per_child_mb: Annotated[int, Field(ge=64)] = 512
    """A worker process that grew beyond this is replaced after its job."""

    retry_base_seconds: Annotated[float, Field(gt=0)] = 2.0
    """The first retry comes within this time; each further one may take twice as long."""
    retry_cap_seconds: Annotated[float, Field(gt=0)] = 600.0
    """No retry waits longer than this."""

    relay_batch: Annotated[int, Field(ge=1, le=1000)] = 1_000
    """Job ids in one message, when there is a backlog."""
    relay_depth: Annotated[int, Field(ge=1)] = 12
    """Messages in a queue beyond which the relay waits: with fewer, priorities act sooner."""
    relay_poll_seconds: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How often the relay looks without being told, up to 1; retries become due this way."""

    imports_folder: Path = Path("imports")
    """Folder of the descriptions of sources, `<name>.toml`, on beat's machine and the workers'."""
    most_waiting: Annotated[int, Field(ge=1, le=MOST_LIMIT)] = 1_000_000
    """Jobs that may wait in a queue before more are refused; `tallyman queues limit` sets one."""

    event_stream_length: Annotated[int, Field(ge=1_000)] = 100_000
    """Events that the Redis Stream keeps for consumers, about; older ones make room."""

    result_expires_seconds: Annotated[int, Field(ge=60)] = 86_400
    """How long the mirror keeps an outcome; the ledger keeps it for `retention_days`."""
    retention_days: Annotated[int, Field(ge=1)] = 30
    """Finished jobs and published events older than this are deleted; dead jobs are kept."""

    parked_megabytes: Annotated[int, Field(ge=1)] = 256
    """Room in the database for messages that are no job; beyond it they are only counted."""

    flower_address: str = "127.0.0.1"
    """Address that Flower listens on; another than loopback needs `flower_basic_auth`."""
    flower_port: Annotated[int, Field(ge=0, le=65_535)] = 5555
    """Port of Flower."""
    flower_basic_auth: SecretStr | None = None
    """`user:password` that Flower asks for."""
    flower_read_only: bool = False
    """Flower only shows: it controls no workers and takes no jobs. It does without a password."""
    flower_url_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]*$")] = ""
    """Path below which a proxy shows Flower, such as `flower`."""
    flower_behind_proxy: bool = False
    """Believe the headers X-Real-Ip and X-Scheme; needs `flower_basic_auth`."""
    flower_most_messages: Annotated[int, Field(ge=100)] = 10_000
    """Messages that Flower remembers, the newest; it takes about 8 KB of memory for each."""

    health_address: str = "127.0.0.1"
    """Address on which a process tells how it is; open to other machines only in a network of
    your own, for nobody is asked for a password."""
    health_port: Annotated[int | None, Field(ge=0, le=65_535)] = None
    """Port of a process's `/health/live`, `/health/ready` and `/metrics`; 0 is a free one.
    Not set: none, and 9465 for `tallyman metrics`."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe message that is logged."""
    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for machines."""

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, colon, rest = url.get_secret_value().partition("://")
        if not (colon and rest) or scheme not in POSTGRES_SCHEMES:
            raise ValueError(
                "it has the form postgresql+psycopg://user:password@host:port/database"
            )
        return SecretStr(f"{POSTGRES_SCHEMES[0]}://{rest}")

    @field_validator("broker_url", "mirror_url")
    @classmethod
    def _name_the_protocol(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, colon, rest = url.get_secret_value().partition("://")
        if not colon:
            raise ValueError("it has the form redis://:password@host:port/0")
        if scheme in UNSUPPORTED:
            raise ValueError(
                f"{scheme}:// is not supported: name one server, or what forwards to the one that"
                " is master now, as redis://:password@host:port/0"
            )
        return SecretStr(encryption.checked(f"{VALKEY_SCHEMES.get(scheme, scheme)}://{rest}"))

    @field_validator("flower_url_prefix")
    @classmethod
    def _strip_slashes(cls, prefix: str) -> str:
        return prefix.strip("/")

    @model_validator(mode="after")
    def _order_the_limits(self) -> Self:
        limits = (
            self.soft_time_limit_seconds,
            self.time_limit_seconds,
            self.visibility_timeout_seconds,
        )
        if not limits[0] < limits[1] < limits[2]:
            raise ValueError(
                "TALLYMAN_SOFT_TIME_LIMIT_SECONDS, TALLYMAN_TIME_LIMIT_SECONDS and"
                " TALLYMAN_VISIBILITY_TIMEOUT_SECONDS have to grow in this order,"
                f" got {', '.join(map(str, limits))}"
            )
        return self


class SettingsError(Exception):
    """A setting has a value that cannot be used."""


def load() -> Settings:
    """Read the settings.

    Raises:
        SettingsError: A value cannot be used; the message names each.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            _problem(problem["loc"], problem["msg"])
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(problems) from None


def _problem(place: tuple[int | str, ...], message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"TALLYMAN_{str(place[0]).upper()}: {said}" if place else said
