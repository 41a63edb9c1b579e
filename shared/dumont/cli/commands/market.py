"""`dumont search` and the filters on offers that it shares with `dumont up`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dumont.cli.output import Cli, common_options

F = TypeVar("F", bound=Callable[..., Any])


def offer_filters(command: F) -> F:
    """The options that say which offers will do. What is not given is left to the API's defaults."""
    for option in reversed(
        (
            click.option("--gpu", metavar="MODEL", help='GPU model, such as "RTX 4090".'),
            click.option("--count", "gpu_count", type=int, metavar="N", help="GPUs per machine. [default: 1]"),
            click.option(
                "--max-price", "max_price_usd_per_hour", type=float, metavar="USD", help="Per hour, GPU and disk."
            ),
            click.option("--min-vram", "min_vram_gib", type=float, metavar="GIB", help="Memory of one GPU."),
            click.option("--min-reliability", type=float, metavar="SHARE", help="0 to 1, as the market measured it."),
            click.option("--min-download", "min_download_mbps", type=float, metavar="MBPS", help="Mbit/s."),
            click.option("--min-cuda", type=float, metavar="VERSION", help="Lowest CUDA version."),
            click.option("--region", metavar="PLACE", help='A country code or a part of the place: "SE", "Quebec".'),
            click.option("--disk", "disk_gb", type=float, metavar="GB", help="Disk to rent. [default: 20]"),
            click.option("--hours", "job_hours", type=float, metavar="H", help="How long the job takes. [default: 1]"),
            click.option("--interruptible", is_flag=True, help="Bid: cheaper, and can be lost at any time."),
            click.option("--unverified", is_flag=True, help="Take hosts that the market has not verified, too."),
        )
    ):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given, by the API's names."""
    fields = {name: value for name, value in options.items() if value is not None and name != "unverified"}
    if not fields.get("interruptible"):
        fields.pop("interruptible", None)
    if options.get("unverified"):
        fields["verified_only"] = False
    return fields


@click.command()
@offer_filters
@click.option("--min-upload", "min_upload_mbps", type=float, metavar="MBPS", help="Mbit/s.")
@click.option("--limit", type=int, metavar="N", help="Show at most so many. [default: 20]")
@common_options
def search(cli: Cli, **options: Any) -> None:
    """Find offers, best first.

    Best is the cheapest to FINISH the job: boot, the host's reliability and its speed count, not the price alone.
    """
    from dumont.cli.views import OFFER_COLUMNS, offer_row

    with cli.client() as client:
        found = client.get("search", **given(options))
    cli.result(found)
    offers = found.get("offers") or []
    if not offers:
        cli.note("no offer passes these filters; loosen one: --max-price, --min-reliability, --region, --unverified")
        return
    cli.table(OFFER_COLUMNS, [offer_row(ranked) for ranked in offers])
    count = found.get("count")
    if isinstance(count, int) and count > len(offers):
        cli.note(f"{len(offers)} of {count} that pass; --limit shows more")
