"""`dumont advise`: how much GPU memory a model needs, and what the GPUs that have it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dumont.cli.commands.templates import context_option, quantisation_option
from dumont.cli.errors import Json
from dumont.cli.output import Cli, common_options, money, number
from dumont.cli.views import gpu_text

F = TypeVar("F", bound=Callable[..., Any])


def advice_options(command: F) -> F:
    """How a model is to be served, and which offers will do. What is not given is left to the API's defaults."""
    for option in reversed(
        (
            click.option(
                "--requests", type=click.IntRange(1, 10_000), metavar="N", help="So many at once. [default: 1]"
            ),
            click.option("--gpu", metavar="MODEL", help="This GPU alone."),
            click.option("--count", "gpu_count", type=click.IntRange(1, 64), metavar="N", help="So many GPUs alone."),
            click.option(
                "--max-price", "max_price_usd_per_hour", type=float, metavar="USD", help="Per hour, GPU and disk."
            ),
            click.option("--min-reliability", type=float, metavar="SHARE", help="0 to 1. [default: 0.95]"),
            click.option("--region", metavar="PLACE", help='A country code or a part of the place: "SE", "Quebec".'),
            click.option("--disk", "disk_gb", type=float, metavar="GB", help="[default: what the model's files take]"),
            click.option("--unverified", is_flag=True, help="Hosts that the market has not verified, too."),
        )
    ):
        command = option(command)
    return context_option(quantisation_option(command))


def asked(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """The question to the API."""
    parameters = {name: value for name, value in options.items() if value is not None and name != "unverified"}
    if options.get("unverified"):
        parameters["verified_only"] = False
    return {"model": model, **parameters}


@click.command()
@click.argument("model", nargs=-1, required=True)
@advice_options
@click.option("--limit", type=click.IntRange(1, 100), metavar="N", help="Kinds of GPU per quantisation. [default: 5]")
@common_options
def advise(cli: Cli, model: tuple[str, ...], **options: Any) -> None:
    """Say which GPU a model needs, and what it costs.

    Any name will do: `dumont advise llama 7b`, or a repository of huggingface.co, or a GGUF name of Ollama's. Memory is
    weights, cache for the context, and overhead; what had to be assumed is said.
    """
    with cli.client() as client:
        found = client.get("advisor", **asked(" ".join(model), options))
    cli.result(found)
    advice: Json = found.get("advice") or {}
    say_model(cli, advice)
    cli.table(
        ("weights in", ">weights", ">cache", ">overhead", ">needs", "GPUs × memory of each"), [
            [
                str(need.get("quantisation")),
                *(number(need.get(part), 1, " GiB") for part in ("weights_gib", "kv_cache_gib", "overhead_gib",
                                                                "need_gib")),
                ", ".join(f"{s.get('gpu_count')} × {number(s.get('vram_gib'), 1)}" for s in need.get("splits") or []),
            ]
            for need in advice.get("needs") or []
        ],
    )  # fmt: skip
    offers = advice.get("offers") or []
    cli.say()
    if offers:
        cli.table(
            ("weights in", "gpu", ">memory", ">$/h", ">$/day", ">offers", "cheapest in"),
            [
                [
                    str(fit.get("quantisation")),
                    gpu_text(fit),
                    number(fit.get("vram_gib"), unit=" GiB"),
                    money(fit.get("usd_per_hour")),
                    money(fit.get("usd_per_day"), 2),
                    number(fit.get("count")),
                    str((fit.get("offer") or {}).get("region") or ""),
                ]
                for fit in offers
            ],
        )
        if advice.get("template") != "comfyui":
            cli.note(f"`dumont deploy {' '.join(model)}` rents the cheapest and serves it")
    else:
        cli.note("no offer holds it under these conditions")
    say_unheard(cli, advice)


def say_model(cli: Cli, advice: Json) -> None:
    """Which model was understood, and what was assumed."""
    size = number(advice.get("parameters_billions"), 2)
    context = f", {advice['context']} tokens of context" if advice.get("context") else ""
    cli.say(
        f"{advice.get('model')}: {size} billion parameters{context}, {number(advice.get('download_gb'))} GB to fetch"
    )
    for assumption in advice.get("assumed") or []:
        cli.note(f"assumed: {assumption}")


def say_unheard(cli: Cli, advice: Json) -> None:
    """What was not looked at: an offer that is not shown may be there all the same."""
    counts = advice.get("unsearched_gpu_counts") or []
    if counts:
        cli.note(f"no market answered about offers of {' or '.join(map(str, counts))} GPUs: try again")
    for market in advice.get("unanswered") or []:
        cli.note(f"{market} did not answer: its offers are missing")
