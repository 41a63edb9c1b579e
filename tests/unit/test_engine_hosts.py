"""A workspace that moves, files that cannot be read, and what the engine's command says of it all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from dumont.agent.engine import diff, list_files
from dumont.agent.engine.errors import BadJob, NoSpace
from dumont.agent.engine.manifest import Entry
from dumont.agent.engine.restore import check_space
from dumont.agent.engine.snapshot import RACY_NS
from tests.engine_rig import KEY, Rig, as_json, picture, reference, run_command


def test_a_file_that_never_rests_is_named_and_the_snapshot_is_not_complete(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "calm").write_bytes(b"calm")
    log = rig.workspace / "log"
    log.write_bytes(bytes(8 << 20))
    over = threading.Event()

    def write() -> None:
        with log.open("r+b", buffering=0) as out:
            for number in itertools.count():
                out.seek(number % 1000)
                out.write(b"%d" % number)
                if over.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        taken = rig.snapshot("s1")
    finally:
        over.set()
        writer.join()
    assert taken.torn == ["log"]
    assert not taken.complete
    assert rig.restore(taken, tmp_path / "back").complete is False
    assert (tmp_path / "back/calm").read_bytes() == b"calm"
    assert rig.snapshot("s2").complete


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "open").write_bytes(b"open")
    (rig.workspace / "closed").write_bytes(b"closed")
    (rig.workspace / "closed").chmod(0)
    (rig.workspace / "shut").mkdir(mode=0)
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o777)
    os.seteuid(65534)
    try:
        taken = rig.snapshot("s1")
    finally:
        os.seteuid(0)
    assert not taken.complete
    assert sorted(item["path"] for item in taken.unreadable) == ["closed", "shut"]
    rig.restore(taken, tmp_path / "back")
    assert (tmp_path / "back/open").read_bytes() == b"open"


def test_what_differs_between_two_snapshots_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for name in ("same", "changed", "removed", "touched"):
        (rig.workspace / name).write_bytes(name.encode())
    first = rig.snapshot("s1")
    (rig.workspace / "changed").write_bytes(b"other")
    (rig.workspace / "removed").unlink()
    (rig.workspace / "touched").chmod(0o600)
    (rig.workspace / "added").write_bytes(b"added")
    second = rig.snapshot("s2")
    told = diff(rig.job("diff", "s1", manifest=reference(first), other=reference(second), other_snapshot_id="s2"))
    assert (told.added, told.removed, told.changed) == (["added"], ["removed"], ["changed"])
    assert "touched" in told.touched
    assert "same" not in told.touched
    listed = list_files(rig.job("list", "s2", manifest=reference(second), options={"path": "changed"}))
    assert [(row["path"], row["md5"]) for row in listed.entries] == [("changed", "795f3202b17cb6bc3d4b771d8c6c9eaf")]


def test_each_file_has_its_md5_however_large_and_keeps_it_while_it_does_not_change(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    contents = {"large": random.Random(1).randbytes(17 << 20), "small": b"content", "empty": b""}
    expected = {}
    for name, content in contents.items():
        (rig.workspace / name).write_bytes(content)
        os.utime(rig.workspace / name, (1, 1))
        expected[name] = hashlib.md5(content).hexdigest()  # noqa: S324 - what md5sum shows

    def md5s(snapshot_id: str, **options: object) -> tuple[dict[str, str], int]:
        taken = rig.snapshot(snapshot_id, options=options)
        listed = list_files(rig.job("list", snapshot_id, manifest=reference(taken)))
        return {row["path"]: row["md5"] for row in listed.entries if row["type"] == "f"}, taken.bytes_read

    newest = max(path.stat().st_ctime_ns for path in rig.workspace.iterdir())
    while time.time_ns() - newest <= RACY_NS:  # a younger file is read again in any case
        os.sched_yield()
    assert md5s("s1", md5="small")[0] == {**expected, "large": ""}
    assert md5s("s2") == (expected, len(contents["large"]))
    assert md5s("s3") == (expected, 0)


def test_the_command_answers_in_lines_and_its_status_is_true(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "file").write_bytes(b"content")
    status, lines = run_command(rig.job("snapshot", "s1"))
    assert (status, lines[-1]["event"], lines[-1]["action"]) == (0, "result", "snapshot")
    manifest = {name: lines[-1]["manifest"][name] for name in ("key", "sha256")}
    job = json.loads(as_json(rig.job("verify", "s1")))
    status, lines = run_command(json.dumps({**job, "manifest": manifest}))
    assert (status, lines[-1]["ok"]) == (0, True)
    rig.packs()[0].write_bytes(b"")
    status, lines = run_command(json.dumps({**job, "manifest": manifest}))
    assert (status, lines[-1]["ok"], lines[-1]["damage"][0]["files"]) == (3, False, ["file"])
    status, lines = run_command(json.dumps({**job, "action": "restore", "manifest": manifest}))
    assert (status, lines[-1]["event"], lines[-1]["code"]) == (1, "error", "damaged")
    assert lines[-1]["files"] == ["file"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"action": "erase"}, "action"),
        ({"data_key": "c2hvcnQ="}, "data_key"),
        ({"data_key": "no base64!"}, "data_key"),
        ({"workspace": "relative"}, "workspace"),
        ({"prefix": "../up/"}, "prefix"),
        ({"snapshot_id": "a/b"}, "snapshot_id"),
        ({"store": {"kind": "tape"}}, "store"),
        ({"surprise": 1}, "surprise"),
        ({"options": {"surprise": 1}}, "surprise"),
        ({"workspace": "/nowhere/at/all"}, "workspace"),
    ],
)
def test_a_job_that_cannot_be_is_refused_without_quoting_it(
    change: dict[str, object], word: str, tmp_path: Path
) -> None:
    job = json.loads(as_json(Rig(tmp_path).job("snapshot", "s1")))
    status, lines = run_command(json.dumps({**job, **change}))
    assert (status, lines[-1]["code"]) == (1, "bad_job")
    assert word in lines[-1]["message"]
    assert job["data_key"] not in json.dumps(lines)


def test_standard_input_that_is_no_job_is_refused() -> None:
    for text in ("", "[]", "{}", "not json"):
        status, lines = run_command(text)
        assert (status, lines[-1]["event"], lines[-1]["code"]) == (1, "error", "bad_job")


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    shown = repr(rig.job("snapshot", "s1"))
    assert repr(KEY) not in shown
    assert "secret" not in shown.replace("secret=", "")


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    taken = rig.snapshot("s1")
    free = os.statvfs(tmp_path)
    huge = Entry("file", "f", size=free.f_blocks * free.f_frsize)
    with pytest.raises(NoSpace):
        check_space(os.fsencode(tmp_path), huge.size, [huge])
    check_space(os.fsencode(tmp_path), 0, [Entry("file", "f")])
    assert taken.complete


def test_a_path_that_the_snapshot_does_not_have_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (rig.workspace / "file").write_bytes(b"content")
    taken = rig.snapshot("s1")
    before = picture(rig.workspace)
    with pytest.raises(BadJob):
        rig.restore(taken, rig.workspace, options={"path": "other"})
    assert picture(rig.workspace) == before
