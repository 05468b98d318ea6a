"""A process of `benchmarks.floors`: writes its share of what is known before."""

import os
import pickle
import sys
from pathlib import Path

import psycopg

from benchmarks.floors import write, write_orders
from benchmarks.peers.gate import wait_for_start


def main() -> None:
    """Write what is in the file of this process's number."""
    what, folder, number = sys.argv[1:]
    share = pickle.loads((Path(folder) / number).read_bytes())  # noqa: S301  our own, a moment old
    url = os.environ["BENCH_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        wait_for_start()
        if what == "orders":
            write_orders(url, share)
        else:
            for written in share:
                write(connection, written)


if __name__ == "__main__":
    main()
