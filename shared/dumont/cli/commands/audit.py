"""`dumont audit`: who changed what."""

from __future__ import annotations

import click

from dumont.cli.output import Cli, common_options, moment, text_of

COLUMNS = ("WHEN", "WHO", "FROM", "WHAT", "ABOUT", "OUTCOME", "BECAME")


@click.command()
@click.option("--who", metavar="KEY", help="Of one API key alone, by its id: the middle of dmt_ID_….")
@click.option("--limit", type=int, default=20, show_default=True, metavar="N", help="At most so many.")
@common_options
def audit(cli: Cli, who: str | None, limit: int) -> None:
    """Show who changed what.

    Newest first; by whom, from where, and how it was answered.
    """
    with cli.client() as client:
        found = client.get("audit", who=who, limit=limit)
    cli.result(found)
    listed = found.get("entries") or []
    if not listed:
        cli.note("nothing was changed")
        return
    rows = [
        [
            moment(entry.get("at")),
            f"{text_of(entry.get('name'))} ({text_of(entry.get('who'))})",
            text_of(entry.get("address")),
            text_of(entry.get("what")) + (f" × {entry['count']}" if "count" in entry else ""),
            text_of(entry.get("about")),
            f"{entry.get('status')} {entry.get('code', '')}".strip(),
            text_of(entry.get("made")),
        ]
        for entry in listed
    ]
    cli.table(COLUMNS, rows)
