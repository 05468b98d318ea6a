"""A Celery client that knows nothing of Tallyman: it is told two URLs and what to do, in JSON.

It runs with Python's isolation and without the site module, so that of an environment it sees
the libraries alone: `python -I -S stock_client.py <site-packages>`.
"""

import json
import sys
from importlib.util import find_spec
from typing import Any

sys.path.append(sys.argv[1])

from celery import Celery


def main() -> None:
    strangers = [name for name in ("adapters", "domain", "tasks", "worker") if find_spec(name)]
    if strangers:
        sys.exit(f"this is no stock client: it can import {strangers}")
    asked = json.load(sys.stdin)
    app = Celery(broker=asked["broker_url"], backend=asked["mirror_url"])
    for message in asked.get("send", ()):
        app.send_task(**message)
    json.dump({job_id: _seen(app, job_id) for job_id in asked.get("read", ())}, sys.stdout)


def _seen(app: Celery, job_id: str) -> dict[str, Any]:
    found = app.AsyncResult(job_id)
    if not found.ready():
        return {"state": found.state, **_told(found.result)}
    try:
        return {"state": found.state, "result": found.get(timeout=60)}
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the client is told
        return {"state": found.state, **_told(error)}


def _told(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    kind = type(error)
    return {"raises": f"{kind.__module__}.{kind.__qualname__}", "arguments": list(error.args)}


if __name__ == "__main__":
    main()
