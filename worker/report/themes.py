"""Colours of plots: told apart by the colour-blind, by how light they are too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["well", "well_too", "well_anyway", "good", "good_later", "no", "bad", "rest", "none"]
"""What a colour stands for, from blue (it went well) over orange (refused) to red (failed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours for a light page, or a dark one."""

    name: str
    ink: str
    faint: str
    grid: str
    colours: Mapping[Role, str]


LIGHT = Theme(
    name="light",
    ink="#1b1f24",
    faint="#57606a",
    grid="#dfe3e8",
    colours={
        "well": "#0072b2",
        "well_too": "#56a9d8",
        "well_anyway": "#b5d7ea",
        "good": "#00664b",
        "good_later": "#58b393",
        "no": "#d08700",
        "bad": "#8b1a4a",
        "rest": "#8a929b",
        "none": "#dfe3e8",
    },
)
DARK = Theme(
    name="dark",
    ink="#e6e9ed",
    faint="#a3acb6",
    grid="#343b44",
    colours={
        "well": "#56b4e9",
        "well_too": "#2f7fb0",
        "well_anyway": "#1f4e6b",
        "good": "#2fbf93",
        "good_later": "#1b7a5e",
        "no": "#e69f00",
        "bad": "#ff7eb0",
        "rest": "#7d8590",
        "none": "#343b44",
    },
)
