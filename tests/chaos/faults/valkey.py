"""Valkey, which may forget, stand still, be full, and be told things that are not so."""

import json
import os
import shutil
import signal
import time
from base64 import b64encode
from random import Random
from uuid import UUID

from tests.chaos.arena import Arena
from tests.chaos.faults.fault import Fault, Lane, NotApplied

QUEUE = "allocation"
KINDS = ("allocation.allocate_order", "allocation.create_batch")


def valkey_killed(arena: Arena, chance: Random) -> None:
    """Kill it; what it had written to its append-only file is there again."""
    arena.valkey.kill()
    time.sleep(chance.uniform(0.0, 1.5))
    arena.valkey.start()


def valkey_killed_and_emptied(arena: Arena, chance: Random) -> None:
    """Kill it, and lose its disk."""
    arena.valkey.kill()
    shutil.rmtree(arena.valkey.folder / "data")
    time.sleep(chance.uniform(0.0, 1.0))
    arena.valkey.start()


def valkey_flushed(arena: Arena, chance: Random) -> None:
    del chance
    with arena.valkey_client() as client:
        client.flushall()


def queue_deleted(arena: Arena, chance: Random) -> None:
    """Lose what waits, and now and then what is with workers, and nothing else."""
    with arena.valkey_client() as client:
        client.delete(QUEUE, "users")
        if chance.random() < 1 / 2:
            client.delete("unacked", "unacked_index")


def valkey_frozen(arena: Arena, chance: Random) -> None:
    """Have it stand still: connections are open and nobody answers."""
    pid = arena.valkey.pid
    if pid is None:
        raise NotApplied("Valkey was down at that moment")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(chance.uniform(1.0, 3.0))
    finally:
        os.kill(pid, signal.SIGCONT)


def valkey_full(arena: Arena, chance: Random) -> None:
    """Let it take nothing more; what it holds stays."""
    with arena.valkey_client() as client:
        client.config_set("maxmemory", "1mb")
        try:
            time.sleep(chance.uniform(0.5, 2.0))
        finally:
            client.config_set("maxmemory", "0")


def valkey_clients_cut(arena: Arena, chance: Random) -> None:
    del chance
    with arena.valkey_client() as client:
        client.client_kill_filter(_type="normal", skipme=True)


def messages_copied(arena: Arena, chance: Random) -> None:
    """Put copies of what waits and of what is with workers into the queue."""
    with arena.valkey_client() as client:
        found = client.lrange(QUEUE, 0, 20)
        held = [json.loads(entry)[0] for entry in list(client.hgetall("unacked").values())[:20]]
        copies = [*found, *(json.dumps(message) for message in held)]
        if not copies:
            raise NotApplied("no message waited or was taken at that moment")
        client.rpush(QUEUE, *chance.choices(copies, k=2 * len(copies)))


def ids_forged(arena: Arena, chance: Random) -> None:
    """Tell workers of jobs that nobody submitted, and again of jobs that are done."""
    with arena.administer() as connection:
        done = [
            str(job_id)
            for (job_id,) in connection.execute(
                "SELECT id FROM job TABLESAMPLE SYSTEM (5) WHERE finished_at IS NOT NULL LIMIT 50"
            )
        ]
    forged = [str(UUID(int=chance.getrandbits(128))) for _ in range(20)]
    with arena.valkey_client() as client:
        for kind in KINDS:
            ids = chance.sample([*forged, *done], k=len(forged))
            client.rpush(QUEUE, _message(kind, ids, chance))


def _message(kind: str, job_ids: list[str], chance: Random) -> str:
    """Write a message as the relay's are, by whoever can write to the queue."""
    task_id = str(UUID(int=chance.getrandbits(128)))
    return json.dumps(
        {
            "body": b64encode(json.dumps([[job_ids], {}, {}]).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": kind, "id": task_id},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(UUID(int=chance.getrandbits(128))),
            },
        }
    )


FAULTS = (
    Fault(act=valkey_killed, lane=Lane.SERVERS, weight=2),
    Fault(act=valkey_killed_and_emptied, lane=Lane.SERVERS),
    Fault(act=valkey_flushed, lane=Lane.SERVERS),
    Fault(act=queue_deleted, lane=Lane.SERVERS),
    Fault(act=valkey_frozen, lane=Lane.SERVERS),
    Fault(act=valkey_full, lane=Lane.SERVERS),
    Fault(act=valkey_clients_cut, lane=Lane.SERVERS),
    Fault(act=messages_copied, lane=Lane.SERVERS),
    Fault(act=ids_forged, lane=Lane.SERVERS),
)
