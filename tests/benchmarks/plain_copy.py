"""Carries a folder's bytes to an S3 bucket and back, and does nothing else: the limit that restores are held against.

python -m tests.benchmarks.plain_copy put|get ENDPOINT BUCKET FOLDER LISTING
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store

OBJECT_BYTES = 32 << 20
AT_ONCE = 8


def pieces(files: list[tuple[str, int]]) -> list[list[tuple[str, int, int]]]:
    """For each object, the (path, offset, length) that it holds one after another."""
    objects: list[list[tuple[str, int, int]]] = [[]]
    room = OBJECT_BYTES
    for path, size in files:
        at = 0
        while at < size or (size == 0 and at == 0):
            if room == 0:
                objects.append([])
                room = OBJECT_BYTES
            length = min(room, size - at)
            objects[-1].append((path, at, length))
            room -= length
            at += length
            if size == 0:
                break
    return objects


def main(way: str, endpoint: str, bucket: str, folder: Path, listing: Path) -> None:
    store = S3Store(
        bucket,
        config={
            "access_key_id": "bench",
            "secret_access_key": "bench-secret",
            "endpoint": endpoint,
            "region": "us-east-1",
        },
        client_options={"allow_http": True, "timeout": "300s"},
    )
    if way == "put":
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [(str(path.relative_to(folder)), path.stat().st_size) for path in paths]
        listing.write_text(json.dumps(files))
    else:
        files = [(name, size) for name, size in json.loads(listing.read_text())]
        for parent in {(folder / name).parent for name, _ in files}:
            parent.mkdir(parents=True, exist_ok=True)

    def put(number: int, held: list[tuple[str, int, int]]) -> None:
        buffer = bytearray(sum(length for _, _, length in held))
        view, at = memoryview(buffer), 0
        for name, offset, length in held:
            with (folder / name).open("rb", buffering=0) as source:
                source.seek(offset)
                source.readinto(view[at : at + length])
            at += length
        obstore.put(store, f"plain/{number}", buffer, use_multipart=False)

    def get(number: int, held: list[tuple[str, int, int]]) -> None:
        view, at = memoryview(obstore.get(store, f"plain/{number}").bytes()), 0
        for name, offset, length in held:
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(descriptor, view[at : at + length], offset)
            os.close(descriptor)
            at += length

    work = put if way == "put" else get
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(work, number, held) for number, held in enumerate(pieces(files))]:
            done.result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
