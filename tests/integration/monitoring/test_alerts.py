"""Each alert fires when it should, and alone."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.monitoring.prometheus import CONFIG, DEPLOY, RULES, alerts, promtool
from tests.scraping import CATALOGUE
from worker.metrics.catalogue import Type

DAY = 24 * 60
WELL = {
    'up{job="tallyman",instance="w",role="worker"}': "1",
    'tallyman_up{part="db"}': "1",
    'tallyman_up{part="relay"}': "1",
    'tallyman_up{part="broker"}': "1",
    "tallyman_workers_connected": "2",
    'tallyman_ready{process="worker",instance="w"}': "1",
    'tallyman_breaker_open{breaker="postgresql",instance="w"}': "0",
    'tallyman_queue_jobs{queue="users",place="queued"}': "5",
    'tallyman_queue_jobs{queue="users",place="dispatched"}': "5",
    'tallyman_queue_limit_jobs{queue="users"}': "1000",
    'tallyman_queue_paused_seconds{queue="users"}': "0",
    'tallyman_queue_oldest_job_seconds{queue="users",place="queued"}': "10",
    'tallyman_job_attempts_total{kind="users.erase",outcome="succeeded"}': "+60",
    'tallyman_job_attempts_total{kind="users.erase",outcome="retry"}': "+1",
    'tallyman_jobs_finished_total{kind="users.erase",state="dead"}': "7",
    'tallyman_jobs_finished_total{kind="imports.import_chunk",state="dead"}': "0",
    'tallyman_jobs_finished_total{kind="maintenance.prune_ledger",state="succeeded"}': "+0.01",
    "tallyman_relay_lag_seconds": "2",
    "tallyman_outbox_lag_seconds": "2",
    'tallyman_parked_messages{queue="users",reason="protocol"}': "0",
    'tallyman_import_stalled_seconds{target="users"}': "5",
    'tallyman_import_runs{target="users",state="refused"}': "3",
    "tallyman_oldest_transaction_seconds": "4",
    "tallyman_database_bytes": "20000000000",
}
"""A system that is well: values that stay, or that grow so much a minute."""

ILL: Mapping[str, tuple[Mapping[str, str | None], int]] = {
    "TallymanMetricsAbsent": ({'tallyman_up{part="db"}': None}, 6),
    "TallymanDatabaseAway": ({'tallyman_up{part="db"}': "0"}, 2),
    "TallymanBrokerAway": ({'tallyman_up{part="broker"}': "0"}, 2),
    "TallymanNoWorker": ({"tallyman_workers_connected": "0"}, 3),
    "TallymanRelayStopped": ({'tallyman_up{part="relay"}': "0"}, 2),
    "TallymanJobsNotRun": (
        {
            'tallyman_job_attempts_total{kind="users.erase",outcome="succeeded"}': "9",
            'tallyman_job_attempts_total{kind="users.erase",outcome="retry"}': "9",
        },
        7,
    ),
    "TallymanJobsDied": (
        {'tallyman_jobs_finished_total{kind="users.erase",state="dead"}': "+1"},
        2,
    ),
    "TallymanAttemptsFail": (
        {'tallyman_job_attempts_total{kind="users.erase",outcome="retry"}': "+9"},
        12,
    ),
    "TallymanQueuePaused": ({'tallyman_queue_paused_seconds{queue="users"}': "3601"}, 6),
    "TallymanQueueFull": ({'tallyman_queue_limit_jobs{queue="users"}': "12"}, 6),
    "TallymanJobsWait": (
        {'tallyman_queue_oldest_job_seconds{queue="users",place="queued"}': "901"},
        6,
    ),
    "TallymanRelayLate": ({"tallyman_relay_lag_seconds": "301"}, 6),
    "TallymanEventsLate": ({"tallyman_outbox_lag_seconds": "301"}, 6),
    "TallymanMessagesParked": (
        {'tallyman_parked_messages{queue="users",reason="protocol"}': "1"},
        6,
    ),
    "TallymanBreakerOpen": ({'tallyman_breaker_open{breaker="postgresql",instance="w"}': "1"}, 3),
    "TallymanNotReady": ({'tallyman_ready{process="worker",instance="w"}': "0"}, 6),
    "TallymanProcessDown": ({'up{job="tallyman",instance="w",role="worker"}': "0"}, 3),
    "TallymanImportStuck": ({'tallyman_import_stalled_seconds{target="users"}': "901"}, 6),
    "TallymanImportFailed": ({'tallyman_import_runs{target="users",state="refused"}': "+1"}, 2),
    "TallymanNotPruned": (
        {'tallyman_jobs_finished_total{kind="maintenance.prune_ledger",state="succeeded"}': "0"},
        28 * 60,
    ),
    "TallymanLongTransaction": ({"tallyman_oldest_transaction_seconds": "3601"}, 6),
    "TallymanDatabaseGrows": ({"tallyman_database_bytes": "20000000000+10000000"}, 13 * 60),
}
"""For each alert what makes it fire, and within how many minutes it has to."""


def judged(
    folder: Path, changes: Mapping[str, str | None], *, minutes: int, fires: str | None
) -> None:
    """Have promtool judge which alerts fire."""
    series = {**WELL, **changes}
    first = 0 if minutes < DAY else minutes // 2
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": _values(how, minutes=minutes)}
                    for name, how in series.items()
                    if how is not None
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": f'{{alertname="{fires}"}}', "value": 1}]
                        if fires
                        else [],
                    },
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{first}m",
                        "exp_samples": [],
                    },
                ],
            }
        ],
    }
    file = folder / "test.yml"
    # JSON is YAML.
    file.write_text(json.dumps(test), encoding="utf-8")
    promtool("test", "rules", file)


def _values(how: str, *, minutes: int) -> str:
    start, plus, step = how.partition("+")
    return f"{start or 0}+{step if plus else 0}x{minutes}"


class TestAlerts:
    @pytest.mark.parametrize("name", alerts())
    def test_fires_in_time_and_alone(self, name: str, tmp_path: Path) -> None:
        changes, minutes = ILL[name]
        judged(tmp_path, changes, minutes=minutes, fires=name)

    def test_keep_quiet_while_all_is_well(self, tmp_path: Path) -> None:
        judged(tmp_path, {}, minutes=60, fires=None)

    def test_keep_quiet_on_the_first_day(self, tmp_path: Path) -> None:
        unpruned = 'tallyman_jobs_finished_total{kind="maintenance.prune_ledger",state="succeeded"}'
        judged(tmp_path, {unpruned: "0"}, minutes=DAY, fires=None)

    def test_tell_of_a_missing_server_once(self, tmp_path: Path) -> None:
        changes = {
            'tallyman_up{part="db"}': "0",
            'tallyman_ready{process="worker",instance="w"}': "0",
        }
        judged(tmp_path, changes, minutes=30, fires="TallymanDatabaseAway")

    def test_do_not_call_late_what_is_paused(self, tmp_path: Path) -> None:
        changes = {
            'tallyman_queue_paused_seconds{queue="users"}': "600",
            'tallyman_queue_oldest_job_seconds{queue="users",place="queued"}': "901",
        }
        judged(tmp_path, changes, minutes=30, fires=None)

    def test_are_as_prometheus_takes_them(self) -> None:
        promtool("check", "rules", RULES)
        promtool("check", "config", CONFIG)
        promtool("check", "config", CONFIG.with_name("compose.yml"))

    @pytest.mark.parametrize("name", alerts())
    def test_say_what_is_wrong_and_where_it_is_written_what_to_do(self, name: str) -> None:
        text = RULES.read_text(encoding="utf-8")
        rule = text.partition(f"- alert: {name}\n")[2].partition("- alert: ")[0]
        assert re.search(r"severity: (critical|warning)\n", rule)
        assert re.search(r'summary: ".+"\n', rule)
        assert re.search(r'description: ".+\."\n', rule)
        assert f"runbook_url: docs/operations.md#{name.lower()}\n" in rule


class TestExpressions:
    @pytest.mark.parametrize(
        "file",
        [RULES, DEPLOY / "grafana" / "dashboards" / "tallyman.json"],
        ids=lambda file: file.name,
    )
    def test_ask_for_metrics_that_there_are(self, file: Path) -> None:
        asked = set(re.findall(r"\btallyman_[a-z_]+", file.read_text(encoding="utf-8")))
        there = {
            name + end
            for name, metric in CATALOGUE.items()
            for end in (("_bucket", "_count", "_sum") if metric.type is Type.HISTOGRAM else ("",))
        }
        assert asked
        assert asked <= there
