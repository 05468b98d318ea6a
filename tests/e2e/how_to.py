"""Snippets of the how-to guides, and what the guides say that they print."""

import re
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"


def snippets(guide: str, language: str) -> list[tuple[str, str]]:
    """Return (code, output) of each snippet in this language, in order."""
    pattern = rf"^```{language}\n(.*?)^```\n.*?^```text\n(.*?)^```$"
    text = (GUIDES / guide).read_text()
    found = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == text.count(f"```{language}\n"), f"{guide}: a snippet has no output"
    return found
