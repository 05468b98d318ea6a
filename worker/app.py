"""The Celery app: its configuration, its tasks and what a child builds after its fork."""

from collections.abc import Callable
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_ready
from kombu import Queue

from adapters import redis_transport
from domain.jobs.queues import QUEUES
from domain.kinds import KINDS
from tasks import compression
from tasks.giving_back import hand
from tasks.jobs import register
from worker import collector, drain, intake, logs, run_progress
from worker.addresses import Addresses, resolve
from worker.bootstrap import WorkerRuntime, build_parking, build_runtime, build_watch
from worker.encryption import for_celery
from worker.gathering import GatheringConsumer
from worker.settings import Settings, load
from worker.tracing import switch
from worker.tracing.untraced import Untraced


def build_app(
    settings: Settings,
    addresses: Addresses,
    *,
    start_traces: Callable[[], Untraced] = lambda: switch.start("worker"),
) -> Celery:
    """Build a Celery app with all of Tallyman's tasks."""
    redis_transport.install()
    compression.bound()
    broker_url, use_ssl = for_celery(addresses.broker_url)
    app = Celery(
        "tallyman",
        broker=broker_url,
        backend=f"ledger+{addresses.database_url}",
    )
    app.conf.update(configuration(settings), **transport(settings, broker_url))
    if use_ssl is not None:
        app.conf.broker_use_ssl = use_ssl

    def consumer(*arguments: Any, **options: Any) -> GatheringConsumer:
        parking = build_parking(app, settings, addresses)
        return GatheringConsumer(*arguments, parking=parking, kinds=KINDS, **options)

    app.conf.worker_consumer = consumer
    intake.install(app, watch=build_watch(addresses))
    drain.install(app, seconds=settings.drain_seconds)

    @cache
    def runtime() -> WorkerRuntime:
        return build_runtime(app, settings, addresses, traces=start_traces())

    def after_fork(**_: object) -> None:
        runtime.cache_clear()
        runtime()
        hand.listen()
        collector.calm()

    worker_process_init.connect(after_fork, weak=False)
    worker_ready.connect(lambda **_: collector.calm(), weak=False)
    register(app, KINDS.values(), runtime)
    run_progress.install(app)
    return app


def configuration(settings: Settings) -> dict[str, object]:
    """Return the Celery configuration that the guarantees rest on."""
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        # By its own name alone: Celery would bind each to the name of the first as well.
        "task_default_queue": QUEUES[0],
        "task_routes": {name: {"queue": kind.queue} for name, kind in KINDS.items()},
        # Taken one at a time and acknowledged after the commit: what a dead worker held is
        # delivered again, and the ledger answers for what was done before.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_soft_time_limit": settings.soft_time_limit_seconds,
        "task_time_limit": settings.time_limit_seconds,
        "worker_concurrency": settings.concurrency,
        "worker_max_memory_per_child": settings.max_memory_per_child_mb * 1024,
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        # For SIGQUIT, Celery's other way to stop; for SIGTERM see worker.drain.
        "worker_soft_shutdown_timeout": settings.drain_seconds,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "timezone": "UTC",
        "enable_utc": True,
        "worker_proc_alive_timeout": 30.0,
    }


def transport(settings: Settings, broker_url: str) -> dict[str, object]:
    """Return what the queues of this broker are, and how it is talked to."""
    if broker_url.startswith("amqp"):
        # Quorum queues outlive a node. Clients say the same, with
        # `task_create_missing_queue_type = "quorum"`.
        arguments = {"x-queue-type": "quorum"}
        return {
            "task_queues": [
                Queue(name, routing_key=name, queue_arguments=arguments) for name in QUEUES
            ],
            "task_default_queue_type": "quorum",
            "broker_heartbeat": 10,
            "broker_connection_timeout": 5,
            # Taken is what RabbitMQ says that it has taken.
            "broker_transport_options": {"confirm_publish": True, "confirm_timeout": 5.0},
        }
    return {
        "task_queues": [Queue(name, routing_key=name) for name in QUEUES],
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_seconds,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # Who is killed while it gives back keeps others from it no longer than this; two at
            # once do no harm.
            "unacked_mutex_expire": 10,
            "health_check_interval": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
    }


@cache
def configured() -> Celery:
    """Build the app of this process from its settings, at first use.

    Raises:
        SettingsError: A setting cannot be used.
        NotRunning: The database or the broker has no address.
    """
    settings = load()
    logs.connect(settings)
    return build_app(settings, resolve(settings))


def __getattr__(name: str) -> Celery:
    # `celery -A worker` asks for `app`; whoever imports `build_app` needs no servers for it.
    if name == "app":
        return configured()
    raise AttributeError(name)
