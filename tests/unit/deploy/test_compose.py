"""docker-compose.yml and the Dockerfile: by their own rules, and with what the command takes."""

import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from tests.command_lines import CommandLine, objection
from tests.conftest import ROOT
from worker.settings import Settings
from worker.stack import Plan

FILE = ROOT / "docker-compose.yml"
COMPOSE: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"] == "tallyman"}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::?([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|BASIC_AUTH")

services = pytest.mark.parametrize("name", SERVICES)


def words(found: object) -> Iterator[str]:
    """Give every text of a part of the file."""
    match found:
        case str():
            yield found
        case dict():
            for value in found.values():
                yield from words(value)
        case list():
            for value in found:
                yield from words(value)
        case _:
            pass


def scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))


class TestCompose:
    def test_is_as_its_specification_says(self) -> None:
        judged = subprocess.run(
            [scripts() / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
            check=False,
            capture_output=True,
            text=True,
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr

    @pytest.mark.parametrize("name", OURS)
    def test_starts_what_there_is(self, name: str) -> None:
        line = CommandLine(place=name, words=tuple(OURS[name]["command"]))
        assert objection(line) is None

    @services
    def test_asks_each_server_how_it_is_and_starts_it_again(self, name: str) -> None:
        service = SERVICES[name]
        if name == "migrate":
            assert service["restart"].startswith("on-failure:")
            return
        assert service["restart"] == "unless-stopped"
        check = service["healthcheck"]["test"]
        assert check[0] in ("CMD", "CMD-SHELL")
        if check[1] == "tallyman":
            assert objection(CommandLine(place=name, words=tuple(check[2:]))) is None

    @services
    def test_is_reached_from_this_machine_alone(self, name: str) -> None:
        for port in SERVICES[name].get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\$\{PUBLISHED_[A-Z]+_PORT:-\d+\}:\d+", port)

    @services
    def test_leaves_processes_little_to_do_harm_with(self, name: str) -> None:
        if name == "postgres":
            return  # Its image begins as root, to own what it writes.
        service = SERVICES[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]

    def test_takes_variables_that_the_example_has(self) -> None:
        example = (ROOT / ".env.example").read_text(encoding="utf-8")
        asked = {match[1] for match in VARIABLE.finditer(FILE.read_text(encoding="utf-8"))}
        assert len(asked) > 8
        assert {
            name for name in asked if not re.search(rf"^#?{name}=", example, re.MULTILINE)
        } == set()

    def test_has_no_default_for_a_secret(self) -> None:
        asked = list(VARIABLE.finditer(FILE.read_text(encoding="utf-8")))
        secrets = [match for match in asked if SECRET.search(match[1])]
        assert secrets
        assert {match[2] for match in secrets} == {"?"}
        given = dotenv_values(ROOT / ".env.example")
        assert {given[match[1]] for match in secrets} == {""}

    def test_sets_what_can_be_set(self) -> None:
        known = {f"TALLYMAN_{name.upper()}" for name in Settings.model_fields}
        for service in OURS.values():
            assert set(service["environment"]) <= known

    def test_takes_servers_of_a_version(self) -> None:
        theirs = [each["image"] for name, each in SERVICES.items() if name not in OURS]
        assert [image for image in theirs if not re.search(r":v?\d+(\.\d+)*$", image)] == []

    def test_keeps_volumes_that_are_mounted(self) -> None:
        mounted = {
            volume.partition(":")[0]
            for service in SERVICES.values()
            for volume in service.get("volumes", [])
        }
        assert {each for each in mounted if not each.startswith("./")} == set(COMPOSE["volumes"])
        assert all((ROOT / each).exists() for each in mounted if each.startswith("./"))

    def test_gives_a_worker_time_to_stop(self) -> None:
        settings = Settings.model_construct(
            **{name: field.default for name, field in Settings.model_fields.items()}
        )
        [minutes] = re.findall(r"^(\d)m$", SERVICES["worker"]["stop_grace_period"])
        assert 60 * int(minutes) >= Plan(settings=settings, folder=ROOT).stop_seconds

    def test_lets_flower_remember(self) -> None:
        folder = SERVICES["flower"]["environment"]["TALLYMAN_DATA_FOLDER"]
        assert f"flower:{folder}" in SERVICES["flower"]["volumes"]
        # A volume has the owner of the folder in the image that it is mounted on.
        assert f"--owner=tallyman --group=tallyman {folder}\n" in (ROOT / "Dockerfile").read_text()

    def test_has_prometheus_find_each_process_that_tells_how_it_is(self) -> None:
        config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "compose.yml").read_text())
        [job] = config["scrape_configs"]
        [found] = job["dns_sd_configs"]
        port = COMPOSE["x-tallyman"]["environment"]["TALLYMAN_HEALTH_PORT"]
        assert set(found["names"]) == set(OURS) - {"migrate", "flower"}
        assert found["port"] == int(port)
        for name in found["names"]:
            assert f"127.0.0.1:{port}/health/" in " ".join(words(OURS[name]["healthcheck"]))


class TestDockerfile:
    def test_is_as_hadolint_would_have_it(self) -> None:
        judged = subprocess.run(
            [scripts() / "hadolint", "--format=json", ROOT / "Dockerfile"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert json.loads(judged.stdout) == []
        assert judged.returncode == 0

    def test_makes_an_image_without_what_builds_it(self) -> None:
        stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
        assert len(stages) == 2
        assert "COPY --from=build" in stages[-1]
        assert not re.search(r"^COPY (?!--from)|pip", stages[-1], re.MULTILINE)
        assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", stages[-1], re.MULTILINE)
