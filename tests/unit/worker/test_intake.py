"""What a worker asks of its event loop, which may forget it."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.conftest import wait_until
from worker.intake import Intake


class Answering:
    """Stands for a PostgreSQL that is there."""

    def objection(self) -> str | None:
        return None

    def close(self) -> None:
        pass


class ForgetfulIntake(Intake):
    watch = Answering()


@pytest.fixture
def asked() -> list[Callable[..., None]]:
    """Give what a loop was asked to do, of which it does nothing."""
    return []


@pytest.fixture
def intake(asked: list[Callable[..., None]]) -> Iterator[Intake]:
    consumer = SimpleNamespace(call_soon=lambda action, *_: asked.append(action))
    intake = ForgetfulIntake(consumer)
    intake.start(consumer)
    yield intake
    intake.shutdown(consumer)


def test_a_loop_is_asked_for_a_sign_of_life_again_that_forgot_the_first(
    intake: Intake, asked: list[Callable[..., None]]
) -> None:
    wait_until(lambda: intake._tick in asked)
    asked.clear()

    # Connected again, by a loop of its own.
    intake.start(intake._consumer)

    wait_until(lambda: intake._tick in asked)
