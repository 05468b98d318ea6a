"""Heartbeats as others see them."""

import os
import time
from pathlib import Path

from worker.heartbeat import FRESH_SECONDS, Heartbeat, is_fresh


class TestHeartbeat:
    def test_is_fresh_once_the_process_went_round(self, tmp_path: Path) -> None:
        heartbeat = Heartbeat(data_folder=tmp_path, process="relay")
        assert not is_fresh(tmp_path, "relay")
        heartbeat.beat()
        assert is_fresh(tmp_path, "relay")
        assert not is_fresh(tmp_path, "beat")

    def test_is_gone_when_the_process_ends(self, tmp_path: Path) -> None:
        heartbeat = Heartbeat(data_folder=tmp_path, process="relay")
        heartbeat.beat()
        heartbeat.stop()
        assert not is_fresh(tmp_path, "relay")

    def test_goes_stale(self, tmp_path: Path) -> None:
        heartbeat = Heartbeat(data_folder=tmp_path, process="relay")
        heartbeat.beat()
        long_ago = time.time() - FRESH_SECONDS - 1
        os.utime(heartbeat.file, (long_ago, long_ago))
        assert not is_fresh(tmp_path, "relay")

    def test_of_a_dead_process_counts_for_nothing(self, tmp_path: Path) -> None:
        heartbeat = Heartbeat(data_folder=tmp_path, process="relay")
        heartbeat.beat()
        beyond_any_pid = heartbeat.file.with_suffix(".99999999")
        heartbeat.file.rename(beyond_any_pid)
        assert not is_fresh(tmp_path, "relay")
        heartbeat.stop()
        assert not beyond_any_pid.exists()

    def test_that_cannot_be_written_stops_nobody(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        Heartbeat(data_folder=tmp_path / "file", process="relay").beat()
