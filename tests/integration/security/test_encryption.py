"""All programs over TLS, with the fewest rights, and what each says where it is refused."""

import os
import re
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError

from adapters.postgres import roles as product_roles
from adapters.postgres.access import Role
from domain.jobs.model import JobState
from tests import encrypted
from tests.conftest import ROOT, wait_until
from tests.encrypted import CERTIFIED, PASSWORD, Certificates, EncryptedPostgres, EncryptedRedis
from tests.integration.processes.conftest import Installation, Running
from tests.roles import connected, engine, migrate
from worker.producer import Producer

PATIENCE = 60.0
ORDER = "allocation.allocate_order"
STOCK = {"reference": "t1", "sku": "TEA", "quantity": 9}
FLOWER = "me:a-password-for-flower"
LOGINS = {
    CERTIFIED: Role.WORKER,
    "web_shop": Role.PRODUCER,
    "grafana": Role.READER,
}
FORBIDDEN = ("KEYS *", "FLUSHALL", "BRPOP allocation 1", "GET tallyman:epoch", "ACL LIST")
"""Commands of Redis that a producer must not have."""

pytestmark = [
    pytest.mark.skipif(
        not (encrypted.POSTGRES and encrypted.REDIS) and not os.environ.get("CI"),
        reason=encrypted.HOW_TO_GET_THEM,
    ),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return encrypted.certify(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def postgres(certificates: Certificates) -> Iterator[EncryptedPostgres]:
    """Run PostgreSQL with a migrated database, and a login in each role that programs have."""
    with encrypted.postgres(certificates) as server:
        with engine(server.url()) as opened:
            product_roles.set_up(opened)
        migrate(server.url())
        with connected(server.url()) as connection:
            for login, role in LOGINS.items():
                connection.execute(
                    f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE tallyman_{role}"
                )
        yield server


@pytest.fixture(scope="module")
def broker(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EncryptedRedis]:
    """Run Redis with the users that the guide to security recommends."""
    guide = (ROOT / "docs/security.md").read_text()
    [users] = re.findall(r"^```acl\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
    with encrypted.valkey(
        certificates, folder=tmp_path_factory.mktemp("redis"), users=users
    ) as server:
        yield server


@pytest.fixture
def site(postgres: EncryptedPostgres, broker: EncryptedRedis, tmp_path: Path) -> Iterator["Site"]:
    made = Site(postgres=postgres, broker=broker, folder=tmp_path)
    yield made
    made.installation.remove()


class Site:
    """An installation on servers that talk TLS alone."""

    def __init__(
        self, *, postgres: EncryptedPostgres, broker: EncryptedRedis, folder: Path
    ) -> None:
        self.postgres = postgres
        self.broker = broker
        self.worker_url = postgres.url(
            CERTIFIED,
            sslcert=postgres.certificates.client,
            sslkey=postgres.certificates.client_key,
        )
        self.installation = Installation(
            folder=folder,
            variables={
                "TALLYMAN_DATABASE_URL": self.worker_url,
                "TALLYMAN_BROKER_URL": broker.url("tallyman"),
                "TALLYMAN_RELAY_POLL_SECONDS": "0.2",
                "TALLYMAN_DRAIN_SECONDS": "0.5",
                "TALLYMAN_FLOWER_BASIC_AUTH": FLOWER,
            },
        )

    def with_variables(self, **variables: str) -> Installation:
        ours = {f"TALLYMAN_{name.upper()}": value for name, value in variables.items()}
        self.installation.variables = {**self.installation.variables, **ours}
        return self.installation


class TestEveryProgram:
    def test_works_encrypted_with_the_fewest_rights(self, site: Site) -> None:
        start = site.installation.start
        worker, relay, beat = start("worker"), start("relay"), start("beat")
        site.with_variables(database_url=site.postgres.url("grafana"))
        flower = start("flower")
        site.with_variables(database_url=site.worker_url)
        with Producer.at(site.postgres.url("web_shop")) as producer:
            producer.submit("allocation.create_batch", STOCK, job_id="stock")
            ends(producer, "stock")
            by_message(site, producer)
            worker = is_given_back(site, producer, worker)
        for program in (worker, relay, beat, flower):
            assert program.process.poll() is None, program.complaints
        site.installation.run_until_well()
        shows_the_broker(flower)
        events_have_come(site)
        for program in (worker, relay, beat, flower):
            assert "insecure" not in program.complaints
            assert "no permissions" not in program.complaints
            assert PASSWORD not in program.complaints
        # Refusals of all who are called tallyman; those of others are tested for.
        with redis.Redis.from_url(site.broker.url("administrator")) as client:
            assert [entry for entry in client.acl_log() if entry["username"] == "tallyman"] == []


def ends(producer: Producer, job_id: str) -> None:
    def has_succeeded() -> bool:
        job = producer.find(job_id)
        return job is not None and job.state is JobState.SUCCEEDED

    wait_until(has_succeeded, seconds=PATIENCE)


def order(order_id: str) -> dict[str, Any]:
    return {"order_id": order_id, "lines": [{"sku": "TEA", "quantity": 1}]}


def by_message(site: Site, producer: Producer) -> None:
    """Have a client that knows only Redis send orders, and nothing else."""
    url = site.broker.url("web_shop", ssl_cert_reqs="required")
    with Celery(broker=url, backend=url, set_as_current=False) as client:
        client.send_task(
            ORDER, kwargs=order("later"), task_id="later", queue="allocation", countdown=1
        )
        sent = client.send_task(ORDER, kwargs=order("o1"), task_id="o1", queue="allocation")
        assert sent.get(timeout=PATIENCE)["state"] == "allocated"
        with pytest.raises(OperationalError, match="no permissions"):
            client.send_task("users.erase", queue="users", retry=False)
        with pytest.raises(OperationalError, match="no permissions"):
            client.control.broadcast("shutdown")
    with redis.Redis.from_url(site.broker.url("web_shop")) as client:
        for forbidden in FORBIDDEN:
            with pytest.raises(NoPermissionError):
                client.execute_command(*forbidden.split())
    ends(producer, "later")


def is_given_back(site: Site, producer: Producer, worker: Running) -> Running:
    """Stop a worker at a job that cannot end, which puts its message back; return the next."""
    with connected(site.postgres.url()) as connection, connection.transaction():
        connection.execute("SELECT FROM batch FOR UPDATE")
        url = site.broker.url("web_shop", ssl_cert_reqs="required")
        with Celery(broker=url, set_as_current=False) as client:
            client.send_task(ORDER, kwargs=order("back"), task_id="back", queue="allocation")
        waits = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        with connected(site.postgres.url()) as watching:
            wait_until(lambda: watching.execute(waits).fetchone() == (True,))
        worker.process.terminate()
        assert worker.ends() == 0
    another = site.installation.start("worker")
    ends(producer, "back")
    return another


def shows_the_broker(flower: Running) -> None:
    flower.wait_for("flower_started")
    [address] = re.findall(r"flower_started\s+url=(\S+)", flower.complaints)
    login = b64encode(FLOWER.encode()).decode()
    question = urllib.request.Request(  # noqa: S310  its address is Flower's own
        f"{address}/broker", headers={"Authorization": f"Basic {login}"}
    )
    with urllib.request.urlopen(question, timeout=PATIENCE) as answer:  # noqa: S310  likewise
        page = answer.read().decode()
    assert "rediss://tallyman:**@127.0.0.1" in page
    assert "Unable to get queues" not in flower.complaints


def events_have_come(site: Site) -> None:
    with redis.Redis.from_url(site.broker.url("administrator")) as client:
        wait_until(lambda: client.xlen("tallyman:events") > 0)


class TestPostgres:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"password": "wrong-secret"}, "password authentication failed"),
            ({"user": "nobody_here"}, "password authentication failed"),
            ({"sslmode": "disable"}, "no encryption"),
            ({"sslrootcert": "STRANGER"}, "certificate verify failed"),
            ({"sslrootcert": "/nowhere/ca.pem"}, "does not exist"),
            ({"host": "localhost"}, 'does not match host name "localhost"'),
            ({"user": CERTIFIED}, "requires a valid client certificate"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
    )
    def test_refuses_in_one_line(self, site: Site, options: dict[str, str], said: str) -> None:
        stranger = str(site.postgres.certificates.stranger)
        chosen = {name: stranger if word == "STRANGER" else word for name, word in options.items()}
        site.with_variables(database_url=site.postgres.url(**{"user": "grafana", **chosen}))
        refused = site.installation.run("jobs", "list")
        assert refused.returncode == 4
        [line] = refused.stderr.splitlines()
        assert said in line
        assert "secret" not in line

    def test_that_refuses_its_login_stops_a_worker_from_taking_jobs(self, site: Site) -> None:
        site.with_variables(database_url=site.postgres.url("grafana", password="wrong-secret"))
        worker = site.installation.start("worker")
        worker.wait_for("intake_closed")
        worker.wait_for("password authentication failed")
        assert "secret" not in worker.complaints


class TestRedis:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"password": "wrong-secret"}, "invalid username-password pair"),
            ({"user": "nobody_here"}, "invalid username-password pair"),
            ({"ssl_ca_certs": "STRANGER"}, "certificate verify failed"),
            ({"host": "localhost"}, "Hostname mismatch"),
            ({"scheme": "redis"}, "Error while reading from"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
    )
    def test_that_refuses_is_unwell(self, site: Site, options: dict[str, str], said: str) -> None:
        stranger = str(site.broker.certificates.stranger)
        chosen = {name: stranger if word == "STRANGER" else word for name, word in options.items()}
        site.with_variables(broker_url=site.broker.url(**{"user": "tallyman", **chosen}))
        told = site.installation.run("health", "broker")
        assert told.returncode == 1
        [line] = told.stdout.splitlines()
        assert line.startswith("broker  UNWELL: does not answer: ")
        assert said in line
        assert "secret" not in line

    @pytest.mark.parametrize("program", ["worker", "relay", "flower"])
    def test_that_refuses_is_waited_for(self, site: Site, program: str) -> None:
        wrong = site.broker.url("tallyman", password="wrong-secret")
        running = site.with_variables(broker_url=wrong).start(program)
        running.wait_for("invalid username-password pair")
        assert running.process.poll() is None
        assert "wrong-secret" not in running.complaints

    def test_is_not_believed_where_no_authority_is_named(self, site: Site) -> None:
        url = site.broker.url("tallyman").partition("?")[0]
        site.with_variables(broker_url=url)
        assert "certificate verify failed" in site.installation.run("health", "broker").stdout
