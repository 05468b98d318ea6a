"""A slice of `python -m benchmarks.deaths`: the whole worker killed under load, by both doors."""

from pathlib import Path

import psycopg
import pytest
import redis

from benchmarks.deaths.campaign import ORDERS_A_KILL, Campaign
from benchmarks.deaths.contenders import DoorA, DoorB, Place, furnish

KILLS = 3


@pytest.fixture
def campaign(database_url: str, broker_url: str, tmp_path: Path) -> Campaign:
    """Give a place with stock, and no wait for what the dead have taken with them."""
    place = Place(database_url=database_url, broker_url=broker_url)
    furnish(place)
    return Campaign(place=place, logs=tmp_path, kills=KILLS, hasten=let_time_pass)


def let_time_pass(place: Place) -> None:
    """Let every message that was taken, and every job that was dispatched, be due again."""
    with redis.Redis.from_url(place.broker_url) as broker:
        held = broker.zrange("unacked_index", 0, -1)
        if held:
            broker.zadd("unacked_index", dict.fromkeys(held, 0))
    with psycopg.connect(place.plain_url, autocommit=True) as ledger:
        ledger.execute("UPDATE job SET next_dispatch = now() WHERE finished_at IS NULL")


class TestAWorkerKilledUnderLoad:
    def test_loses_nothing_of_what_was_submitted_and_doubles_nothing(
        self, campaign: Campaign
    ) -> None:
        toll = campaign.against(DoorB(place=campaign.place))

        assert toll.is_drained
        assert (toll.sent, toll.lost, toll.doubled) == (KILLS * ORDERS_A_KILL, 0, 0)

    def test_loses_nothing_of_what_came_as_a_message_and_doubles_nothing(
        self, campaign: Campaign
    ) -> None:
        toll = campaign.against(DoorA(place=campaign.place))

        assert toll.is_drained
        assert (toll.sent, toll.lost, toll.doubled) == (KILLS * ORDERS_A_KILL, 0, 0)
