"""Parking: a Celery consumer that loses nothing, refuses to stumble, and lets neighbours pass."""

import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from queue import SimpleQueue
from typing import Any, ClassVar, NoReturn

import structlog
from celery.worker.consumer import Consumer
from kombu import Message
from kombu.utils.json import dumps

from adapters.postgres.parked import PostgresParked
from adapters.redis_transport import UNREADABLE
from domain.errors import DomainError
from domain.jobs.errors import MessageParked
from domain.jobs.parking import MOST_KEPT_BYTES, Form, Misfit, Parked, Reason
from tasks.protocol import Unfit, admit

log = structlog.get_logger()

PAUSE_SECONDS = 1.0
"""How long to wait before a message is parked that could not be, as while PostgreSQL is away."""
REMIND_SECONDS = 60.0
"""How often it is said that messages wait, or that there is no room."""
DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""Declares queues in which RabbitMQ would keep what has a time; the ledger keeps it."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,255}")
_PROPERTIES = (
    *("correlation_id", "reply_to", "priority", "delivery_mode", "expiration", "message_id"),
    *("timestamp", "type", "user_id", "app_id"),
)


@dataclass(kw_only=True)
class Parking:
    """Parks messages in a thread of its own: whatever ails PostgreSQL, the worker's loop goes on.

    A message is acknowledged once it is parked, and not before: until then the broker has it.
    """

    store: PostgresParked
    answer: Callable[[str, DomainError], None]
    """Tells the producer of a job by this id, whom nobody else will tell."""
    _waiting: "SimpleQueue[tuple[Misfit, str | None, Callable[[], None]]]" = field(
        default_factory=SimpleQueue
    )
    _thread: threading.Thread | None = None
    _reminded: dict[str, float] = field(default_factory=dict)

    def park(self, misfit: Misfit, *, asked_as: str | None, done: Callable[[], None]) -> None:
        """Park a message some time; call `done`, in the thread, when it is."""
        self._waiting.put((misfit, asked_as, done))
        if self._thread is None:
            # Only now: processes are forked from this one, which is best done without threads.
            self._thread = threading.Thread(target=self._run, name="parking", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            misfit, asked_as, done = self._waiting.get()
            while (parked := self._try(misfit, asked_as)) is None:
                time.sleep(PAUSE_SECONDS)
            self._tell(misfit, parked)
            done()

    def _try(self, misfit: Misfit, asked_as: str | None) -> Parked | None:
        try:
            parked = self.store.park(misfit)
            if asked_as and parked is Parked.NEW and not self.store.is_of_a_job(asked_as):
                self.answer(asked_as, MessageParked.of(misfit.reason, misfit.detail))
        except Exception as error:  # noqa: BLE001  no message may be lost, whatever is wrong
            # An error of the database may quote the row, and so the message: only its name.
            if self._is_time_for("waiting"):
                log.warning("parking_waits", reason=misfit.reason, error=type(error).__name__)
            return None
        return parked

    def _tell(self, misfit: Misfit, parked: Parked) -> None:
        told = {"queue": misfit.queue, "task": misfit.task, "message_id": misfit.message_id}
        match parked:
            case Parked.NEW:
                log.warning("message_parked", reason=misfit.reason, detail=misfit.detail, **told)
            case Parked.LEFT:
                # The jobs are in the ledger, and are dispatched again until a worker knows them.
                log.warning("unknown_kind_left", jobs=len(misfit.job_ids), **told)
            case Parked.COUNTED:
                if self._is_time_for("room"):
                    log.error("parking_full", reason=misfit.reason, **told)
            case Parked.AGAIN:
                pass

    def _is_time_for(self, reminder: str) -> bool:
        now = time.monotonic()
        if now < self._reminded.get(reminder, 0.0):
            return False
        self._reminded[reminder] = now + REMIND_SECONDS
        return True


class ParkingConsumer(Consumer):
    """Celery's consumer, which sees no message but those of jobs."""

    class Blueprint(Consumer.Blueprint):
        """Celery's steps, but for that which this consumer has no use for."""

        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        ]

    def __init__(
        self, *arguments: Any, parking: Parking, kinds: Container[str], **options: Any
    ) -> None:
        self._parking = parking
        self._kinds = kinds
        super().__init__(*arguments, **options)

    def create_task_handler(self, **options: Any) -> Callable[[Message], None]:
        take = super().create_task_handler(**options)

        def handle(message: Message) -> None:
            came = message.headers, message.properties
            try:
                self._admit(message)
                take(message)
            except Exception as error:
                # kombu counts a KeyError among those of the connection.
                if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                    raise
                message.headers, message.properties = came
                match error:
                    case Unfit():
                        self._park(message, error)
                    case _:
                        self._park(message, Unfit(Reason.UNHANDLED, type(error).__name__))

        return handle

    def _admit(self, message: Message) -> None:
        if message.content_type == UNREADABLE:
            raise Unfit(Reason.UNREADABLE, "what lay in the queue is no message")
        admit(message, self._kinds)

    def on_unknown_message(self, *_: object) -> NoReturn:
        """Park what Celery finds a fault in that `admit` has not: it would throw it away."""
        raise Unfit(Reason.UNHANDLED, "Celery does not take it")

    on_unknown_task = on_unknown_message
    on_invalid_task = on_unknown_message

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Park what could not even be unpacked, as kombu finds before it hands a message on."""
        self._park(
            message,
            Unfit(Reason.UNDECODABLE, f"its body cannot be unpacked: {type(exc).__name__}"),
        )

    def _park(self, message: Message, unfit: Unfit) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        asked_as = headers.get("id")
        self._parking.park(
            _misfit(message, unfit, queue=self._queue(message)),
            asked_as=asked_as if isinstance(asked_as, str) else None,
            done=lambda: self.call_soon(self._acknowledge, message),
        )

    def _queue(self, message: Message) -> str:
        info = message.delivery_info
        named = info.get("routing_key") if isinstance(info, dict) else None
        known = self.app.amqp.queues
        return str(named if named in known else self.app.conf.task_default_queue)

    def _acknowledge(self, message: Message) -> None:
        try:
            message.ack()
        except Exception as error:  # noqa: BLE001  it comes again, and is counted as a copy
            log.warning("parked_not_acknowledged", error=type(error).__name__)


def _misfit(message: Message, unfit: Unfit, *, queue: str) -> Misfit:
    headers = message.headers if isinstance(message.headers, dict) else {}
    form, content = _content(message, headers)
    return Misfit(
        queue=queue,
        reason=unfit.reason,
        detail=unfit.detail,
        form=form,
        content=content[:MOST_KEPT_BYTES],
        size=len(content),
        digest=sha256(f"{queue} {unfit.reason} ".encode() + content).digest(),
        task=_plain(headers.get("task")),
        message_id=_plain(headers.get("id")),
        content_type=_plain(message.content_type, "/+"),
        job_ids=unfit.job_ids,
    )


def _content(message: Message, headers: Mapping[str, Any]) -> tuple[Form, bytes]:
    body = message.body if isinstance(message.body, bytes) else str(message.body or "").encode()
    if message.content_type == UNREADABLE:
        return Form.BYTES, body
    left_out = {"redelivered"} if message.errors else {"redelivered", "compression"}
    properties = message.properties if isinstance(message.properties, dict) else {}
    try:
        return Form.MESSAGE, dumps(
            {
                "body": b64encode(body).decode(),
                "content-type": message.content_type,
                "content-encoding": message.content_encoding,
                "headers": {name: value for name, value in headers.items() if name not in left_out},
                "properties": {
                    name: properties[name] for name in _PROPERTIES if name in properties
                },
            }
        ).encode()
    except (TypeError, ValueError, RecursionError):
        return Form.BYTES, body


def _plain(text: object, more: str = "") -> str | None:
    """Return a name that may be shown: what may be of a person has other characters."""
    if not isinstance(text, str) or not _PLAIN.fullmatch(
        text.translate(dict.fromkeys(map(ord, more)))
    ):
        return None
    return text
