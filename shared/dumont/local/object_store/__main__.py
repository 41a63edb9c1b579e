"""`python -m dumont.local.object_store`: run the local object store until it is interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from dumont.adapters.clock import SystemClock
from dumont.local.object_store.server import MINIMUM_PART_BYTES, REGION, ObjectStoreServer

KEY_FILE = "account.env"


def main() -> int:
    """Parse the command line, serve, and close on SIGINT or SIGTERM.

    The account's key is written to `account.env` in the folder, for its owner alone, and shown nowhere.
    """
    parser = argparse.ArgumentParser(prog="python -m dumont.local.object_store", description=__doc__)
    parser.add_argument("--port", type=int, default=8091, help="0 picks a free one")
    parser.add_argument("--folder", type=Path, required=True, help="where files, buckets and keys are kept")
    parser.add_argument("--bucket", action="append", default=[], help="a bucket to make if it is missing")
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--minimum-part-bytes", type=int, default=MINIMUM_PART_BYTES)
    parser.add_argument("--take-checksums", action="store_true", help="accept x-amz-checksum-*, which B2 refuses")
    parser.add_argument("--refuse-conditions", action="store_true", help="answer If-None-Match: * with 501, as B2 does")
    parser.add_argument("--trust-payload", action="store_true", help="do not count signed SHA-256 again: faster")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    server = ObjectStoreServer(
        options.folder,
        options.port,
        clock=SystemClock(),
        buckets=options.bucket,
        region=options.region,
        minimum_part_bytes=options.minimum_part_bytes,
        takes_checksums=options.take_checksums,
        takes_conditions=not options.refuse_conditions,
        check_payload=not options.trust_payload,
    )
    with server:
        file = options.folder / KEY_FILE
        with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as kept:
            kept.write(f"B2_APPLICATION_KEY_ID={server.key_id}\nB2_APPLICATION_KEY={server.key}\n")
        sys.stdout.write(f"{server.url} (its key is in {file})\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
