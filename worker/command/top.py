"""`tallyman top`: what goes on now, in a terminal."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Annotated

import typer
from celery import Celery
from rich.console import Console
from rich.live import Live

from adapters.postgres.board import PostgresBoard, Sight
from domain.jobs.queues import QUEUES
from worker.addresses import database_url, resolve
from worker.board.crew import Crew, ask, build_asker
from worker.board.drawing import Board
from worker.board.frame import Frame
from worker.board.history import BACK, History
from worker.board.observing import Observer
from worker.command.explanations import explain
from worker.command.output import JsonOption, show_json
from worker.command.terminal import keys_ending
from worker.settings import Settings, load
from worker.stop_signals import until_told

LEAST_INTERVAL, MOST_INTERVAL = 0.2, 60.0
WORKERS_EVERY = 2.0
"""Seconds between questions to the workers: each takes their time."""
STALE_SECONDS = 1.0
"""How long a frame may stand when nothing new was seen: the clock goes on."""
NOTICE_SECONDS = 0.05
"""How soon it is drawn what was seen, or ends."""
COLUMNS = 120
"""Width where there is no terminal and COLUMNS says nothing."""


def top(
    *,
    interval: Annotated[
        float,
        typer.Option(min=LEAST_INTERVAL, max=MOST_INTERVAL, help="Seconds between two looks."),
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what goes on now: queues, throughput, failures, imports, workers.

    It asks over one connection, by index and without locks. `q` or Ctrl-C ends it. Where there is
    no terminal, one frame is printed.
    """
    settings = load()
    terminal = Console(highlight=False)
    with closing(_View(settings, interval=interval)) as view:
        if as_json:
            show_json(view.look().describe())
        elif once or not terminal.is_terminal or terminal.is_dumb_terminal:
            _print(view.look())
        else:
            _run(terminal, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    sight: Sight
    history: History


class _View:
    """The two observers, and what they have seen."""

    def __init__(self, settings: Settings, *, interval: float) -> None:
        self._settings = settings
        self._board: PostgresBoard | None = None
        self._asker: Celery | None = None
        self.changed = threading.Event()
        self._database = Observer(
            ask=self._look, explain=_told, every=interval, changed=self.changed
        )
        self._broker = Observer(
            ask=self._ask_workers,
            # Whatever its transport raises, nobody answered.
            explain=lambda error: _told(error) or f"{type(error).__name__}: {error}",
            every=WORKERS_EVERY,
            changed=self.changed,
        )

    def look(self) -> Frame:
        """Look once at everything.

        Raises:
            Exception: The database does not answer.
        """
        asking = threading.Thread(target=self._broker.look, daemon=True)
        asking.start()
        self._database.latest = self._look()
        asking.join()
        return self.latest()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Look again and again while the context lasts.

        Raises:
            Exception: The database does not answer when it begins.
        """
        self._database.latest = self._look()
        with self._database.observing(), self._broker.observing():
            yield

    def latest(self) -> Frame:
        """Return what was seen last."""
        if self._database.bug:
            raise self._database.bug
        seen = self._database.latest
        assert seen is not None  # noqa: S101  nobody asks before a look has succeeded
        return Frame(
            sight=seen.sight,
            history=seen.history,
            crew=self._broker.latest,
            database_away=self._database.away,
            broker_away=self._broker.away,
        )

    def _look(self) -> _Seen:
        before = self._database.latest.history if self._database.latest else History()
        if self._board is None:
            # An embedded server that was started again may have moved.
            self._board = PostgresBoard(database_url(self._settings))
        try:
            sight = self._board.look(QUEUES, since=before.ask_from, back=BACK)
        except Exception:
            self._close_board()
            raise
        return _Seen(sight=sight, history=before.after(sight))

    def _ask_workers(self) -> Crew:
        if self._asker is None:
            self._asker = build_asker(self._settings, resolve(self._settings).broker_url)
        try:
            return ask(self._asker)
        except Exception:
            self._close_asker()
            raise

    def close(self) -> None:
        """Let go of both; who is being asked now is not waited for."""
        self._close_board()
        self._close_asker()

    def _close_board(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None

    def _close_asker(self) -> None:
        if self._asker is not None:
            self._asker.close()
            self._asker = None


def _told(error: Exception) -> str | None:
    told = explain(error)
    return told[0] if told else None


def _print(frame: Frame) -> None:
    # A name may hold what this output cannot: better a question mark than no frame.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    Console(highlight=False, width=_width()).print(Board(frame=frame))


def _width() -> int | None:
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else COLUMNS


def _run(terminal: Console, view: _View) -> None:
    with (
        until_told() as stopping,
        view.observing(),
        keys_ending(stopping, view.changed),
        Live(console=terminal, screen=True, auto_refresh=False) as live,
    ):
        while not stopping.is_set():
            live.update(Board(frame=view.latest(), hint="q ends"), refresh=True)
            _wait(stopping, view.changed)


def _wait(stopping: threading.Event, changed: threading.Event) -> None:
    until = time.monotonic() + STALE_SECONDS
    while not (changed.is_set() or stopping.is_set()) and time.monotonic() < until:
        stopping.wait(NOTICE_SECONDS)
    changed.clear()
