"""PostgreSQL in a folder of its own, on loopback TCP alone."""

import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, assert_never

import psycopg
from psycopg import sql
from typing_extensions import override

from adapters.embedded.binaries import PostgresBinaries, find_postgres
from adapters.embedded.detached import DetachedServer
from adapters.embedded.errors import ServerDidNotStart
from adapters.embedded.processes import run, size_of, tail_of
from adapters.embedded.unprivileged import account_for_postgres, can_reach, claim, shared_path

ROLE = "tallyman"
SUPERUSER = "postgres"

_DEFAULTS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # No DETAIL, which quotes the row that breaks a rule, and no parameters: a log is no place for
    # what is of people.
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
_WELCOME_LOCK = 1
_FIRST_WITH_BUILTIN_LOCALES = 17


class PostgresServer(DetachedServer):
    """A PostgreSQL whose role and database ``tallyman`` are made on its first start.

    Its data lie in ``folder``. Where root starts it below a folder that others may not pass,
    they lie in ``/var/tmp/tallyman-<uid>-<hash of the folder>``, owned by ``nobody``.
    """

    name: ClassVar[str] = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, account=account_for_postgres())

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and wait until it is gone.

        ``fast`` breaks off transactions and writes everything down; ``immediate`` breaks off
        all of it and leaves recovery to the next start.

        Raises:
            ServerDidNotStop: it still runs after a minute.
        """
        match mode:
            case "fast":
                self._end(signal.SIGINT)
            case "immediate":
                self._end(signal.SIGQUIT)
            case _:
                assert_never(mode)

    def url(self, database: str = ROLE) -> str:
        """Give the address for SQLAlchemy, as a role that may create databases and roles."""
        return self._url(user=ROLE, database=database)

    def superuser_url(self, database: str = SUPERUSER) -> str:
        return self._url(user=SUPERUSER, database=database)

    def remove_data(self) -> None:
        """Stop the server and delete its data, wherever they lie."""
        self.stop()
        outside = self._state().data_home
        shutil.rmtree(self.data_folder if outside is None else outside, ignore_errors=True)
        if self.folder.exists():
            self._remember(replace(self._state(), data_home=None))

    @property
    def data_folder(self) -> Path:
        return self._home / "data"

    @property
    def digest(self) -> str:
        """Tell this folder from others where folders of all kinds meet."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]

    @override
    def _prepare(self) -> None:
        self._settle_home()
        if not self.data_folder.exists():
            self._make_cluster(find_postgres(account=self._account))
        elif ROLE not in self._state().passwords:
            raise ServerDidNotStart(
                f"{self.data_folder} holds a database whose passwords were in {self._state_file}: "
                f"restore that file, or delete {self.data_folder} to start empty"
            )
        # PostgreSQL asks only whether its process id lives, and ids are reused. Its shared memory
        # still keeps a second server away from the data.
        (self.data_folder / "postmaster.pid").unlink(missing_ok=True)

    @override
    def _command(self, *, port: int, options: Mapping[str, str]) -> Sequence[str]:
        binaries = find_postgres(account=self._account)
        settings = {
            **_DEFAULTS,
            **options,
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            # A folder's path may be longer than a socket's may.
            "unix_socket_directories": "",
            "cluster_name": self._cluster_name,
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return [str(binaries.postgres), "-D", str(self.data_folder), *arguments]

    @override
    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    @override
    def _is_ours(self, command: Sequence[str]) -> bool:
        return command[1:3] == ["-D", str(self.data_folder)]

    @override
    def _is_left_behind(self, command: Sequence[str]) -> bool:
        backend = " ".join(command).startswith(f"postgres: {self._cluster_name}: ")
        return backend or self._is_ours(command)

    @override
    def _welcome(self) -> None:
        with self._connect() as connection:
            connection.autocommit = True
            # The server still finishes the statement of a start that was killed on this line.
            connection.execute("SELECT pg_advisory_lock(%s)", [_WELCOME_LOCK])
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}").format(
                        sql.Identifier(ROLE), self._state().passwords[ROLE]
                    )
                )
            if not connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [ROLE]
            ).fetchall():
                connection.execute(
                    sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(ROLE))
                )

    def _settle_home(self) -> None:
        """Decide once where the data lie, and make sure of that place on every start."""
        home = self._state().data_home
        if home is not None:
            claim(Path(home))
        elif not self._may_keep_data_inside():
            outside = shared_path(self.digest)
            claim(outside)
            self._remember(replace(self._state(), data_home=str(outside)))

    def _may_keep_data_inside(self) -> bool:
        return (
            self._account is None
            or can_reach(self.folder, account=self._account)
            or self.data_folder.exists()
        )

    def _make_cluster(self, binaries: PostgresBinaries) -> None:
        state = self._state()
        if not state.passwords:
            generated = {user: secrets.token_hex(24) for user in (SUPERUSER, ROLE)}
            state = replace(state, passwords=generated)
            self._remember(state)
        for left in self._home.glob("data.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        # Renamed once whole, so that a start cut short leaves no half of a cluster.
        partial = Path(tempfile.mkdtemp(prefix="data.partial-", dir=self._home))
        with tempfile.NamedTemporaryFile("w", dir=self._home, encoding="ascii") as password:
            password.write(state.passwords[SUPERUSER])
            password.flush()
            if self._account is not None:
                os.chown(partial, self._account.uid, self._account.gid)
                os.fchown(password.fileno(), self._account.uid, self._account.gid)
            self._run_initdb(binaries.initdb, data=partial, password_file=Path(password.name))
        partial.rename(self.data_folder)

    def _run_initdb(self, initdb: Path, *, data: Path, password_file: Path) -> None:
        log_size = size_of(self.log)
        try:
            version = run([str(initdb), "--version"], log=self.log, account=self._account)
            options = [
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ]
            if _major(version) >= _FIRST_WITH_BUILTIN_LOCALES:
                # Sorts by code point, like C, but knows the case of every letter.
                options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            run([str(initdb), *options], log=self.log, account=self._account)
        except subprocess.CalledProcessError as failure:
            raise ServerDidNotStart(
                f"initdb could not make {self.data_folder}; the end of {self.log}:\n"
                f"{tail_of(self.log, since=log_size)}"
            ) from failure

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._state().passwords[SUPERUSER],
            dbname=SUPERUSER,
            connect_timeout=5,
        )

    def _url(self, *, user: str, database: str) -> str:
        password = self._state().passwords.get(user)
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def _home(self) -> Path:
        return Path(self._state().data_home or self.folder)

    @property
    def _cluster_name(self) -> str:
        return f"tallyman-{self.digest}"


def _major(version: str) -> int:
    """Read the first number of ``initdb (PostgreSQL) 18.4``."""
    return int(re.sub(r"^\D*(\d+).*$", r"\1", version.strip()))
