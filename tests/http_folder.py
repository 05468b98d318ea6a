"""A web server of a folder, which can be told to be away."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class HttpFolder(ThreadingHTTPServer):
    """Serves a folder, or one status to everybody."""

    status: int | None = None

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(SimpleHTTPRequestHandler):
    server: HttpFolder

    def send_head(self):  # type: ignore[no-untyped-def]  # noqa: ANN202  the library's own
        self.server.asked[self.path] += 1
        if self.server.status is not None:
            self.send_error(self.server.status)
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served_over_http(folder: Path, *, status: int | None = None) -> Iterator[HttpFolder]:
    """Serve a folder over HTTP while the context lasts."""
    with HttpFolder(folder) as server:
        server.status = status
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
