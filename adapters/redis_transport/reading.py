"""Reading: a message of what lay in a list of Redis, whatever that was."""

import base64
from typing import Any
from uuid import uuid4

from kombu.transport.virtual.base import Base64
from kombu.utils.json import loads

from domain.jobs.parking import is_too_deep

UNREADABLE = "application/vnd.tallyman.unreadable"
"""Content type of what lay in a list and is no message."""

_MAPPINGS = ("headers", "properties")
_BODY_ENCODINGS = frozenset({None, "base64", "utf-8"})


def read_message(item: bytes, queue: str, *, tag: str | None = None) -> dict[str, Any]:
    """Return the message that lay in the list of `queue`, or one that wraps what lay there.

    It has the delivery tag under which it was noted, or a new one.
    """
    tag = tag or str(uuid4())
    try:
        message = loads(item.decode())
        # It is written again when it is noted, by code that recurses.
        if is_too_deep(message, item):
            return unreadable(item, queue, tag=tag)
        return settled(message, queue, tag=tag)
    except Exception:  # noqa: BLE001  whatever it is that cannot be read, it is wrapped
        return unreadable(item, queue, tag=tag)


def settled(message: dict[str, Any], queue: str, *, tag: str | None = None) -> dict[str, Any]:
    """Check the shape of a message, and replace what its sender must not decide.

    Raises:
        Exception: It has another shape.
    """
    headers, properties = (message[name] for name in _MAPPINGS)
    if not (isinstance(headers, dict) and isinstance(properties, dict)):
        raise TypeError(_MAPPINGS)
    encoding = properties.get("body_encoding")
    if encoding not in _BODY_ENCODINGS or not isinstance(message.get("body"), str | None):
        raise TypeError("body")
    if encoding == "base64":
        Base64().decode(message["body"] or "")
    info = properties.get("delivery_info")
    priority = properties.get("priority")
    message["properties"] = {
        **properties,
        # Under a tag that was used before, the note of another message would be lost.
        "delivery_tag": tag or str(uuid4()),
        # It goes back to where it came from, not where it says.
        "delivery_info": {
            "exchange": "",
            "routing_key": queue,
            "redelivered": bool(isinstance(info, dict) and info.get("redelivered")),
        },
        "priority": priority if type(priority) is int else 0,
    }
    return message


def unreadable(item: bytes, queue: str, *, tag: str | None = None) -> dict[str, Any]:
    """Return a message that wraps what cannot be read."""
    return {
        "body": base64.b64encode(item).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": tag or str(uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": False},
            "priority": 0,
        },
    }
