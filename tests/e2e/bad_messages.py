"""Messages that are no job, as they may lie in a queue, and the reason each is parked with."""

import base64
import json
import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uuid6 import uuid7

KIND = "allocation.allocate_order"
PAYLOAD = {"order_id": "forged", "lines": [{"sku": "forged", "quantity": 1}]}
NO_CALLBACKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
CALLBACK = {"task": "allocation.create_batch", "args": [], "kwargs": {}, "options": {}}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._trace,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """What is pushed to a queue, and what it is parked with."""

    raw: bytes
    reason: str


def envelope(
    *,
    args: object = (),
    kwargs: object = PAYLOAD,
    embed: object = NO_CALLBACKS,
    body: bytes | None = None,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    content_type: object = "application/json",
    content_encoding: str = "utf-8",
) -> dict[str, Any]:
    """Build a message as kombu lays it into Redis; what is given takes the place of what is so."""
    job_id = str(uuid7())
    plain = json.dumps([args, kwargs, embed]).encode() if body is None else body
    return {
        "body": base64.b64encode(plain).decode(),
        "content-type": content_type,
        "content-encoding": content_encoding,
        "headers": {
            "lang": "py",
            "task": KIND,
            "id": job_id,
            "root_id": job_id,
            "retries": 0,
            "timelimit": [None, None],
            **(headers or {}),
        },
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "allocation"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid7()),
            **(properties or {}),
        },
    }


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def without(message: dict[str, Any], *path: str) -> dict[str, Any]:
    """Take a field out of a message."""
    place = message
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return message


