"""Flower: Celery's dashboard, with our app and our settings."""

import logging
import signal
from ipaddress import ip_address

import structlog
from celery import Celery
from flower.app import Flower
from flower.options import options
from flower.urls import settings as pages
from tornado.ioloop import IOLoop

from worker.settings import Settings, SettingsError

FORGET_SECONDS = 600
"""Workers that have been gone for this long are no longer listed."""

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
        return
    name, colon, password = credentials.get_secret_value().partition(":")
    if not (name and colon and password):
        raise SettingsError("TALLYMAN_FLOWER_BASIC_AUTH: it has the form name:password")


def serve(app: Celery, settings: Settings) -> None:
    """Serve Flower until SIGTERM or SIGINT.

    Raises:
        SettingsError: See `check`; or the port is taken.
    """
    check(settings)
    options.address = settings.flower_address
    options.port = settings.flower_port
    options.purge_offline_workers = FORGET_SECONDS
    if settings.flower_basic_auth is None:
        # Whoever has an account on this machine may look, and no more.
        options.read_only = True
    else:
        options.basic_auth = [settings.flower_basic_auth.get_secret_value()]
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    # It complains of each question that no worker answers, such as before the first is up.
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)
    flower = Flower(capp=app, options=options, **pages)
    try:
        port = flower.start_http_server()
    except OSError as error:
        raise SettingsError(
            f"TALLYMAN_FLOWER_PORT: cannot listen on {settings.flower_address} port"
            f" {settings.flower_port} ({error.strerror}): choose another port, or 0 for a free one"
        ) from error
    log.info("flower_started", url=f"http://{settings.flower_address}:{port}")
    loop = IOLoop.current()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: loop.add_callback_from_signal(flower.stop))
    flower.start()


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
