"""Whether there are traces: the variables of OpenTelemetry say so, and nothing is imported else."""

import os
import sys
from collections.abc import Mapping
from functools import cache

import structlog

from worker.tracing.untraced import Untraced

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_on(environment: Mapping[str, str]) -> bool:
    """Tell whether somebody wants traces: an exporter is named, or where to export to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    return exporters != "none" and any([exporters, *map(environment.get, ENDPOINTS)])


def start(process: str) -> Untraced:
    """Start exporting what this process does, if somebody wants that; call it after a fork.

    What is wrong with the exporter is logged, and jobs run all the same.
    """
    return _start(process, os.getpid())


@cache
def _start(process: str, _pid: int) -> Untraced:
    if not is_on(os.environ):
        return Untraced()
    try:
        from worker.tracing import exporting  # noqa: PLC0415  who wants no traces does not pay
    except ImportError as error:
        log.error(  # noqa: TRY400  its traceback says no more
            "traces_not_installed", lacks=error.name, advice="install the extra `traces`"
        )
        return Untraced()
    return exporting.start(process)


def found() -> Untraced:
    """Return the traces of an application that has set up its own, or none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return Untraced()
    from worker.tracing.journey import Journey  # noqa: PLC0415  as above

    return Journey(trace.get_tracer("tallyman"))
