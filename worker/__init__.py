"""The processes: the only place that knows everyone. `celery -A worker` finds the app here."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.app import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    # Celery asks for `worker.app`; nobody else pays for importing it.
    if name == "app":
        from importlib import import_module

        return import_module("worker.app").app
    raise AttributeError(name)
