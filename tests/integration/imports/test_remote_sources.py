"""Sources on other machines: fetched from real servers, and left alone while these are away."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import Engine

from adapters import breakers
from domain.jobs.model import JobState
from tests.http_folder import served_over_http
from tests.integration.imports.conftest import Importing
from tests.integration.imports.shop import DESCRIPTION, STOCK, Shop
from worker.metrics.breaker_board import BreakerBoard


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Give a folder with a file, to be served."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "stock.csv").write_text(STOCK)
    return folder


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Shop:
    return Shop(engine, tmp_path)


def describe(shop: Shop, url: str) -> None:
    shop.describe(
        DESCRIPTION.replace("inbox/*.csv*", url)
        .replace('taken_folder = "inbox/taken"\n', "")
        .replace('refused_folder = "inbox/refused"\n', "")
    )


class TestAUrl:
    @pytest.mark.parametrize("pattern", ["stock.csv", "*.csv"])
    def test_of_a_web_server_is_taken_once(
        self, shop: Shop, served: Path, importing: Importing, pattern: str
    ) -> None:
        with served_over_http(served) as server:
            describe(shop, f"{server.url}/{pattern}")
            [taken] = shop.scan().result["taken"]
            assert [each["run"] for each in shop.scan().result["known"]] == [taken["run"]]
        importing.work()
        run = importing.run(taken["run"])
        assert (run.file_name, run.ends["created"]) == ("stock.csv", 2)

    def test_of_a_bucket_is_taken_once_and_moved(
        self, shop: Shop, importing: Importing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "made-up")
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            bucket = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket="shop")
            bucket.put_object(Key="in/stock.csv", Body=STOCK.encode())
            bucket.put_object(Key="in/notes.txt", Body=b"no stock")
            shop.describe(
                DESCRIPTION.replace("inbox/*.csv*", "s3://shop/in/*.csv").replace(
                    "inbox/taken", "s3://shop/taken"
                )
            )
            [taken] = shop.scan().result["taken"]
            names = [entry.key for entry in bucket.objects.all()]
            assert names == ["in/notes.txt", "taken/stock.csv"]
        finally:
            server.stop()
        importing.work()
        assert importing.run(taken["run"]).ends["created"] == 2

    def test_of_an_ssh_server_is_taken_once_and_moved(
        self,
        shop: Shop,
        served: Path,
        importing: Importing,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with _ssh(tmp_path) as (port, key):
            url = f"sftp://shop:secret@127.0.0.1:{port}{served}"
            shop.describe(
                DESCRIPTION.replace("inbox/*.csv*", f"{url}/*.csv").replace(
                    "inbox/taken", f"{url}/taken"
                )
            )
            stranger = shop.scan()
            assert (stranger.state, stranger.error.type) == (JobState.RETRY, "SourceAway")
            assert "secret" not in stranger.error.message

            home = tmp_path / "home"
            (home / ".ssh").mkdir(parents=True)
            (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
            monkeypatch.setenv("HOME", str(home))
            shop.forgive()
            [taken] = shop.scan().result["taken"]
            assert shop.names("served/taken") == ["stock.csv"]
        importing.work()
        assert importing.run(taken["run"]).ends["created"] == 2


class TestAStoreThatIsAway:
    def test_is_tried_again_and_then_left_alone(self, shop: Shop, served: Path) -> None:
        with served_over_http(served, status=503) as server:
            describe(shop, f"{server.url}/stock.csv")
            tried = shop.scan()
            assert (tried.state, tried.error.type) == (JobState.RETRY, "SourceAway")
            assert "cannot be reached" in tried.error.message
            asked = server.asked.total()

            looks = [shop.scan() for _ in range(20)]

            # Nobody waits for it, and no job uses up its attempts on it.
            assert {look.state for look in looks} == {JobState.REJECTED}
            assert {look.error.type for look in looks} == {"SourceLeftAlone"}
            assert server.asked.total() == asked

    def test_is_found_by_itself_when_it_is_back(
        self, engine: Engine, tmp_path: Path, served: Path
    ) -> None:
        shop = Shop(engine, tmp_path, rest_seconds=0)
        with served_over_http(served, status=503) as server:
            describe(shop, f"{server.url}/stock.csv")
            assert shop.scan().state is JobState.RETRY
            server.status = None
            assert len(shop.scan().result["taken"]) == 1

    def test_does_not_keep_others_from_being_looked_at(self, shop: Shop, served: Path) -> None:
        with served_over_http(served) as server, served_over_http(served, status=503) as away:
            describe(shop, f"{away.url}/stock.csv")
            assert shop.scan().state is JobState.RETRY
            describe(shop, f"{server.url}/stock.csv")
            assert len(shop.scan().result["taken"]) == 1

    def test_is_told_of_in_the_metrics(
        self, shop: Shop, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(breakers, "_listeners", [])
        board = BreakerBoard()
        board.listen()
        with served_over_http(served, status=503) as server:
            describe(shop, f"{server.url}/stock.csv")
            shop.scan()
        told = {
            (sample.name, sample.labels["breaker"]): sample.value
            for family in board.collect()
            for sample in family.samples
        }
        assert told["tallyman_breaker_open", "remote_source"] == 1
        assert told["tallyman_breaker_openings_total", "remote_source"] == 1

    @pytest.mark.parametrize("pattern", ["stock.csv", "*.csv"])
    def test_is_not_taken_for_one_without_files(self, shop: Shop, pattern: str) -> None:
        describe(shop, f"http://127.0.0.1:1/{pattern}")
        assert shop.scan().error.type == "SourceAway"


class TestAStoreThatAnswers:
    @pytest.mark.parametrize("pattern", ["gone.csv", "*.parquet"])
    def test_that_nothing_is_there_is_left_with_nothing(
        self, shop: Shop, served: Path, pattern: str
    ) -> None:
        with served_over_http(served) as server:
            describe(shop, f"{server.url}/{pattern}")
            assert shop.scan().result["taken"] == []

    def test_that_we_may_not_read_says_so_at_once(self, shop: Shop, served: Path) -> None:
        with served_over_http(served, status=403) as server:
            describe(shop, f"{server.url}/stock.csv")
            job = shop.scan()
            assert (job.state, job.error.type) == (JobState.REJECTED, "InvalidSource")
            assert "access is denied" in job.error.message


class _OneUser(asyncssh.SSHServer):
    def __init__(self, connections: list[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connections.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("shop", "secret")


@contextmanager
def _ssh(folder: Path) -> Iterator[tuple[int, str]]:
    """Serve this machine's files over SFTP while the context lasts; give the port and the key."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    connections: list[asyncssh.SSHServerConnection] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            lambda: _OneUser(connections),
            "127.0.0.1",
            0,
            server_host_keys=[key],
            sftp_factory=asyncssh.SFTPServer,
        )

    async def end(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        for connection in connections:
            connection.abort()
            await connection.wait_closed()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield server.get_port(), key.export_public_key().decode()
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
