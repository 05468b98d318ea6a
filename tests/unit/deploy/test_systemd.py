"""The units of systemd, as systemd itself reads them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.command_lines import CommandLine, objection
from tests.conftest import ROOT
from tests.installed import program
from worker.settings import Settings
from worker.stack import Plan

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"), key=lambda file: file.name)
COMMON = UNITS / "tallyman-.service.d" / "account.conf"
MOST_EXPOSURE = 15
"""In tenths, of a hundred at the most: what remains is that it talks to servers."""

services = pytest.mark.parametrize("service", SERVICES, ids=lambda file: file.name)


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Give a folder with the units, of which systemd-analyze wants the programs to be there."""
    for file in [*SERVICES, COMMON, UNITS / "tallyman.target"]:
        copy = tmp_path / file.relative_to(UNITS)
        copy.parent.mkdir(exist_ok=True)
        text = file.read_text(encoding="utf-8")
        copy.write_text(text.replace("/opt/tallyman/bin/tallyman", sys.executable), "utf-8")
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("systemd-analyze", package="systemd"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        # The folder comes first, and the units of the system after it.
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_LOG_LEVEL": "warning"},
    )


def instance(service: Path) -> str:
    return service.name.replace("@.", "@1.")


def assigned(file: Path) -> Iterator[tuple[str, str, str]]:
    """Give (section, setting, value) of each line of a unit."""
    section = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield section, name, value


def value(file: Path, name: str) -> str:
    [found] = [value for _, known, value in assigned(file) if known == name]
    return found


class TestUnits:
    def test_are_as_systemd_takes_them(self, rendered: Path) -> None:
        units = ["tallyman.target", *map(instance, SERVICES)]
        judged = analyze("verify", "--man=no", "--recursive-errors=yes", *units, folder=rendered)
        # A setting that it does not know is told, and left out.
        assert (judged.returncode, judged.stderr) == (0, "")

    @services
    def test_leave_a_process_little_to_do_harm_with(self, service: Path, rendered: Path) -> None:
        # `security` looks for no template of an instance in a file.
        unit = rendered / instance(service)
        (rendered / service.name).replace(unit)
        judged = analyze(
            *("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}"),
            f"./{unit.name}",
            folder=rendered,
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert f"exposure level for {unit.name}" in judged.stdout

    @services
    def test_start_what_there_is(self, service: Path) -> None:
        command, *words = value(service, "ExecStart").split()
        assert command == "/opt/tallyman/bin/tallyman"
        assert objection(CommandLine(place=service.name, words=tuple(words))) is None

    @services
    def test_set_nothing_that_is_set_for_all(self, service: Path) -> None:
        # What all have in common is read after the unit's own file, and would win.
        known = {(section, name) for section, name, _ in assigned(COMMON)}
        own = {(section, name) for section, name, _ in assigned(service)}
        adds_up = {("[Unit]", "After"), ("[Service]", "Environment")}
        assert not (known & own) - adds_up

    @services
    def test_read_the_settings(self, service: Path) -> None:
        files = [value for _, name, value in assigned(service) if name == "EnvironmentFile"]
        assert files[0] == "/etc/tallyman/.env"
        assert value(COMMON, "WorkingDirectory") == "/etc/tallyman"

    def test_give_each_process_a_port_of_its_own(self) -> None:
        ports = [
            port.replace("%i", "1")
            for service in SERVICES
            for port in re.findall(r"TALLYMAN_HEALTH_PORT=(\S+)", service.read_text("utf-8"))
        ]
        assert len(ports) == len(set(ports)) == 4
        told = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        assert all(f"127.0.0.1:{port}" in told.partition("systemd")[2] for port in ports)

    def test_give_each_process_its_time_to_stop(self) -> None:
        settings = Settings.model_construct(
            **{name: field.default for name, field in Settings.model_fields.items()}
        )
        time = {
            program.name: program.stop_seconds
            for program in Plan(settings=settings, folder=ROOT, with_metrics=True).programs
        }
        given = {
            service.stem.removeprefix("tallyman-").rstrip("@"): int(
                value(service, "TimeoutStopSec")
            )
            for service in SERVICES
            if "TimeoutStopSec" in service.read_text(encoding="utf-8")
        }
        assert given == time

    def test_come_back_however_often_they_end(self) -> None:
        for service in SERVICES:
            if value(service, "Type") != "oneshot":
                assert value(service, "Restart") == "always"
                assert value(service, "StartLimitIntervalSec") == "0"

    def test_are_started_with_the_target(self) -> None:
        migrate = value(UNITS / "tallyman.target", "Wants")
        for service in SERVICES:
            if service.name == migrate:
                continue
            assert value(service, "WantedBy") == "tallyman.target"
            assert value(service, "After") == migrate


class TestSettings:
    def test_are_settings_and_hold_no_secret(self) -> None:
        given = dotenv_values(UNITS / "tallyman.env")
        known = {f"TALLYMAN_{name.upper()}" for name in Settings.model_fields}
        assert set(given) <= known
        assert given["TALLYMAN_DATABASE_URL"] == given["TALLYMAN_BROKER_URL"] == ""
        assert given["TALLYMAN_DATA_FOLDER"] == f"/var/lib/{value(COMMON, 'StateDirectory')}"
