"""Tallyman's processes on servers that run: started, told apart by their logs, and killed."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.processes import ProcessContainer, eventually

COMMAND = "worker.command.main"
START_SECONDS = 90.0
"""To start takes ten seconds where everything else starts as well."""
READY = {"worker": " ready.", "relay": "relay_started", "beat": "slot_"}
"""Words in the log of a process by which it is known to be at work."""


@dataclass(kw_only=True)
class Programs:
    """The processes of one Tallyman; all of them are killed when the context ends."""

    folder: Path
    database_url: str
    broker_url: str
    settings: Mapping[str, object] = field(default_factory=dict)
    _started: list[ProcessContainer] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for program in reversed(self._started):
            program.kill()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the processes: what is set here, and nothing of ours."""
        ours = {
            "database_url": self.database_url,
            "broker_url": self.broker_url,
            "data_folder": self.folder / "data",
            **self.settings,
        }
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TALLYMAN_", "CELERY_"))
        }
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            # A killed worker leaves its temporary files.
            "TMPDIR": str(self.folder),
            **{f"TALLYMAN_{name.upper()}": str(value) for name, value in ours.items()},
        }

    def start(self, name: str, *arguments: str, module: str = COMMAND) -> ProcessContainer:
        """Start `python -m module name arguments…` and return once it is at work."""
        program = self.launch(name, *arguments, module=module)

        def is_at_work() -> bool:
            assert program.status == "running", f"{name} has ended:\n{program.logs()}"
            return READY[name] in program.logs()

        eventually(is_at_work, what=f"{name} is at work", within=START_SECONDS)
        return program

    def launch(self, name: str, *arguments: str, module: str = COMMAND) -> ProcessContainer:
        """Start it and return at once."""
        program = ProcessContainer(
            name,
            lambda _: [sys.executable, "-m", module, name, *arguments],
            folder=self.folder,
            environment=self.environment,
            answers=lambda _: READY[name] in program.logs(),
        )
        self._started.append(program)
        program.start()
        return program
