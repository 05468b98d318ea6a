"""What supervisord is told."""

import sys
from configparser import RawConfigParser
from pathlib import Path

from worker.settings import Settings
from worker.stack import Plan, masked
from worker.supervisord import configuration


def configured(plan: Plan) -> RawConfigParser:
    parser = RawConfigParser()
    parser.read_string(
        configuration(plan.programs, folder=plan.folder, logs=plan.folder / "100% logs")
    )
    return parser


class TestSupervisord:
    def test_starts_the_worker_first_and_stops_it_last(self) -> None:
        parser = configured(Plan(settings=Settings(), folder=Path("/data")))
        priorities = {
            section.removeprefix("program:"): parser.getint(section, "priority")
            for section in parser.sections()
            if section.startswith("program:")
        }
        assert sorted(priorities, key=lambda name: priorities[name]) == [
            "worker",
            "relay",
            "beat",
            "flower",
        ]

    def test_gives_a_worker_the_time_that_it_takes_to_drain(self) -> None:
        settings = Settings(drain_seconds=200)
        parser = configured(Plan(settings=settings, folder=Path("/data")))
        assert parser.getint("program:worker", "stopwaitsecs") > 200

    def test_opens_no_door_and_knows_no_secret(self) -> None:
        settings = Settings.model_validate({"database_url": "postgresql://u:secret@h/d"})
        plan = Plan(settings=settings, folder=Path("/data"))
        text = configuration(plan.programs, folder=plan.folder, logs=plan.folder)
        assert "secret" not in text
        assert "http_server" not in text

    def test_takes_paths_as_they_are(self) -> None:
        parser = configured(Plan(settings=Settings(), folder=Path("/data")))
        assert parser.get("program:relay", "stdout_logfile") == "/data/100%% logs/relay.log"
        assert parser.get("program:relay", "command").startswith(sys.executable)

    def test_can_leave_flower_out(self) -> None:
        plan = Plan(settings=Settings(), folder=Path("/data"), with_flower=False)
        assert "program:flower" not in configured(plan).sections()


class TestMasked:
    def test_hides_the_password_alone(self) -> None:
        assert masked("redis://:s@1@h:1/0") == "redis://:***@h:1/0"
        assert masked("postgresql+psycopg://u:p@h:1/u") == "postgresql+psycopg://u:***@h:1/u"
        assert masked("redis://h:1/0") == "redis://h:1/0"
