"""What a server's folder remembers between runs, and the lock that guards it."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from adapters.embedded.errors import UnreadableState


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A server as its last start left it.

    ``ready`` turns true once ``pid`` has answered, ``passwords`` are by user, and
    ``data_home`` is set only where the data could not lie in the server's own folder.
    """

    port: int | None = None
    pid: int | None = None
    ready: bool = False
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    data_home: str | None = None

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote, or start with nothing.

        Raises:
            UnreadableState: something else wrote there.
        """
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as reason:
            raise UnreadableState(
                f"{file} does not hold a server's state ({reason}): restore it, or delete it "
                "together with the server's data to start empty"
            ) from reason

    def save(self, file: Path) -> None:
        write_secret(file, json.dumps(asdict(self), indent=2))


def write_secret(file: Path, text: str) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.partial-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    Path(partial).replace(file)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a folder for one process at a time; a killed one lets go by dying."""
    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
