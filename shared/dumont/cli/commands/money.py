"""`dumont cost`, `savings` and `budget`: what was spent, what was saved, and what may be spent."""

from __future__ import annotations

from typing import Any

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import Json
from dumont.cli.output import UNKNOWN, Cli, common_options, money

ACTIONS = ("warn", "stop_new", "hibernate", "destroy_after_snapshot", "destroy")
_COLUMNS = (">total", ">GPU", ">disk", ">traffic", ">snapshots", ">GPU h")


@click.command()
@click.argument("name", type=MachineName(), required=False)
@click.option(
    "--by",
    type=click.Choice(["machine", "day", "gpu", "provider", "kind"]),
    help="What the totals are by. [default: machine; of one machine: kind]",
)
@click.option("--from", "from_", metavar="WHEN", help="From this day or time on. [default: the last 30 days]")
@click.option("--to", metavar="WHEN", help="Until this day or time. [default: now]")
@click.option("--zone", metavar="ZONE", help='The time zone whose days count, such as "Europe/Berlin". [default: UTC]')
@click.option("--reconcile", is_flag=True, help="Compare with the market's own bill, and enter what we did not see.")
@common_options
def cost(
    cli: Cli, name: str | None, by: str | None, from_: str | None, to: str | None, zone: str | None, reconcile: bool
) -> None:
    """Show what was spent.

    GPU, disk, traffic and snapshots, by what --by says; with a NAME on that machine alone. What runs now is counted up
    to now.
    """
    shown_by = by or ("kind" if name else "machine")
    with cli.client() as client:
        if reconcile:
            _show_reconciled(cli, client.post("costs", "reconcile", body={}))
            return
        parameters: dict[str, Any] = {"machine": name, "from": from_, "to": to, "by": shown_by, "zone": zone}
        found = client.get("costs", **parameters)
    cli.result(found)
    view = found.get("costs") or {}
    rows = view.get("totals") or []
    if not rows:
        cli.note("nothing was spent in this time")
        return
    total = view.get("total") or {}
    cli.table((shown_by, *_COLUMNS), [_row(row, str(row.get("key"))) for row in rows] + [_row(total, "all")])
    for field, text in (
        ("accruing_usd", "is of what runs now, and not in the ledger yet"),
        ("estimated_usd", "is estimated (traffic from agents' readings, snapshots by the day)"),
        ("adjusted_usd", "was added by the provider's own bill"),
    ):
        if total.get(field):
            cli.note(f"of it {money(total[field])} {text}")


def _row(total: Json, key: str) -> list[str]:
    fields = ("usd", "gpu_usd", "storage_usd", "bandwidth_usd", "object_store_usd")
    return [key, *(money(total.get(field) or 0.0) for field in fields), f"{total.get('gpu_hours') or 0.0:.2f}"]


def _show_reconciled(cli: Cli, found: Json) -> None:
    cli.result(found)
    for provider in found.get("providers") or []:
        name = provider.get("provider")
        if provider.get("unanswered"):
            cli.say(f"{name}: not compared: {provider['unanswered']}")
            continue
        booked, billed = money(provider.get("booked_usd")), money(provider.get("billed_usd"))
        cli.say(f"{name}: {provider.get('instances')} rentals, {booked} in the ledger, {billed} on the bill")
        differences = provider.get("differences") or []
        if differences:
            cli.table(
                ("rental", "kind", ">ledger", ">bill", "why", "entered"),
                [
                    [str(d.get("instance_id")), str(d.get("kind")), money(d.get("booked_usd")),
                     money(d.get("billed_usd")), str(d.get("why")), "yes" if d.get("entry") else "no"]
                    for d in differences
                ],
            )  # fmt: skip


