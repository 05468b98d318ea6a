"""Prometheus's programs, from a package of the system's."""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.embedded.processes import free_port
from tests.conftest import wait_until
from tests.installed import program

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yml"


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which has to find nothing wrong."""
    done = subprocess.run(
        [program("promtool", package="prometheus"), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[str]:
    """Name the alerts, in the order of the file."""
    return re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A Prometheus that runs."""

    port: int

    def ask(self, path: str, **question: str) -> Any:  # noqa: ANN401  whatever it is asked for
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(question)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by name."""
        return {
            alert["labels"]["alertname"]: alert
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def is_up(self) -> bool:
        try:
            return bool(self.ask("status/buildinfo"))
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, *, targets: Sequence[int]) -> Iterator[Prometheus]:
    """Run one that scrapes these ports every two seconds, with the alerts that wait for nothing.

    A scrape has all of that time: who is asked may wait for a server for nearly a second.
    """
    rules = re.sub(r"for: \w+", "for: 0s", RULES.read_text(encoding="utf-8"))
    (folder / "alerts.yml").write_text(rules, encoding="utf-8")
    (folder / "targets.json").write_text(
        json.dumps([{"targets": [f"127.0.0.1:{port}" for port in targets]}]), encoding="utf-8"
    )
    config = CONFIG.read_text(encoding="utf-8")
    config = config.replace("../../.tallyman/prometheus.json", "targets.json")
    config = re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 2s", config)
    config = config.replace("scrape_timeout: 5s", "scrape_timeout: 2s")
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    promtool("check", "config", folder / "prometheus.yml")
    port = free_port(preferred=None)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus", package="prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(port=port)
    try:
        wait_until(running.is_up, seconds=60)
        yield running
    finally:
        process.terminate()
        process.wait()
