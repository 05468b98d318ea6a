"""Python's garbage collector, in processes that make many objects and few cycles."""

import gc

BETWEEN_LOOKS = 50_000
"""Objects made, net of those gone, between looks for cycles: more than a message's jobs make.

With Python's own 700, looking was a tenth of what a worker did for a job, and found nothing.
"""


def calm() -> None:
    """Have it look seldom, and never again at what is there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(BETWEEN_LOOKS, 20, 20)
