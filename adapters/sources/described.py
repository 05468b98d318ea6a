"""The sources that are described in a folder, and what has arrived there."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from adapters.sources import descriptions, folders, remote
from adapters.sources.stores import Stores
from domain.imports.sources import Arrival, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedSources:
    """Meets `domain.imports.sources.Sources`."""

    descriptions: Path
    """Folder of the descriptions."""
    folder: Path = field(default_factory=Path)
    """Working folder, in which folders of sources are."""
    stores: Stores = field(default_factory=Stores)

    def find(self, name: str) -> Source:
        return descriptions.read(self.descriptions, name)

    def arrivals(self, source: Source) -> Iterable[Arrival]:
        if remote.is_url(source.files):
            return remote.arrived(source, self.stores)
        return folders.arrived(source, self.folder)
