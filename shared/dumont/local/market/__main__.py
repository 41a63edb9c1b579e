"""`python -m dumont.local.market`: run the simulated market until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

from dumont.local.market.lifecycle import BOOTS
from dumont.local.market.server import MarketServer


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def main() -> int:
    """Parse the command line, serve, and close on SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m dumont.local.market", description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="0 picks a free one")
    parser.add_argument("--folder", type=Path, required=True, help="where the machines' disks are kept")
    parser.add_argument("--api-key-file", type=Path, required=True, help="a file with an API key on each line")
    parser.add_argument("--time-scale", type=float, default=1.0, help="multiplies how long boots, starts, stops take")
    parser.add_argument("--boots", choices=sorted(BOOTS), default="fast", help="real: some take long, some never end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--credit-usd", type=float, default=100.0)
    parser.add_argument("--no-machines", action="store_true", help="instances are rows in answers only")
    options = parser.parse_args()
    keys = [line.strip() for line in options.api_key_file.read_text().splitlines() if line.strip()]
    if not keys:
        parser.error("the file of API keys is empty")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server = MarketServer(
        folder=options.folder,
        clock=SystemClock(),
        api_keys=keys,
        port=options.port,
        seed=options.seed,
        time_scale=options.time_scale,
        boots=options.boots,
        credit_usd=options.credit_usd,
        machines=not options.no_machines,
    )
    with server:
        sys.stdout.write(f"VAST_URL={server.url}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
