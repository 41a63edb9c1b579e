"""A restore onto a host that has most of it already (a spare's refresh): what is there is not fetched again."""

from __future__ import annotations

import os
from pathlib import Path

from tests.engine_rig import Rig, picture

MIB = 1 << 20


def filled(rig: Rig) -> None:
    rig.workspace.mkdir(exist_ok=True)
    (rig.workspace / "large").write_bytes(os.urandom(8 * MIB))
    (rig.workspace / "folder").mkdir()
    (rig.workspace / "folder" / "small").write_bytes(os.urandom(3000))


def test_only_what_changed_is_fetched_and_the_tree_is_exactly_the_snapshots(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    filled(rig)
    spare = tmp_path / "spare"
    rig.restore(rig.snapshot("s1"), spare)
    with (rig.workspace / "large").open("r+b") as out:
        out.seek(5 * MIB)
        out.write(os.urandom(1000))
    (rig.workspace / "new").write_bytes(b"new")
    (rig.workspace / "folder" / "small").unlink()
    taken = rig.snapshot("s2")
    done = rig.restore(taken, spare, options={"reuse": True, "read_back": True})
    assert picture(spare) == picture(rig.workspace)
    assert done.bytes_kept > 4 * MIB
    assert done.bytes_received < 4 * MIB
    again = rig.restore(taken, tmp_path / "elsewhere", options={"reuse": True})
    assert again.bytes_kept == 0, "where there is nothing to take over, all is fetched"
    assert picture(tmp_path / "elsewhere") == picture(rig.workspace)


def test_what_lies_there_under_a_files_name_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    filled(rig)
    taken = rig.snapshot("s1")
    spare = tmp_path / "spare"
    (spare / "folder").mkdir(parents=True)
    (spare / "large").symlink_to(rig.workspace / "large")
    os.mkfifo(spare / "folder" / "small")
    done = rig.restore(taken, spare, options={"reuse": True, "read_back": True})
    assert done.bytes_kept == 0
    assert picture(spare) == picture(rig.workspace)


def test_files_of_the_same_size_with_other_contents_are_written_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    filled(rig)
    taken = rig.snapshot("s1")
    spare = tmp_path / "spare"
    spare.mkdir()
    (spare / "large").write_bytes(os.urandom(8 * MIB))
    before = (spare / "large").stat().st_ino
    rig.restore(taken, spare, options={"reuse": True, "read_back": True})
    assert picture(spare) == picture(rig.workspace)
    assert (spare / "large").stat().st_ino != before, "the old file was not touched: it went with the old tree"
