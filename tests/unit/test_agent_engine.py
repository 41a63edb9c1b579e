"""The agent and the snapshot engine's runs: the newest counts, and its end is news once."""

from __future__ import annotations

from pathlib import Path

from dumont.agent.host.engine import Engine


def begun(home: Path, name: str) -> Path:
    folder = home / ".dumont" / "runs" / name
    folder.mkdir(parents=True)
    return folder


def test_where_the_engine_never_ran_there_is_nothing_to_tell(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    assert not engine.look()
    assert engine.report() is None


def test_the_end_of_a_run_is_news_once(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    run = begun(tmp_path, "op-1-snapshot-snap-1-1")
    assert not engine.look()
    assert engine.report() == {"run": "op-1-snapshot-snap-1-1", "ended": False}
    (run / "status").write_text("0\n")
    assert engine.look()
    assert engine.report() == {"run": "op-1-snapshot-snap-1-1", "ended": True}
    assert not engine.look(), "it was told"


def test_a_later_run_takes_the_place_of_the_first_however_the_first_goes_on(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    first = begun(tmp_path, "z-first")
    assert not engine.look()
    begun(tmp_path, "a-second")
    assert not engine.look()
    (first / "status").write_text("0\n")
    assert not engine.look()
    assert engine.report() == {"run": "a-second", "ended": False}
