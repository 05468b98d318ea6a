"""Manifests of Kubernetes, as they are in deploy/kubernetes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))

Manifest = Mapping[str, Any]


def read(file: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def everything() -> Iterator[tuple[Path, Manifest]]:
    for file in FILES:
        for manifest in read(file):
            yield file, manifest


def of_kind(*kinds: str) -> list[Manifest]:
    return [manifest for _, manifest in everything() if manifest["kind"] in kinds]


def pod(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["spec"]["template"]["spec"]
    return found


def container(manifest: Manifest) -> Manifest:
    [found] = pod(manifest)["containers"]
    assert isinstance(found, dict)
    return found
