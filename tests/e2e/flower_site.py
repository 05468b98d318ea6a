"""Flower as those meet it who ask it over HTTP."""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.e2e.processes import eventually

NAME = "tally"
PASSWORD = "blossom-7Q"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    text: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerSite:
    """A Flower process, and what it answers."""

    logs: Callable[[], str]
    """Reads what the process has logged."""

    @property
    def url(self) -> str:
        found = re.search(r"flower_started\s+url=(\S+)", self.logs())
        assert found, self.logs()
        return found[1]

    def get(self, path: str, *, password: str | None = PASSWORD) -> Answer:
        return self._ask(urllib.request.Request(self.url + path), password)  # noqa: S310  it is our own

    def post(
        self,
        path: str,
        body: object = None,
        *,
        password: str | None = PASSWORD,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=dict(headers or {}))  # noqa: S310  as above
        return self._ask(request, password)

    def task(self, job_id: str) -> dict[str, Any] | None:
        """Return what Flower has seen of a job; None where that is nothing."""
        answer = self.get(f"/api/task/info/{quote(job_id, safe='')}")
        return answer.data if answer.status == 200 else None

    def shows(self, job_id: str, state: str) -> dict[str, Any]:
        """Wait until Flower shows a job in this state."""

        def there() -> dict[str, Any] | None:
            found = self.task(job_id)
            return found if found and found["state"] == state else None

        return eventually(there, what=f"Flower shows {job_id} as {state}, now {self.task(job_id)}")

    def only_worker(self) -> str:
        """Wait until Flower knows the only worker; return its name."""

        def known() -> list[str]:
            return list(self.get("/api/workers").data)

        [name] = eventually(known, what="Flower knows the worker")
        return name

    def _ask(self, request: urllib.request.Request, password: str | None) -> Answer:
        if password is not None:
            credentials = base64.b64encode(f"{NAME}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  as above
                return Answer(status=answer.status, text=answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(status=error.code, text=error.read().decode())
