"""Programs that come from packages of the system's."""

import os
import shutil

import pytest


def program(name: str, *, package: str) -> str:
    """Find a program; where every test must run, it has to be there."""
    found = shutil.which(name)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    assert found is not None, f"{name} is not installed, and .ci/run should have done so"
    return found