def bad_messages(trace: Path) -> Mapping[str, Bad]:
    """Return messages of every sort by name; what must not be unpickled would make `trace`."""
    bomb = pickle.dumps(Bomb(trace))
    far = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).isoformat().replace("+00:00", "-14:00")
    protocol_1 = json.dumps({"task": KIND, "id": "1", "args": [], "kwargs": PAYLOAD}).encode()
    bare = {"task": None, "id": None}
    raw: dict[str, tuple[bytes | str | dict[str, Any], str]] = {
        # What is no message at all.
        "bytes": (b"\xff\xfe\x00garbage\x80", "unreadable"),
        "nothing": (b"", "unreadable"),
        "text": ("hello", "unreadable"),
        "a number": ("42", "unreadable"),
        "null": ("null", "unreadable"),
        "a list": ("[1, 2, 3]", "unreadable"),
        "an empty object": ("{}", "unreadable"),
        "deep objects": (nested(100_000), "unreadable"),
        "objects that can be read but not written": (nested(930), "unreadable"),
        "a number of many digits": ("1" * 10_000, "unreadable"),
        "an unknown type": ('{"__type__": "x", "__value__": 1}', "unreadable"),
        "no headers": (without(envelope(), "headers"), "unreadable"),
        "headers that are a list": ({**envelope(), "headers": [1]}, "unreadable"),
        "headers that are text": ({**envelope(), "headers": "x"}, "unreadable"),
        "deep headers": (
            json.dumps(envelope()).replace('"lang": "py"', f'"lang": {nested(900)}'),
            "unreadable",
        ),
        "no properties": (without(envelope(), "properties"), "unreadable"),
        "properties that are text": ({**envelope(), "properties": "x"}, "unreadable"),
        "a body that is a number": ({**envelope(), "body": 5}, "unreadable"),
        "a body that is not base64": ({**envelope(), "body": "a"}, "unreadable"),
        "an unknown body encoding": (
            envelope(properties={"body_encoding": "rot13"}),
            "unreadable",
        ),
        "a body encoding that is a list": (
            envelope(properties={"body_encoding": []}),
            "unreadable",
        ),
        "20 MB of text": ("x" * 20_000_000, "unreadable"),
        # Messages, but not of jobs.
        "no task": (without(envelope(), "headers", "task"), "protocol"),
        "protocol 1": (envelope(body=protocol_1, headers=bare), "protocol"),
        "a task that is a list": (envelope(headers={"task": ["x"]}), "protocol"),
        "no id": (without(envelope(), "headers", "id"), "protocol"),
        "an id that is a number": (envelope(headers={"id": 7}), "protocol"),
        "a body of two": (envelope(body=b"[[], {}]"), "protocol"),
        "a body that is an object": (envelope(body=b'{"args": []}'), "protocol"),
        "a body that is text": (envelope(body=b'"args"'), "protocol"),
        "no body": (envelope(body=b""), "protocol"),
        "an empty id": (envelope(headers={"id": ""}), "job_id"),
        "an id too long": (envelope(headers={"id": "x" * 256}), "job_id"),
        "an id of control characters": (envelope(headers={"id": "a\x00\n"}), "job_id"),
        "an id of half a character": (envelope(headers={"id": "\ud800"}), "job_id"),
        "pickle": (
            envelope(
                body=bomb,
                content_type="application/x-python-serialize",
                content_encoding="binary",
            ),
            "content_type",
        ),
        "yaml": (envelope(body=b"a: 1", content_type="application/x-yaml"), "content_type"),
        "no content type": (envelope(content_type=None), "content_type"),
        "raw data": (envelope(content_type="application/data"), "content_type"),
        "a content type that is a list": (envelope(content_type=["x"]), "content_type"),
        "pickle that says it is JSON": (envelope(body=bomb), "undecodable"),
        "half of a body": (envelope(body=b"[[], {"), "undecodable"),
        "deep arguments": (
            envelope(body=f"[[], {nested(100_000)}, {{}}]".encode()),
            "undecodable",
        ),
        "arguments too deep to hand on": (
            envelope(body=f"[[], {nested(900)}, null]".encode()),
            "nested",
        ),
        "an unknown compression": (envelope(headers={"compression": "x"}), "undecodable"),
        "a compression that is a list": (envelope(headers={"compression": [1]}), "undecodable"),
        "broken compression": (envelope(headers={"compression": "gzip"}), "undecodable"),
        "a bomb of zeros": (
            envelope(
                body=zlib.compress(bytes(300_000_000)),
                headers={"compression": "application/x-gzip"},
            ),
            "undecodable",
        ),
        "2 MB of arguments": (envelope(kwargs={"order_id": "x" * 2_000_000}), "oversized"),
        # Jobs nobody can run.
        "an unknown kind": (envelope(headers={"task": "allocation.from_tomorrow"}), "unknown_kind"),
        "a task of Celery's own": (
            envelope(args=[CALLBACK, [[]]], kwargs={}, headers={"task": "celery.starmap"}),
            "unknown_kind",
        ),
        "ids of an unknown kind that nobody knows": (
            envelope(args=[["nobody"]], kwargs={}, headers={"task": "allocation.from_tomorrow"}),
            "unknown_kind",
        ),
        "arguments by position": (envelope(args=["order-1", []], kwargs={}), "arguments"),
        "ids that are numbers": (envelope(args=[[1, 2]], kwargs={}), "arguments"),
        "ids that are text": (envelope(args=["abc"], kwargs={}), "arguments"),
        "no ids": (envelope(args=[[]], kwargs={}), "arguments"),
        "an id among ids that is too long": (envelope(args=[["x" * 256]], kwargs={}), "arguments"),
        "ids and a payload": (envelope(args=[["a"]]), "arguments"),
        "a payload that is a list": (envelope(kwargs=[1]), "arguments"),
        "a payload that is null": (envelope(kwargs=None), "arguments"),
        "arguments that are an object": (envelope(args={"a": 1}), "arguments"),
        "a million ids": (
            envelope(args=[[str(n) for n in range(1_000_000)]], kwargs={}),
            "oversized",
        ),
        "2,000 ids": (envelope(args=[[str(n) for n in range(2_000)]], kwargs={}), "arguments"),
        "an eta that is no time": (envelope(headers={"eta": "tomorrow"}), "schedule"),
        "an eta that is a list": (envelope(headers={"eta": [1]}), "schedule"),
        "an eta out of all time": (envelope(headers={"eta": far}), "schedule"),
        "expires that is no time": (envelope(headers={"expires": "x" * 1_000}), "schedule"),
        "callbacks in the body": (
            envelope(embed={**NO_CALLBACKS, "callbacks": [CALLBACK]}),
            "callbacks",
        ),
        "errbacks in the body": (
            envelope(embed={**NO_CALLBACKS, "errbacks": [CALLBACK]}),
            "callbacks",
        ),
        "a chain in the body": (envelope(embed={**NO_CALLBACKS, "chain": [CALLBACK]}), "callbacks"),
        "a chord in the body": (envelope(embed={**NO_CALLBACKS, "chord": CALLBACK}), "callbacks"),
        "callbacks in the headers": (
            envelope(embed=None, headers={"callbacks": [CALLBACK]}),
            "callbacks",
        ),
        "a body that says what was asked": (envelope(embed={"delivery_info": 1}), "protocol"),
        "a body whose third part is a list": (envelope(embed=[CALLBACK]), "protocol"),
    }
    return {
        name: Bad(
            raw=message
            if isinstance(message, bytes)
            else (message if isinstance(message, str) else json.dumps(message)).encode(),
            reason=reason,
        )
        for name, (message, reason) in raw.items()
    }
