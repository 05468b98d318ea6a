"""What a forked child does before it ends: nothing of it returns into its parent's code."""

import os
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn


def as_child(action: Callable[[], None], *, seconds: int = 0) -> NoReturn:
    """Do something and end, with 1 where it fails; by SIGALRM after so many seconds, if not 0."""
    signal.alarm(seconds)
    try:
        action()
    except BaseException:  # noqa: BLE001  nothing may return into the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
