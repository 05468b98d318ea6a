"""Flower: Celery's dashboard, with our app and our settings."""

import logging
import signal
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import structlog
from celery import Celery
from flower.options import options
from flower.urls import settings as pages
from flower.utils import prepend_url
from tornado.ioloop import IOLoop

from worker.dashboard import Cancel, Dashboard, told_once
from worker.settings import Settings, SettingsError

FORGET_SECONDS = 600
"""Workers that have been gone for this long are no longer listed."""
SAVE_SECONDS = 60
"""How often what it has seen is saved; for 10,000 messages it stops for 0.2 seconds then."""
COLUMNS = "received,state,name,args,uuid,result"
"""Columns of its list of tasks: as many as a screen shows."""
QUOTES_PAYLOADS = "flower.api.tasks"
"""Logger that at DEBUG quotes what was sent, which may be of people."""

log = structlog.get_logger()


def check(settings: Settings) -> None:
    """Make sure that nobody beyond this machine sees Flower without a password.

    Raises:
        SettingsError: It would listen there with no password, or the password has no form.
    """
    credentials = settings.flower_basic_auth
    if credentials is None:
        if not _is_loopback(settings.flower_address):
            raise SettingsError(
                f"TALLYMAN_FLOWER_ADDRESS: {settings.flower_address} is open to other machines, and"
                " Flower controls workers: set TALLYMAN_FLOWER_BASIC_AUTH=name:password as well,"
                " or listen on 127.0.0.1"
            )
        if settings.flower_behind_proxy:
            raise SettingsError(
                "TALLYMAN_FLOWER_BEHIND_PROXY: whoever reaches the proxy reaches Flower: set"
                " TALLYMAN_FLOWER_BASIC_AUTH=name:password as well"
            )
        return
    text = credentials.get_secret_value()
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise SettingsError("TALLYMAN_FLOWER_BASIC_AUTH: it has the form name:password")
    if not (text.isascii() and text.isprintable()):
        raise SettingsError(
            "TALLYMAN_FLOWER_BASIC_AUTH: it has characters that browsers and curl send in different"
            " ways: keep to printable ASCII"
        )


def url(settings: Settings, *, port: int) -> str:
    """Return where Flower is, as a browser on this machine would ask for it."""
    host = f"[{settings.flower_address}]" if ":" in settings.flower_address else None
    prefix = settings.flower_url_prefix
    return f"http://{host or settings.flower_address}:{port}{prefix and f'/{prefix}'}"


def serve(app: Celery, settings: Settings, *, cancel: Cancel) -> None:
    """Serve Flower until SIGTERM or SIGINT; its button to revoke a job calls `cancel`.

    Raises:
        SettingsError: See `check`; or the port is taken.
    """
    check(settings)
    _configure(settings)
    _quieten()
    flower = Dashboard(cancel=cancel, capp=app, options=options, **_pages())
    try:
        port = flower.start_http_server()
    except OSError as error:
        raise SettingsError(
            f"TALLYMAN_FLOWER_PORT: cannot listen on {settings.flower_address} port"
            f" {settings.flower_port} ({error.strerror}): choose another port, or 0 for a free one"
        ) from error
    log.info("flower_started", url=url(settings, port=port))
    loop = IOLoop.current()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: loop.add_callback_from_signal(flower.stop))
    flower.start()


def _configure(settings: Settings) -> None:
    options.address = settings.flower_address
    options.port = settings.flower_port
    options.url_prefix = settings.flower_url_prefix
    options.xheaders = settings.flower_behind_proxy
    options.purge_offline_workers = FORGET_SECONDS
    options.max_tasks = settings.flower_most_messages
    options.tasks_columns = COLUMNS
    options.format_task = told_once
    options.read_only = settings.flower_read_only
    if settings.flower_basic_auth is None:
        # Whoever has an account on this machine may look, and no more.
        options.read_only = True
    else:
        options.basic_auth = [settings.flower_basic_auth.get_secret_value()]
    memory = _memory(settings.data_folder)
    if memory is not None:
        options.persistent = True
        options.db = str(memory)
        options.state_save_interval = SAVE_SECONDS * 1_000


def _pages() -> dict[str, Any]:
    prefix = options.url_prefix
    places = ("login_url", "static_url_prefix")
    return {**pages, **{name: prepend_url(pages[name], prefix) for name in places if prefix}}


def _memory(data_folder: Path) -> Path | None:
    """Return the file in which it keeps what it has seen; None where it can keep none."""
    folder = data_folder / "flower"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder / "seen"
    except OSError as error:
        log.warning("flower_forgets", folder=str(folder), error=error.strerror)
        return None


def _quieten() -> None:
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    # It complains of each question that no worker answers, such as before the first is up.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    logging.getLogger(QUOTES_PAYLOADS).setLevel(max(logging.INFO, logging.getLogger().level))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
