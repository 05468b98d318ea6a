"""The port `Users`: what holds for the fake holds for PostgreSQL."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection, event, text

from adapters.postgres.statements import Statements
from adapters.postgres.users import PostgresUsers
from domain.errors import StaleDecision
from domain.messages import Event
from domain.users.commands import EraseUser, UpdateUser
from domain.users.email import EmailAddress
from domain.users.identity import Forgotten, IdentityField, IdentityKey, Username
from domain.users.model import User
from domain.users.ports import Users
from domain.users.services import erase_users, register_users, update_users
from domain.users.status import UserStatus
from tests.conftest import wait_until
from tests.fakes.user_builders import (
    PASSWORD_HASH,
    Batch,
    a_registration,
    a_user,
    batches,
    codes,
    requests,
    results,
)
from tests.fakes.users import FakeUsers, FakeUsersWork
from tests.statements import Watched

EMAIL, USERNAME, EXTERNAL_ID = (
    IdentityField.EMAIL,
    IdentityField.USERNAME,
    IdentityField.EXTERNAL_ID,
)


class SettledUsers(PostgresUsers):
    """Users on a real database, which hear at once of what they have written."""

    def add(self, users: Sequence[User]) -> None:
        super().add(users)
        self._statements.settle()

    def forget(self, people: Sequence[Forgotten]) -> None:
        super().forget(people)
        self._statements.settle()


class Work:
    """A unit of work that keeps no events."""

    def __init__(self, connection: Connection) -> None:
        self.statements = Watched(connection)
        self.users = SettledUsers(self.statements)

    def record(self, job_id: str, events: Iterable[Event]) -> None:
        pass


@pytest.fixture(params=["fake", "postgres"])
def users(request: pytest.FixtureRequest) -> Users:
    if request.param == "fake":
        return FakeUsers()
    return SettledUsers(Statements(request.getfixturevalue("connection")))


class TestMatching:
    @pytest.mark.parametrize(
        ("ids", "keys"),
        [
            ({"ada"}, set()),
            (set(), {IdentityKey(EMAIL, "ada@example.com")}),
            (set(), {IdentityKey(USERNAME, "ada")}),
            (set(), {IdentityKey(EXTERNAL_ID, "x1")}),
            ({"ada", "nobody"}, {IdentityKey(EMAIL, "ada@example.com")}),
        ],
    )
    def test_finds_a_user_once_by_id_or_any_key(
        self, users: Users, ids: set[str], keys: set[IdentityKey]
    ) -> None:
        users.add([a_user("ada", external_id="x1"), a_user("bob", external_id="x2")])

        assert [user.id for user in users.matching(ids=ids, keys=keys)] == ["ada"]

    @pytest.mark.parametrize(
        "key",
        [IdentityKey(USERNAME, "x1"), IdentityKey(EMAIL, "x1"), IdentityKey(EXTERNAL_ID, "ada")],
    )
    def test_tells_the_fields_apart(self, users: Users, key: IdentityKey) -> None:
        users.add([a_user("ada", external_id="x1")])

        assert list(users.matching(ids=(), keys={key})) == []

    def test_finds_nobody_where_nobody_is_asked_for(self, users: Users) -> None:
        users.add([a_user("ada")])

        assert list(users.matching(ids=(), keys=())) == []

    def test_gives_back_all_that_was_written(self, users: Users) -> None:
        written = a_user(
            "ada",
            username="Ádá",
            email="Ádá@MÜNCHEN.example",
            external_id="x1",
            password_hash=PASSWORD_HASH,
            status=UserStatus.ACTIVE,
            version=7,
        )
        users.add([written])

        [read] = users.matching(ids={"ada"}, keys=())

        assert (read.id, read.status, read.version) == ("ada", UserStatus.ACTIVE, 7)
        assert read.profile == written.profile
        assert read.events == []


class TestLocked:
    def test_gives_those_that_exist_in_id_order(self, users: Users) -> None:
        users.add([a_user("cyd"), a_user("ada"), a_user("bob")])

        assert list(users.locked({"nobody", "cyd", "ada"})) == ["ada", "cyd"]
        assert users.locked(()) == {}

    def test_gives_what_changes_nothing_until_it_is_saved(self, users: Users) -> None:
        users.add([a_user("ada")])

        users.locked({"ada"})["ada"].change_status(UserStatus.ACTIVE)

        assert users.locked({"ada"})["ada"].status is UserStatus.PENDING


class TestAdd:
    @pytest.mark.parametrize(
        "clash",
        [
            {"user_id": "ada"},
            {"email": "ADA@example.com"},
            {"username": "ADA"},
            {"external_id": "x1"},
        ],
    )
    def test_is_stale_where_an_id_or_key_is_taken(
        self, users: Users, clash: dict[str, Any]
    ) -> None:
        users.add([a_user("ada", external_id="x1")])
        newcomer = a_user("bob", **clash)
        newcomer.id = clash.get("user_id", "bob")

        with pytest.raises(StaleDecision):
            users.add([a_user("cyd"), newcomer])


class TestSave:
    def test_writes_what_changed(self, users: Users) -> None:
        users.add([a_user("ada", external_id="x1"), a_user("bob", external_id="x2")])
        locked = users.locked({"ada", "bob"})
        change = UpdateUser(
            user_id="ada",
            username="Queen",
            email="queen@example.com",
            name="Queen",
            password_hash=PASSWORD_HASH,
            email_verified=True,
            clear=("external_id",),
        )
        locked["ada"].update(locked["ada"].known.revised(change))
        locked["bob"].change_status(UserStatus.ACTIVE)

        users.save(list(locked.values()))

        saved = users.locked({"ada", "bob"})
        assert saved["ada"].profile == locked["ada"].profile
        assert (saved["ada"].version, saved["bob"].version) == (2, 2)
        assert saved["bob"].status is UserStatus.ACTIVE
        assert saved["bob"].profile == locked["bob"].profile

    def test_of_an_erased_user_frees_the_keys(self, users: Users) -> None:
        users.add([a_user("ada", external_id="x1", password_hash=PASSWORD_HASH)])
        ada = users.locked({"ada"})["ada"]
        ada.erase()

        users.save([ada])

        saved = users.locked({"ada"})["ada"]
        assert (saved.status, saved.profile, saved.version) == (UserStatus.ERASED, None, 2)
        newcomer = a_user("ada", external_id="x1")
        newcomer.id = "2"
        users.add([newcomer])

    @pytest.mark.parametrize(
        "change", [{"email": "BOB@example.com"}, {"username": "BOB"}, {"external_id": "x2"}]
    )
    def test_is_stale_where_a_key_is_taken(self, users: Users, change: dict[str, Any]) -> None:
        users.add([a_user("ada", external_id="x1"), a_user("bob", external_id="x2")])
        ada = users.locked({"ada"})["ada"]
        ada.update(ada.known.revised(UpdateUser(user_id="ada", **change)))

        with pytest.raises(StaleDecision) as caught:
            users.save([ada])

        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_is_stale_where_a_user_is_gone(self, users: Users) -> None:
        with pytest.raises(StaleDecision):
            users.save([a_user("nobody")])


class TestForget:
    def test_leaves_tombstones_of_email_and_external_id(self, users: Users) -> None:
        traces = a_user("ada", external_id="x1").traces
        email, external_id = IdentityKey(EMAIL, "ada@example.com"), IdentityKey(EXTERNAL_ID, "x1")
        username = IdentityKey(USERNAME, "ada")
        assert users.tombstones({email.digest}) == set()

        users.forget([traces, a_user("bob").traces])
        users.forget([traces])

        asked = {email.digest, external_id.digest, username.digest}
        assert users.tombstones(asked) == {email.digest, external_id.digest}
        assert users.tombstones(()) == set()


class TestServicesOnPostgres:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(history=batches())
    def test_answer_as_on_the_fake(self, connection: Connection, history: list[Batch]) -> None:
        fake, real = FakeUsersWork(), Work(connection)

        with connection.begin_nested() as savepoint:
            for handler, batch in history:
                expected, got = handler(batch, fake), handler(batch, real)
                assert codes(got) == codes(expected)
                assert results(got) == results(expected)
            stored = real.users.locked(fake.users.rows)
            assert {each.id: each.profile for each in stored.values()} == {
                each.id: each.profile for each in fake.users.rows.values()
            }
            savepoint.rollback()

    def test_take_a_constant_number_of_statements(self, connection: Connection) -> None:
        names = [f"u{number}" for number in range(500)]

        counts = [
            _statements(connection, handler, batch)
            for handler, batch in [
                (register_users, requests(*map(a_registration, names))),
                (
                    update_users,
                    requests(
                        *(UpdateUser(user_id=name, email=f"{name}@x.example") for name in names)
                    ),
                ),
                (erase_users, requests(*(EraseUser(user_id=name) for name in names))),
            ]
        ]

        assert counts == [3, 4, 6]


class TestTwoTransactions:
    @pytest.fixture(autouse=True)
    def patient(self, connection: Connection) -> None:
        """Have locks waited for however long the other transaction needs."""
        event.listen(connection.engine, "begin", _wait_for_locks)

    def test_one_wins_the_address_and_the_other_is_refused(self, connection: Connection) -> None:
        first, second = requests(
            a_registration("ada"), a_registration("bob", email="Ada@example.com")
        )
        register_users([first], Work(connection))

        with connection.engine.connect() as other, ThreadPoolExecutor(1) as thread:
            process = _process_of(other)
            late = thread.submit(register_users, [second], Work(other))
            _until_blocked(process, connection)
            connection.commit()
            with pytest.raises(StaleDecision):
                late.result(timeout=60)
            other.rollback()

            assert codes(register_users([second], Work(other))) == ["EmailTaken"]

    def test_a_registration_waits_for_an_erasure_and_sees_it(self, connection: Connection) -> None:
        Work(connection).users.add([a_user("ada")])
        connection.commit()
        erase_users(requests(EraseUser(user_id="ada")), Work(connection))

        with connection.engine.connect() as other, ThreadPoolExecutor(1) as thread:
            again = requests(a_registration("bob", email="ada@example.com"))
            process = _process_of(other)
            late = thread.submit(register_users, again, Work(other))
            _until_blocked(process, connection)
            connection.commit()

            assert codes(late.result(timeout=60)) == ["UserIsErased"]


class TestScrubbing:
    def test_empties_what_finished_jobs_tell_of_the_person(self, connection: Connection) -> None:
        ada = a_user("ada", email="Ada@MÜNCHEN.example")
        error = {"type": "Bug", "module": "m", "message": "ada", "details": {"name": "Ada"}}
        _jobs(
            connection,
            ("ada", "succeeded", {"email": "old@example.com"}),
            ("by-user-id", "dead", {"user_id": "ada", "name": "Ada"}),
            ("by-address", "rejected", {"email": "ADA@MÜNCHEN.example"}),
            ("by-key", "cancelled", {"email": "ada@xn--mnchen-3ya.example"}),
            ("by-old-address", "rejected", {"email": "Old@example.com"}),
            error=error | {"traceback": "name='Ada'"},
        )

        SettledUsers(Statements(connection)).forget([ada.traces])

        rows = connection.execute(text("SELECT * FROM job")).all()
        assert all(row.payload == {} and row.scrubbed_at is not None for row in rows)
        assert [row.result for row in rows if row.state == "succeeded"] == [{}]
        failures = connection.execute(text("SELECT error FROM job_failure")).scalars().all()
        kept = [row.error for row in rows if row.error is not None] + list(failures)
        assert len(kept) == 9
        assert all(each["type"] == "Bug" and each["details"] == {} for each in kept)
        assert "ada" not in json.dumps(kept).lower()

    def test_leaves_what_is_open_and_what_is_of_others(self, connection: Connection) -> None:
        _jobs(
            connection,
            ("open", "queued", {"user_id": "ada"}),
            ("retried", "retry", {"user_id": "ada"}),
            ("bob", "succeeded", {"email": "ada@example.com"}),
            ("refused-to-ada", "rejected", {"user_id": "ada", "email": "bob@example.com"}),
            ("other", "rejected", {"email": "bob@example.com"}),
        )
        _jobs(connection, ("elsewhere", "succeeded", {"user_id": "ada"}), queue="imports")

        SettledUsers(Statements(connection)).forget([a_user("ada").traces])

        scrubbed = connection.execute(text("SELECT id FROM job WHERE payload = '{}'"))
        assert scrubbed.scalars().all() == ["refused-to-ada"]

    def test_leaves_nothing_in_the_users_row(self, connection: Connection) -> None:
        work = Work(connection)
        work.users.add([a_user("ada", external_id="x1", password_hash=PASSWORD_HASH)])

        erase_users(requests(EraseUser(user_id="ada")), work)

        row = connection.execute(text("SELECT * FROM user_account")).mappings().one()
        assert {name for name, value in row.items() if value is not None} == {
            "id",
            "email_verified",
            "status",
            "version",
            "created_at",
            "updated_at",
        }


class TestStoredValues:
    def test_longest_values_fit(self, connection: Connection) -> None:
        email = "b" * 64 + "@" + ".".join(["a" * 60] * 3) + ".cccccc"
        user = a_user(
            username="\U0001d518" * 50, email=email, name="\ufdfa" * 200, external_id="x" * 255
        )

        SettledUsers(Statements(connection)).add([user])

        [read] = SettledUsers(Statements(connection)).matching(ids={"ada"}, keys=())
        assert read.known.email == EmailAddress.parse(email)
        assert read.known.username == Username.parse("\U0001d518" * 50)


def _jobs(
    connection: Connection,
    *jobs: tuple[str, str, dict[str, str]],
    queue: str = "users",
    error: dict[str, Any] | None = None,
) -> None:
    for job_id, state, payload in jobs:
        is_open = state in {"queued", "retry"}
        connection.execute(
            text("""
                INSERT INTO job (id, kind, queue, door, payload, payload_hash, state,
                                 max_attempts, next_dispatch, finished_at, result, error)
                VALUES (:id, 'users.update', :queue, 'ledger', CAST(:payload AS jsonb), '\\x00',
                        :state, 5, CASE WHEN :open THEN now() END,
                        CASE WHEN NOT :open THEN now() END,
                        CAST(:result AS jsonb), CAST(:error AS jsonb))
            """),
            {
                "id": job_id,
                "queue": queue,
                "payload": json.dumps(payload),
                "state": state,
                "open": is_open,
                "result": '{"user_id": "ada"}' if state == "succeeded" else None,
                "error": None if is_open or state == "succeeded" else json.dumps(error or {}),
            },
        )
        if error is not None:
            connection.execute(
                text("""
                    INSERT INTO job_failure (job_id, attempt, error, worker)
                    VALUES (:id, 1, CAST(:error AS jsonb), 'w1')
                """),
                {"id": job_id, "error": json.dumps(error)},
            )


def _statements(connection: Connection, handler: Any, batch: Any) -> int:  # noqa: ANN401  any kind
    work = Work(connection)
    assert set(codes(handler(batch, work))) == {"ok"}
    return len(work.statements.sent)


def _wait_for_locks(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")


def _process_of(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _until_blocked(process: int, observer: Connection) -> None:
    """Wait until PostgreSQL says that a process waits for a lock."""
    question = text("SELECT cardinality(pg_blocking_pids(:process)) > 0")
    with observer.engine.connect() as third:
        wait_until(lambda: third.execute(question, {"process": process}).scalar_one(), seconds=60)
