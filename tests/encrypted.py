"""PostgreSQL and Redis that talk TLS alone, and the certificates for it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis
import trustme

from adapters.embedded.processes import free_port
from adapters.embedded.unprivileged import account_for_postgres
from tests.e2e.processes import eventually

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
REDIS = shutil.which("redis-server")
HOW_TO_GET_THEM = "Debian, Ubuntu: apt-get install postgresql redis-server"

ADMINISTRATOR = "postgres"
CERTIFIED = "certified"
"""Login of PostgreSQL that has to show a certificate in its name as well."""
PASSWORD = "a secret/of: this @test?"  # of all that an address has to quote

_HBA = f"""
hostssl all {CERTIFIED} 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files: who is trusted, what a server shows, and what a client may show."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger: Path
    """An authority that has signed nothing here."""


def certify(folder: Path) -> Certificates:
    """Make certificates for a server at 127.0.0.1 and for the login `CERTIFIED`."""
    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert(f"{CERTIFIED}@example.com", common_name=CERTIFIED)
    made = Certificates(
        **{name: folder / f"{name}.pem" for name in Certificates.__dataclass_fields__}
    )
    authority.cert_pem.write_to_path(made.authority)
    stranger.cert_pem.write_to_path(made.stranger)
    for files, of in (
        ((made.server, made.server_key), server),
        ((made.client, made.client_key), client),
    ):
        of.cert_chain_pems[0].write_to_path(files[0])
        of.private_key_pem.write_to_path(files[1])
        files[1].chmod(0o600)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPostgres:
    """A PostgreSQL that refuses whoever does not encrypt."""

    port: int
    certificates: Certificates

    def url(
        self,
        user: str = ADMINISTRATOR,
        *,
        password: str = PASSWORD,
        database: str = "postgres",
        host: str = "127.0.0.1",
        **options: object,
    ) -> str:
        """Give an address that verifies the server, unless `options` say something else."""
        verified = {"sslmode": "verify-full", "sslrootcert": self.certificates.authority}
        query = "&".join(f"{name}={value}" for name, value in {**verified, **options}.items())
        login = f"{user}:{quote(password, safe='')}"
        return f"postgresql+psycopg://{login}@{host}:{self.port}/{database}?{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedRedis:
    """A Redis that has no port for whoever does not encrypt, and no user without a password."""

    port: int
    certificates: Certificates

    def url(
        self,
        user: str,
        *,
        password: str = PASSWORD,
        scheme: str = "rediss",
        host: str = "127.0.0.1",
        **options: object,
    ) -> str:
        said = {"ssl_ca_certs": self.certificates.authority} if scheme == "rediss" else {}
        query = "&".join(f"{name}={value}" for name, value in {**said, **options}.items())
        login = f"{user}:{quote(password, safe='')}"
        return f"{scheme}://{login}@{host}:{self.port}/0{'?' if query else ''}{query}"


@contextmanager
def postgres(certificates: Certificates) -> Iterator[EncryptedPostgres]:
    """Run a PostgreSQL, as an account that may run one."""
    assert POSTGRES is not None, HOW_TO_GET_THEM
    account = account_for_postgres()
    # Nobody else may pass the folders that tests are given.
    folder = Path(tempfile.mkdtemp(prefix="tallyman-encrypted-", dir="/var/tmp"))
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    user, group = (None, None) if account is None else (account.uid, account.gid)

    def put(name: str, content: str, mode: int) -> Path:
        file = folder / name
        file.write_text(content)
        file.chmod(mode)
        if account is not None:
            os.chown(file, account.uid, account.gid)
        return file

    password = put("password", PASSWORD, 0o600)
    subprocess.run(
        [
            *(POSTGRES / "initdb", "-D", folder / "data", "-U", ADMINISTRATOR, "-E", "UTF8", "-N"),
            *("--locale=C", "--auth=scram-sha-256", f"--pwfile={password}"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        user=user,
        group=group,
    )
    put("data/pg_hba.conf", _HBA, 0o600)
    server = EncryptedPostgres(port=free_port(preferred=None), certificates=certificates)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": server.port,
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 60,
        "ssl": "on",
        "ssl_cert_file": put("server.pem", certificates.server.read_text(), 0o600),
        "ssl_key_file": put("server.key", certificates.server_key.read_text(), 0o600),
        "ssl_ca_file": put("ca.pem", certificates.authority.read_text(), 0o600),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(POSTGRES / "postgres", "-D", folder / "data"),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            user=user,
            group=group,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                psycopg.connect(server.url().replace("+psycopg", "")).close()
            except psycopg.OperationalError:
                return False
            return True

        eventually(answers, what="PostgreSQL answers")
        yield server
    finally:
        # On SIGTERM it would wait for its clients.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=90)
        shutil.rmtree(folder)


@contextmanager
def valkey(certificates: Certificates, *, folder: Path, users: str) -> Iterator[EncryptedRedis]:
    """Run a Redis with these users, in the words of an ACL file."""
    assert REDIS is not None, HOW_TO_GET_THEM
    access = folder / "users.acl"
    # Where a guide says what a password is.
    hashed = f"#{sha256(PASSWORD.encode()).hexdigest()}"
    administrator = f"user administrator on {hashed} ~* &* +@all\n"
    access.write_text(users.replace(">PASSWORD", hashed) + administrator)
    server = EncryptedRedis(port=free_port(preferred=None), certificates=certificates)
    settings = {
        "port": 0,
        "tls-port": server.port,
        "tls-cert-file": certificates.server,
        "tls-key-file": certificates.server_key,
        "tls-ca-cert-file": certificates.authority,
        "tls-auth-clients": "no",
        "bind": "127.0.0.1",
        "save": "",
        "dir": folder,
        "aclfile": access,
    }
    arguments = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [REDIS, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "redis.log").read_text()
            try:
                with redis.Redis.from_url(server.url("administrator")) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        eventually(answers, what="Redis answers")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=90)
