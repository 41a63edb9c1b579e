"""What is in the store already is not sent again, and what did not change is not read again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.engine_rig import Rig, picture, weights

DATA = random.Random(7).randbytes(24 << 20)


def settled(path: Path, content: bytes) -> None:
    """Write a file that looks as if it had been there for long: nothing reads it again for its fresh times alone."""
    path.write_bytes(content)
    deadline = time.monotonic() + 5
    while time.time_ns() - path.stat().st_ctime_ns < 150_000_000 and time.monotonic() < deadline:
        os.sched_yield()


def test_an_insertion_keeps_nine_tenths(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "data").write_bytes(DATA)
    rig.snapshot("s1")
    (rig.workspace / "data").write_bytes(DATA[:1000] + b"inserted" + DATA[1000:])
    assert rig.snapshot("s2").bytes_new < len(DATA) // 10


def test_an_insertion_before_the_tensors_keeps_nine_tenths(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    content = weights(6_000_000)
    length = int.from_bytes(content[:8], "little")
    (rig.workspace / "m.safetensors").write_bytes(content)
    rig.snapshot("s1")
    longer = (length + 5).to_bytes(8, "little") + content[8 : 8 + length] + b"     " + content[8 + length :]
    (rig.workspace / "m.safetensors").write_bytes(longer)
    assert rig.snapshot("s2").bytes_new < len(content) // 10


def test_unchanged_files_are_not_read_again_unless_asked(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    settled(rig.workspace / "data", DATA)
    first = rig.snapshot("s1")
    second = rig.snapshot("s2")
    assert (second.files_read, second.bytes_read) == (0, 0)
    assert [pack.key for pack in second.packs] == [pack.key for pack in first.packs]
    assert not any(pack.new for pack in second.packs)
    third = rig.snapshot("s3", options={"rehash": True})
    assert (third.files_read, third.bytes_new) == (1, 0)
    rig.restore(second, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_a_file_changed_with_its_times_put_back_is_read_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    settled(rig.workspace / "data", b"one")
    status = (rig.workspace / "data").stat()
    rig.snapshot("s1")
    (rig.workspace / "data").write_bytes(b"two")
    os.utime(rig.workspace / "data", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert rig.snapshot("s2").files_read == 1


def test_after_a_restore_the_new_host_sends_only_changes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "data").write_bytes(DATA)
    (rig.workspace / "small").write_bytes(b"small")
    taken = rig.snapshot("s1")
    back = tmp_path / "back"
    rig.restore(taken, back)
    settled(back / "added", b"added")
    second = rig.snapshot("s2", workspace=str(back), state_dir=str(tmp_path / "state of new host"), prefix="m1/2/")
    assert second.files_read == 1
    assert second.bytes_new == 5
    rig.restore(second, tmp_path / "third")
    assert picture(tmp_path / "third") == picture(back)


def test_packs_that_are_gone_are_sent_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    settled(rig.workspace / "data", DATA)
    first = rig.snapshot("s1")
    gone = first.packs[0].key
    (rig.objects / gone).unlink()
    second = rig.snapshot("s2", options={"forget_packs": (gone,)})
    assert gone not in {pack.key for pack in second.packs}
    assert 0 < second.bytes_new < len(DATA)
    assert rig.verify(second).ok


def test_two_data_keys_share_no_ciphertext_and_no_hash(tmp_path: Path) -> None:
    one = Rig(tmp_path / "one")
    two = Rig(tmp_path / "two", key=bytes(32))
    for rig in (one, two):
        (rig.workspace / "same").write_bytes(DATA)
        rig.snapshot("s1")
    blocks = [
        {pack.read_bytes()[at : at + 4096] for pack in rig.packs() for at in range(0, 1 << 20, 4096)}
        for rig in (one, two)
    ]
    assert blocks[0].isdisjoint(blocks[1])
    journals = [(rig.root / "state/packs.journal").read_text().split("hashes")[1][:80] for rig in (one, two)]
    assert journals[0] != journals[1]


def test_no_plain_text_and_no_key_reaches_the_store_or_the_state(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "quite-a-name").write_bytes(b"quite some content " * 50)
    rig.snapshot("s1")
    for path in [*rig.objects.rglob("*"), *(tmp_path / "state").iterdir()]:
        if path.is_file():
            content = path.read_bytes()
            assert b"some content" not in content
            assert rig.key not in content
            assert rig.key.hex().encode() not in content
    assert all(b"quite-a-name" not in path.read_bytes() for path in rig.objects.rglob("*") if path.is_file())


def test_weights_shrink_to_less_than_seven_tenths(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    content = weights(8_000_000)
    (rig.workspace / "m.safetensors").write_bytes(content)
    assert rig.snapshot("s1").bytes_sent < 0.70 * len(content)


def test_weights_in_a_file_of_unknown_format_shrink_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    content = weights(8_000_000)[500:]
    (rig.workspace / "m.bin").write_bytes(content)
    assert rig.snapshot("s1").bytes_sent < 0.70 * len(content)