@click.command()
@click.argument("name", type=MachineName(), required=False)
@click.option("--from", "from_", metavar="WHEN", help="From this day or time on. [default: the last 30 days]")
@click.option("--to", metavar="WHEN", help="Until this day or time. [default: now]")
@common_options
def savings(cli: Cli, name: str | None, from_: str | None, to: str | None) -> None:
    """Show what was saved.

    Against the big clouds' list prices for one GPU of the same class, and against never sleeping: each with its
    formula, and the date and source of the price.
    """
    parameters: dict[str, Any] = {"machine": name, "from": from_, "to": to}
    with cli.client() as client:
        found = client.get("costs", "savings", **parameters)
    cli.result(found)
    view = found.get("savings") or {}
    clouds, sleep = view.get("clouds") or [], view.get("sleep") or []
    if clouds:
        cli.table(
            ("GPU", "against", "whose GPU", ">there", ">saved", "formula", "price of"),
            [
                [str(c.get("gpu")), f"{c.get('cloud')} {c.get('machine_type')}",
                 f"{c.get('cloud_gpu')}{'' if c.get('same_chip') else ' (as much memory)'}",
                 money(c.get("cloud_usd")), money(c.get("saved_usd")), str(c.get("formula")), str(c.get("as_of"))]
                for c in clouds
            ],
        )  # fmt: skip
        for source in sorted({str(c.get("source")) for c in clouds}):
            cli.note(f"source: {source}")
    if sleep:
        cli.say()
        cli.table(
            ("machine", ">always on", ">paid", ">saved", "formula"),
            [
                [str(s.get("machine")), money(s.get("always_on_usd")), money(s.get("paid_usd")),
                 money(s.get("saved_usd")), str(s.get("formula"))]
                for s in sleep
            ],
        )  # fmt: skip
    for gpu in view.get("uncompared") or []:
        cli.note(f"{gpu}: no price of a GPU of its class is known here")
    if not clouds and not sleep:
        cli.note("nothing ran in this time")


@click.group(invoke_without_command=True)
@common_options
def budget(cli: Cli) -> None:
    """Show what may be spent, and what happens then."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        with cli.client() as client:
            _show_budgets(cli, client.get("budgets"))


@budget.command("set")
@click.argument("name", type=MachineName(), required=False)
@click.option("--per-hour", "usd_per_hour", type=float, metavar="USD", help="In any sixty minutes.")
@click.option("--per-day", "usd_per_day", type=float, metavar="USD", help="On each day (UTC).")
@click.option("--total", "usd_total", type=float, metavar="USD", help="In all, from now on.")
@click.option("--action", type=click.Choice(ACTIONS), help="What happens when it is spent. [default: hibernate]")
@click.option("--warn-at", metavar="SHARES", help='When to warn, in percent. [default: "50,80,100"]')
@common_options
def budget_set(
    cli: Cli,
    name: str | None,
    usd_per_hour: float | None,
    usd_per_day: float | None,
    usd_total: float | None,
    action: str | None,
    warn_at: str | None,
) -> None:
    """Set the budget of a machine, or without a NAME of all together.

    All actions but "warn" refuse new rentals while it is spent. "destroy" takes the workspace with it.
    """
    if usd_per_hour is usd_per_day is usd_total is None:
        raise click.UsageError(
            "a budget needs a limit: --per-hour, --per-day or --total; to have none: dumont budget rm"
        )
    body: dict[str, Any] = {
        "machine": name or None,
        "usd_per_hour": usd_per_hour,
        "usd_per_day": usd_per_day,
        "usd_total": usd_total,
        "action": action,
        "warn_at": _shares(warn_at),
    }
    with cli.client() as client:
        _show_budgets(cli, client.post("budgets", body={k: v for k, v in body.items() if v is not None}))


@budget.command("rm")
@click.argument("name", type=MachineName(), required=False)
@common_options
def budget_rm(cli: Cli, name: str | None) -> None:
    """Remove a budget: of a machine, or without a NAME of all.

    Without the one of all together nothing limits them.
    """
    with cli.client() as client:
        _show_budgets(cli, client.delete("budgets", *([name] if name else [])))


def _shares(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part.strip().rstrip("%")) / 100.0 for part in text.split(",") if part.strip()]
    except ValueError:
        raise click.BadParameter("percentages, such as 50,80,100", param_hint="--warn-at") from None


def _show_budgets(cli: Cli, found: Json) -> None:
    cli.result(found)
    rows = []
    for known in found.get("budgets") or []:
        whose = known.get("machine") or "all machines"
        if known.get("is_default"):
            whose += " (default)"
        windows = known.get("windows") or {}
        for window, state in windows.items():
            spent, limit = money(state.get("spent_usd")), money(state.get("limit_usd"), 2)
            share = f"{100 * float(state.get('share') or 0.0):.0f} %"
            then = f"{known.get('action')}{': reached' if window in (known.get('reached') or []) else ''}"
            rows.append([whose, window, spent, limit, share, then])
        if not windows:
            rows.append([whose, UNKNOWN, UNKNOWN, "no limit", UNKNOWN, UNKNOWN])
    cli.table(("of", "per", ">spent at most", ">limit", ">share", "then"), rows)
    for credit in found.get("credit") or []:
        hours = credit.get("hours_left")
        lasts = f", {hours:.0f} h at the present rate" if isinstance(hours, int | float) else ""
        low = " – LOW: at zero it stops everything" if credit.get("low") else ""
        cli.note(f"{credit.get('provider')}: {money(credit.get('credit_usd'), 2)} of credit{lasts}{low}")
