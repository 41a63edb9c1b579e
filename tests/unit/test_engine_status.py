"""What would be lost: a workspace against its snapshots, before it is replaced or destroyed (invariants 4 and 6)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.agent.engine import SnapshotResult
from dumont.agent.engine.status import StatusResult, status
from tests.engine_rig import Rig, reference, run_command, weights


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A workspace of everything that a status could get wrong."""
    made = Rig(tmp_path)
    work = made.workspace
    (work / "model.safetensors").write_bytes(weights(500_000))
    (work / "code.py").write_text("print()")
    (work / "empty folder").mkdir()
    (work / "a/b").mkdir(parents=True)
    (work / "a/b/notes").write_text("notes")
    os.link(work / "model.safetensors", work / "a/best")
    (work / "link").symlink_to("code.py")
    (work / "loop").symlink_to("loop")
    os.mkfifo(work / "pipe")
    (Path(os.fsdecode(os.fsencode(work) + b"/not \xff utf-8"))).write_text("bytes")
    with (work / "disk.img").open("wb") as out:
        out.seek(32 << 20)
        out.write(b"middle")
        out.truncate(64 << 20)
    return made


def look(rig: Rig, *taken: SnapshotResult, **values: Any) -> StatusResult:
    first, other = (*taken, None, None)[:2]
    if first is not None:
        values = {"manifest": reference(first), **values}
    if other is not None:
        values = {"other": reference(other), "other_snapshot_id": other.snapshot_id, **values}
    return status(rig.job("status", first.snapshot_id if first else "none", **values))


def lost(result: StatusResult) -> tuple[int, int, list[str]]:
    return result.changed, result.added, result.paths


NOTHING: tuple[int, int, list[str]] = (0, 0, [])


def test_a_workspace_is_as_its_snapshot_left_it_and_as_its_restore_made_it(rig: Rig) -> None:
    taken = rig.snapshot("s1")
    assert lost(look(rig, taken)) == NOTHING
    back = rig.root / "back"
    rig.restore(taken, back)
    there = {"workspace": str(back), "state_dir": str(rig.root / "state of new host")}
    assert lost(look(rig, taken, **there)) == NOTHING
    # With no index at all, everything is read.
    assert lost(look(rig, taken, workspace=str(back), state_dir=str(rig.root / "no state"))) == NOTHING


