"""The real `tallyman relay`, which dies once it has published events, before it notes that."""

import os
import signal
from functools import partial

from worker import processes
from worker.command.main import main
from worker.event_relay import EventRelay


def die(boundary: str) -> None:
    """End as by `kill -9` where events are published and not marked."""
    if boundary == "events.published":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # The name under which the process makes its relay of events.
    vars(processes)["EventRelay"] = partial(EventRelay, reached=die)
    main()
