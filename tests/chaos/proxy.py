"""A TCP proxy that can be slow, stand still, break off, and lose what was said about a COMMIT."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from tests.chaos.frontend import Frontend

CHUNK = 1 << 16


class Lost(Enum):
    """What gets lost of a COMMIT; the client sees its connection break either way."""

    REQUEST = auto()
    """It never reaches the server."""
    REPLY = auto()
    """The server has committed, and its answer gets lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """Catches the commits of some clients."""

    loses: Lost
    catches: Callable[[str], bool]
    """Told the application that a connection names when it begins."""


@dataclass(eq=False, kw_only=True)
class Connection:
    """A client, the server behind us, and what is known of their talk."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    frontend: Frontend = field(default_factory=Frontend)
    is_caught: bool = False
    """The server's next reply is to get lost."""

    def abort(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """Forwards a port of its own, in a thread, to a server that may move and come and go."""

    def __init__(self, server_port: Callable[[], int], *, speaks_postgres: bool = False) -> None:
        """Forward to whatever port `server_port` names when a client connects."""
        self._server_port = server_port
        self._speaks_postgres = speaks_postgres
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[Connection] = set()
        self._delay = 0.0
        self._flows = asyncio.Event()
        self._accepts = True
        self._trap: Trap | None = None
        self.port = 0
        self.lost_commits = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Keep everything back for so long, while the context lasts."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def half_open(self) -> Iterator[None]:
        """Take whatever comes and forward nothing, while the context lasts."""
        self._loop.call_soon_threadsafe(self._flows.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._flows.set)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Break off all connections and take no other, while the context lasts."""
        self._accepts = False
        self.break_off()
        try:
            yield
        finally:
            self._accepts = True

    @contextmanager
    def losing_commits(self, trap: Trap) -> Iterator[None]:
        """Have commits lost, while the context lasts."""
        self._trap = trap
        try:
            yield
        finally:
            self._trap = None

    def break_off(self) -> None:
        """Break off all connections."""

        async def abort() -> None:
            for connection in self._connections:
                connection.abort()

        self._await(abort())

    def _await(self, coroutine: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._flows.set()
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._accepts = False
        self._flows.set()
        self._listening.close()
        for connection in self._connections:
            connection.abort()
        everything = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*everything, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._accepts:
                raise ConnectionRefusedError
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._server_port())
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(client=writer, server=server)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._upward(reader, connection), self._downward(server_reader, connection)
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _upward(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while said := await reader.read(CHUNK):
            await self._pass_time()
            if self._speaks_postgres:
                said, commits = connection.frontend.hear(said)
                if commits and self._catches(connection):
                    return
            connection.server.write(said)
            await connection.server.drain()
        # A client that has left is not waited for by the server.
        with suppress(OSError):
            connection.server.write_eof()

    async def _downward(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while said := await reader.read(CHUNK):
            await self._pass_time()
            if connection.is_caught:
                self.lost_commits += 1
                break
            connection.client.write(said)
            await connection.client.drain()
        connection.abort()

    def _catches(self, connection: Connection) -> bool:
        """Set a trap's snare for the answer, or tell that the request itself is lost."""
        trap = self._trap
        if trap is None or not trap.catches(connection.frontend.application):
            return False
        if trap.loses is Lost.REQUEST:
            self.lost_commits += 1
            connection.abort()
            return True
        connection.is_caught = True
        return False

    async def _pass_time(self) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        await self._flows.wait()
