"""Clients of a Tallyman: `python -m tests.chaos.load --help`.

They are a process of their own. Each notes in a history of its own what it is about to hand over
and what it was told, and goes on, whatever is broken, until SIGTERM.
"""

import argparse
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from celery import Celery

from domain.errors import DomainError
from tests.chaos.history import Door, Handover, History
from tests.chaos.market import Market
from worker.producer import Producer

SUBMITTERS = 3
SENDERS = 1
BULK = (20, 200)
"""Jobs of a bulk submission, from least to most."""
REMEMBERED = 2_000
"""Jobs that are handed over again or asked for: the newest ones."""


@dataclass(kw_only=True)
class Clients:
    """What all clients of a load share."""

    seed: int
    database_url: str
    broker_url: str
    history: Path
    pause: float
    """Seconds between two actions of one client, on average."""
    stopping: threading.Event = field(default_factory=threading.Event)
    taken: deque[Handover] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def run(self) -> None:
        """Run all clients until `stopping` is set."""
        clients: list[tuple[str, Callable[[History, str], None]]] = [
            *((f"submitter-{number}", self.submit) for number in range(SUBMITTERS)),
            *((f"sender-{number}", self.send) for number in range(SENDERS)),
            ("reader", self.read),
        ]
        threads = [
            threading.Thread(target=self._run, args=(name, client)) for name, client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def submit(self, told: History, name: str) -> None:
        """Hand jobs over by `submit` and `submit_many`."""
        chance = Random(f"{self.seed} {name}")
        market = Market(seed=self.seed, name=name)
        with Producer.at(self.database_url) as producer:
            desk = Desk(producer=producer, told=told, taken=self.taken)
            desk.submit_until_accepted(market.opening(), self.stopping)
            while not self._rests(chance):
                draw = chance.random()
                if draw < 0.04:
                    desk.submit([market.order() for _ in range(chance.randint(*BULK))])
                elif draw < 0.10:
                    again = self._known(chance)
                    desk.submit([again] if again else [market.order()])
                elif draw < 0.11 and (known := self._known(chance)):
                    desk.submit([market.another_under_the_same_id(known)])
                elif draw < 0.13 and (known := self._known(chance)):
                    desk.submit([market.again_under_another_id(known)])
                else:
                    desk.submit([market.anything()])
                if desk.doubtful:
                    self._try_again(desk, chance)

    def _try_again(self, desk: "Desk", chance: Random) -> None:
        """Hand over again half of what may not have been taken, and leave it at that."""
        doubtful = [each for each in desk.doubtful if chance.random() < 1 / 2]
        desk.doubtful.clear()
        if doubtful and not desk.submit(doubtful):
            self.stopping.wait(self.pause)

    def send(self, told: History, name: str) -> None:
        """Send jobs as messages, as any Celery client does."""
        chance = Random(f"{self.seed} {name}")
        market = Market(seed=self.seed, name=name)
        with Celery(broker=self.broker_url, set_as_current=False) as client:
            client.conf.broker_transport_options = {
                "socket_timeout": 5,
                "socket_connect_timeout": 5,
            }
            for handover in market.opening():
                self._send(client, handover, told)
            while not self._rests(chance):
                known = self._known(chance) if chance.random() < 0.1 else None
                self._send(client, known or market.anything(), told)

    def read(self, told: History, name: str) -> None:
        """Ask how jobs stand, again and again."""
        chance = Random(f"{self.seed} {name}")
        with Producer.at(self.database_url) as producer:
            while not self._rests(chance):
                known = self._known(chance)
                if known is None:
                    continue
                try:
                    job = producer.find(known.job_id)
                except Exception:  # noqa: BLE001, S112  while PostgreSQL is away nobody is told
                    continue
                if job is not None:
                    told.answered(
                        job.id,
                        state=job.state,
                        result=job.result,
                        error=job.error.type if job.error else None,
                    )

    def _run(self, name: str, client: Callable[[History, str], None]) -> None:
        with History(self.history / f"{name}.jsonl") as told:
            client(told, name)

    def _rests(self, chance: Random) -> bool:
        return self.stopping.wait(chance.uniform(0.0, 2 * self.pause))

    def _known(self, chance: Random) -> Handover | None:
        # Others append meanwhile, which a choice by index survives.
        return self.taken[chance.randrange(len(self.taken))] if self.taken else None

    def _send(self, client: Celery, handover: Handover, told: History) -> None:
        sent = replace(handover, door=Door.MESSAGE)
        queue = "users" if sent.kind.startswith("users.") else "allocation"
        told.intended(sent)
        try:
            client.send_task(
                sent.kind,
                kwargs=dict(sent.payload),
                task_id=sent.job_id,
                queue=queue,
                ignore_result=True,
                retry=False,
            )
        except Exception as error:  # noqa: BLE001  whatever it is, the message may be there
            told.ambiguous(sent, error=error)
        else:
            told.accepted(sent)
            self.taken.append(handover)


@dataclass(kw_only=True)
class Desk:
    """Where jobs are submitted, and what came of it is noted."""

    producer: Producer
    told: History
    taken: deque[Handover]
    doubtful: list[Handover] = field(default_factory=list)
    """Handed over with an error that may have come after the commit."""

    def submit(self, handovers: Sequence[Handover]) -> bool:
        """Submit them in one transaction; tell whether they were accepted."""
        self.told.intended(*handovers)
        try:
            if len(handovers) == 1:
                [one] = handovers
                self.producer.submit(one.kind, one.payload, job_id=one.job_id)
            else:
                self.producer.submit_many(
                    self.producer.submission(each.kind, each.payload, job_id=each.job_id)
                    for each in handovers
                )
        except DomainError as error:
            self.told.refused(*handovers, error=error)
            return False
        except Exception as error:  # noqa: BLE001  whatever it is, they may be committed
            self.told.ambiguous(*handovers, error=error)
            self.doubtful += handovers
            return False
        self.told.accepted(*handovers)
        self.taken.extend(handovers)
        return True

    def submit_until_accepted(
        self, handovers: Sequence[Handover], stopping: threading.Event
    ) -> None:
        while not self.submit(handovers) and not stopping.wait(0.5):
            self.doubtful.clear()


def main() -> None:
    """Run clients until SIGTERM."""
    parser = argparse.ArgumentParser(prog="tests.chaos.load", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True, help="a folder")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--broker-url", required=True)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between actions")
    options = parser.parse_args()
    clients = Clients(
        seed=options.seed,
        database_url=options.database_url,
        broker_url=options.broker_url,
        history=options.history,
        pause=options.pause,
    )
    signal.signal(signal.SIGTERM, lambda *_: clients.stopping.set())
    clients.run()


if __name__ == "__main__":
    main()