def rewrite(path: Path) -> None:
    """Another byte, with size and time as before: only ctime and content tell."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[int, int, list[str]]]] = {
    "a file more": (lambda w: (w / "a/new").write_text("new"), (0, 1, ["a/new"])),
    "a link more": (lambda w: (w / "new").symlink_to("/nowhere"), (0, 1, ["new"])),
    "a byte": (lambda w: rewrite(w / "code.py"), (1, 0, ["code.py"])),
    "a byte by its other name": (
        lambda w: rewrite(w / "a/best"),
        (2, 0, ["a/best", "model.safetensors"]),
    ),
    "a byte in a hole": (lambda w: poke(w / "disk.img", 3 << 20), (1, 0, ["disk.img"])),
    "a longer file": (lambda w: (w / "a/b/notes").write_text("notes and more"), (1, 0, ["a/b/notes"])),
    "another mode": (lambda w: (w / "code.py").chmod(0o755), (1, 0, ["code.py"])),
    "another target": (lambda w: retarget(w / "link"), (1, 0, ["link"])),
    "an attribute": (lambda w: os.setxattr(w / "code.py", "user.note", b"mine"), (1, 0, ["code.py"])),
    "a file for a folder": (lambda w: become_file(w / "empty folder"), (0, 1, ["empty folder"])),
    "a file for a link": (lambda w: become_file(w / "loop"), (1, 0, ["loop"])),
    "a touch": (lambda w: os.utime(w / "model.safetensors"), NOTHING),
    "a folder more": (lambda w: (w / "new").mkdir(), NOTHING),
    "a file less": (lambda w: (w / "code.py").unlink(), NOTHING),
    "a name of a hard link less": (lambda w: (w / "model.safetensors").unlink(), NOTHING),
    "the same written again": (lambda w: (w / "code.py").write_text("print()"), NOTHING),
}  # fmt: skip


def poke(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x01")


def become_file(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    path.touch()


def retarget(link: Path) -> None:
    link.unlink()
    link.symlink_to("elsewhere")


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_told_from_what_is_none(rig: Rig, what: str) -> None:
    taken = rig.snapshot("s1")
    change, wanted = CHANGES[what]
    change(rig.workspace)
    result = look(rig, taken)
    assert lost(result) == wanted
    assert result.snapshot_id == "s1"


def test_only_the_path_that_a_restore_replaces_counts(rig: Rig) -> None:
    taken = rig.snapshot("s1")
    (rig.workspace / "code.py").write_text("unsaved")
    (rig.workspace / "a/bb").write_text("unsaved too")
    assert lost(look(rig, taken, options={"path": "a/b"})) == NOTHING
    assert lost(look(rig, taken, options={"path": "code.py"})) == (1, 0, ["code.py"])
    assert look(rig, taken, options={"path": "a"}).paths == ["a/bb"]


def test_a_workspace_may_equal_either_of_two_snapshots(rig: Rig) -> None:
    first = rig.snapshot("s1")
    (rig.workspace / "code.py").write_text("second")
    second = rig.snapshot("s2")
    rig.restore(first, rig.workspace, state_dir=str(rig.root / "state"))
    assert lost(look(rig, second)) == (1, 0, ["code.py"])
    result = look(rig, second, first)
    assert lost(result) == NOTHING
    assert result.snapshot_id == "s1"


def test_without_a_snapshot_that_can_be_read_all_that_is_there_would_be_lost(rig: Rig) -> None:
    taken = rig.snapshot("s1")
    files = look(rig).added
    assert files == 9
    manifest = rig.objects / taken.manifest.key
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"x")
    damaged = look(rig, taken)
    assert (damaged.added, damaged.snapshot_id) == (files, "")
    assert "s1" in damaged.unusable[0]
    manifest.unlink()
    assert look(rig, taken).added == files


def test_an_empty_workspace_needs_no_store_at_all(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "only/folders").mkdir(parents=True)
    assert lost(look(rig, manifest=None)) == NOTHING
    assert lost(look(rig, workspace=str(tmp_path / "deleted"))) == NOTHING
    assert not rig.objects.exists()


def test_what_cannot_be_read_is_unknown_and_named(rig: Rig) -> None:
    """Invariant 6."""
    taken = rig.snapshot("s1")
    at = os.open(rig.workspace / "a", os.O_RDONLY)
    for _ in range(30):  # deeper than a path may be long, so that not even root can list it
        os.mkdir("d" * 200, dir_fd=at)
        at, above = os.open("d" * 200, os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    result = look(rig, taken)
    assert [path[:4] for path in result.unreadable] == ["a/dd"]
    assert look(rig, taken, options={"path": "a/" + "d" * 200}).unreadable == result.unreadable
    assert look(rig, taken, options={"path": result.unreadable[0] + "/below"}).unreadable == result.unreadable
    assert look(rig, taken, options={"path": "a/b"}).unreadable == []


def test_unchanged_files_are_not_read_again(rig: Rig, tmp_path: Path) -> None:
    taken = rig.snapshot("s0")
    back = tmp_path / "back"
    rig.restore(taken, back)
    (back / "model.safetensors").chmod(0o644)  # ctime moves: it is read
    state = str(tmp_path / "state of new host")
    os.truncate(back / "disk.img", 64 << 20)  # and so is this one, its holes skipped
    assert lost(look(rig, taken, workspace=str(back), state_dir=state)) == NOTHING


def test_the_command_says_what_would_be_lost_and_ends_well(rig: Rig) -> None:
    taken = rig.snapshot("s1")
    Path(os.fsdecode(os.fsencode(rig.workspace) + b"/also not \xff")).write_bytes(random.Random(1).randbytes(10))
    exit_status, lines = run_command(rig.job("status", "s1", manifest=reference(taken)))
    assert exit_status == 0
    assert lines[-1]["action"] == "status"
    assert lines[-1]["paths"] == ["also not \udcff"]
