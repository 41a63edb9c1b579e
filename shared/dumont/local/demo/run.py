"""Runs the demo: a local cloud of its own, the job, the end of the cloud, the report."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import msgspec

from dumont.cli.client import DEFAULT_URL, Client
from dumont.cli.errors import FAILED, OK, CliError
from dumont.cli.output import Cli
from dumont.local.demo.cloud import LocalCloud, free_ports, kill, market
from dumont.local.demo.job import Job
from dumont.local.demo.recording import Check
from dumont.local.demo.render_html import render_html
from dumont.local.demo.report import Report, build


def run_demo(*, build_dir: Path, time_scale: float, as_json: bool) -> int:
    """Do the job and report on it; 0 if every check held, else 1. Leaves two files in `build_dir`, nothing running."""
    cli = Cli(as_json=as_json, url=DEFAULT_URL)
    cli.note(f"Dumont demo on a SIMULATED market: nothing real is rented; boots take {time_scale:g} of their time")
    signal.signal(signal.SIGTERM, _stop)  # so that the local cloud is ended in that case, too
    report = _recorded(cli, time_scale)
    build_dir.mkdir(parents=True, exist_ok=True)
    data, page = build_dir / "report.json", build_dir / "report.html"
    data.write_text(as_document(report), encoding="utf-8")
    page.write_text(render_html(report), encoding="utf-8")
    if as_json:
        click.echo(data.read_text(encoding="utf-8"), nl=False)
    else:
        from dumont.local.demo.render_terminal import print_report

        print_report(report, paths=(f"report: {page}", f"data:   {data}"))
    return OK if report.ok else FAILED


def _recorded(cli: Cli, time_scale: float) -> Report:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dumont-demo-") as folder:
        cloud = LocalCloud(Path(folder), time_scale=time_scale)
        with cloud:
            cli.note(f"→ local cloud at {cloud.url}, market at {cloud.market_url}: {time.monotonic() - began:.1f} s")
            with Client(cloud.url, cloud.key()) as client:
                job = Job(
                    cli,
                    client,
                    market=lambda path: market(cloud.market_url, path),
                    kill=lambda label: kill(cloud.market_url, label),
                    config_folder=cloud.config_folder,
                    port=free_ports(1)[0],
                )
                _run(job, cli, cloud)
            recording = job.recording(demo_seconds=0.0, time_scale=time_scale)
            left = cloud.stop()
        checks = (*recording.checks, Check(name="nothing is left running", ok=not left, seen=", ".join(left)))
    return build(msgspec.structs.replace(recording, checks=checks, demo_seconds=time.monotonic() - began))


def _run(job: Job, cli: Cli, cloud: LocalCloud) -> None:
    try:
        job.run()
        job.check("the job ran to its end", True)
    except CliError as error:
        words = [error.detail, error.safe, error.hint]
        job.check("the job ran to its end", False, " ".join(word for word in words if word))
        for line in cloud.last_words():
            cli.note(f"    cloud: {line}")


def as_document(report: Report) -> str:
    """The report as JSON: `steps[{name, seconds, cost_usd, …}]`, `checks[{name, ok, …}]`, totals, and the rest."""
    return json.dumps(msgspec.to_builtins(report), ensure_ascii=False, indent=2) + "\n"


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)
