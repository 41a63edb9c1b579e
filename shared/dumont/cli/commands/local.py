"""`dumont local up` and `dumont demo`: everything on one machine, against a simulated market."""

from __future__ import annotations

from pathlib import Path

import click

from dumont.cli.output import Cli, common_options

PORT = click.IntRange(1, 65535)


@click.group()
def local() -> None:
    """Run everything on this machine, against a simulated market."""


PORT = click.IntRange(1, 65_535)


@local.command("up")
@click.option("--port", type=PORT, default=8080, show_default=True, help="The API.")
@click.option("--market-port", type=PORT, default=8090, show_default=True, help="The simulated market.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to keep state; without it, it ends with the process.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0.001, max=100),
    default=1.0,
    show_default=True,
    help="Boots take so much of their real time.",
)
@click.option(
    "--boots",
    type=click.Choice(["fast", "real"]),
    default="fast",
    show_default=True,
    help="Whether every boot ends, or some hosts are slow and some never get there.",
)
@click.option("--emulators", is_flag=True, help="Google's Firestore and Pub/Sub emulators instead of SQLite.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which market, and which luck.")
def local_up(
    port: int, market_port: int, data: Path | None, time_scale: float, boots: str, emulators: bool, seed: int
) -> int:
    """Start the local cloud and stay until Ctrl-C.

    All functions are at http://localhost:PORT/<function>.
    """
    if port == market_port:
        raise click.UsageError("--port and --market-port are the same")
    from dumont.local.cloud import serve

    return serve(
        port=port,
        market_port=market_port,
        data=data,
        time_scale=time_scale,
        emulators=emulators,
        seed=seed,
        boots=boots,
    )


@click.command()
@click.option(
    "--build-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/demo"),
    show_default=True,
    help="Where report.json and report.html go.",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(min=0.001, max=1),
    default=0.1,
    show_default=True,
    help="Boots take so much of their real time.",
)
@common_options
def demo(cli: Cli, build_dir: Path, time_scale: float) -> int:
    """Show the main job on a simulated market.

    From search to confirmed destruction, with a report on the terminal and in BUILD-DIR. Nothing real is rented.
    """
    from dumont.local.demo.run import run_demo

    return run_demo(build_dir=build_dir, time_scale=time_scale, as_json=cli.as_json)
