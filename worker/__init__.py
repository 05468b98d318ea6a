"""The processes: the only place that knows everyone. `celery -A worker` finds the app here."""


def __getattr__(name: str) -> object:
    # Celery asks for `worker.app` and `worker.celery`; nobody else pays for importing it.
    if name == "celery":
        from worker.app import app  # noqa: PLC0415  as said above

        return app
    raise AttributeError(name)
