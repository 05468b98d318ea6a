"""When there are traces, and that there is nothing of them otherwise."""

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.conftest import ROOT
from worker.tracing import switch

OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT"


class TestTraces:
    @pytest.mark.parametrize(
        "environment",
        [
            {OTLP: "http://collector:4318"},
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"},
            {"OTEL_TRACES_EXPORTER": "console"},
            {OTLP: "http://collector:4318", "OTEL_SDK_DISABLED": "false"},
        ],
    )
    def test_are_made_where_opentelemetrys_variables_ask_for_them(
        self, environment: Mapping[str, str]
    ) -> None:
        assert switch.is_on(environment)

    @pytest.mark.parametrize(
        "environment",
        [
            {},
            {OTLP: ""},
            {OTLP: "http://collector:4318", "OTEL_SDK_DISABLED": "TRUE"},
            {OTLP: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"},
            {"OTEL_SERVICE_NAME": "shop"},
        ],
    )
    def test_are_not_made_else(self, environment: Mapping[str, str]) -> None:
        assert not switch.is_on(environment)

    def test_that_nobody_wants_are_not_even_imported(self) -> None:
        code = (
            "import sys; from worker.tracing import switch; import worker.processes;"
            "import worker.producer; switch.start('worker'); switch.found();"
            "print([name for name in sys.modules if name.startswith(("
            "'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.instrumentation',"
            "'worker.tracing.journey', 'worker.tracing.exporting'))])"
        )
        assert run(code) == "[]"

    @pytest.mark.parametrize(
        ("variables", "event"),
        [
            ({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, "no exporter of traces is called"),
            ({OTLP: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "morse"}, "'morse'"),
        ],
    )
    def test_that_cannot_be_exported_are_said_to_be_and_jobs_run(
        self, variables: Mapping[str, str], event: str
    ) -> None:
        code = "from worker.tracing import switch; print(type(switch.start('worker')).__name__)"
        said = run(code, **variables)
        assert event in said
        assert said.endswith("Untraced")

    def test_that_are_not_installed_are_said_to_be(self) -> None:
        code = (
            "import sys; sys.modules['opentelemetry.instrumentation.psycopg'] = None;"
            "from worker.tracing import switch; print(type(switch.start('worker')).__name__)"
        )
        said = run(code, **{OTLP: "http://127.0.0.1:9"})
        assert "install the extra `traces`" in said
        assert said.endswith("Untraced")


def run(code: str, **variables: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return (finished.stdout + finished.stderr).strip()
