"""Jobs handed over with curl, as the how-to guide does it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from domain.jobs.model import Door, JobState
from tests.e2e.flower_site import NAME, PASSWORD, FlowerSite
from tests.e2e.how_to import GUIDES, snippets
from tests.e2e.pipeline import KIND, Pipeline, order

GUIDE = "enqueue-with-curl.md"
END = "-- end of a snippet --"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the guide's file for curl."""
    guide = (GUIDES / GUIDE).read_text()
    [found] = re.findall(r"^```ini\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert '"tally:PASSWORD"' in found
    file = tmp_path / "flower.curl"
    file.write_text(found.replace("tally:PASSWORD", f"{NAME}:{PASSWORD}"))
    return file


class TestTheGuide:
    @pytest.mark.skipif(
        shutil.which("curl") is None and "CI" not in os.environ, reason="needs curl on PATH"
    )
    def test_prints_what_it_says(
        self, pipeline: Pipeline, flower: FlowerSite, config: Path
    ) -> None:
        pipeline.has_stock("LAMP", 10)
        guide = snippets(GUIDE, "sh")

        shell = subprocess.run(
            ["sh", "-euc", "\n".join(f"{code}\necho '{END}'" for code, _ in guide)],
            cwd=config.parent,
            env={"PATH": os.environ["PATH"], "FLOWER": flower.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

        assert (shell.returncode, shell.stderr) == (0, "")
        assert shell.stdout.split(f"{END}\n") == [*(prints for _, prints in guide), ""]
        allocated = pipeline.until("curl-C-1", JobState.SUCCEEDED)
        assert (allocated.door, allocated.attempts) == (Door.CELERY, 1)
        assert pipeline.until("curl-C-2", JobState.REJECTED).error is not None
        assert pipeline.find("curl-C-4") is None
        assert pipeline.allocated("LAMP") == 2
        assert "Traceback" not in flower.logs()


class TestTheDoor:
    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ({"kwargs": [1]}, "kwargs must be an object"),
            ({"kwargs": None}, "kwargs must be an object"),
            ({"args": [["some-job"]]}, "args stay empty"),
            ({"args": {}}, "args must be an array"),
            ([], "invalid options"),
            ("text", "invalid options"),
            ({"task_id": 5}, "task_id must be a text"),
            ({"task_id": ""}, "task_id must be a text"),
            ({"task_id": "a\nb"}, "task_id must be a text"),
            ({"task_id": "x" * 256}, "task_id must be a text"),
            ({"task_id": None}, "task_id must be a text"),
            ({"serializer": "pickle"}, "not known"),
            ({"link": "x", "queue": "y", "headers": {}}, "fields that are not known"),
            ({"timeout": 5}, "not known"),
            ({"countdown": "soon"}, "countdown must be"),
            ({"countdown": -1}, "countdown must be"),
            ({"countdown": True}, "countdown must be"),
            ({"countdown": float("nan")}, "countdown must be"),
            ({"eta": 5}, "eta must be"),
            ({"eta": "soon"}, "Invalid option"),
            ({"expires": []}, "expires must be"),
            ({"expires": "soon"}, "Invalid option"),
        ],
    )
    @pytest.mark.parametrize("way", ["async-apply", "send-task"])
    def test_says_what_is_wrong_with_a_request(
        self, flower: FlowerSite, way: str, body: object, says: str
    ) -> None:
        answer = flower.post(f"/api/task/{way}/{KIND}", body)
        assert (answer.status, says in answer.text) == (400, True), answer

    @pytest.mark.parametrize("way", ["apply", "async-apply", "send-task"])
    @pytest.mark.parametrize("kind", ["allocation.nothing", "celery.backend_cleanup", "x/y"])
    def test_takes_no_job_of_a_kind_that_nobody_knows(
        self, flower: FlowerSite, way: str, kind: str
    ) -> None:
        answer = flower.post(f"/api/task/{way}/{kind}", {})
        assert (answer.status, KIND in answer.text) == (404, True), answer

    def test_waits_no_longer_than_it_is_told(self, pipeline: Pipeline, flower: FlowerSite) -> None:
        later = {"kwargs": order("later", "none"), "task_id": "curl-later", "countdown": 3_600}
        put_off = flower.post(f"/api/task/apply/{KIND}", {**later, "timeout": 0.1})
        assert (put_off.status, set(put_off.data)) == (200, {"task-id", "state"})
        pipeline.until("curl-later", JobState.QUEUED)
        asked = flower.get("/api/task/result/curl-later?timeout=0.1")
        assert asked.data == {"task-id": "curl-later", "state": "QUEUED"}
        refused = flower.post(f"/api/task/apply/{KIND}", {**later, "timeout": "long"})
        assert (refused.status, "timeout must be" in refused.text) == (400, True)

    def test_tells_the_first_outcome_of_an_id(self, pipeline: Pipeline, flower: FlowerSite) -> None:
        pipeline.has_stock("MUG", 10)
        answers = [
            flower.post(
                f"/api/task/apply/{KIND}",
                {"task_id": "curl-twice", "kwargs": order("twice", "MUG", quantity=quantity)},
            ).data
            for quantity in (1, 1, 5)
        ]
        assert [answer["state"] for answer in answers] == ["SUCCESS"] * 3
        assert len({json.dumps(answer["result"]) for answer in answers}) == 1
        assert pipeline.allocated("MUG") == 1

    def test_takes_ids_of_any_characters(self, pipeline: Pipeline, flower: FlowerSite) -> None:
        pipeline.has_stock("CUP", 10)
        answer = flower.post(
            f"/api/task/apply/{KIND}", {"task_id": "a/b ?ü&", "kwargs": order("any", "CUP")}
        )
        assert answer.data["state"] == "SUCCESS"
        again = flower.get("/api/task/result/a%2Fb%20%3F%C3%BC%26")
        assert again.data == {**answer.data, "state": "SUCCESS"}
