"""`dumont completion`, and the completion of machines' names."""

from __future__ import annotations

import click

from dumont.cli.errors import CliError
from dumont.cli.output import Cli, common_options

INSTALL = {
    "bash": "dumont completion bash > ~/.local/share/bash-completion/completions/dumont",
    "zsh": 'dumont completion zsh > "${fpath[1]}/_dumont"',
    "fish": "dumont completion fish > ~/.config/fish/completions/dumont.fish",
}


class MachineName(click.ParamType[str]):
    """A machine's name; the shell completes it with the machines that there are."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Not an empty one: `budget rm "$NAME"` without a value would be the budget of all machines together."""
        if not value.strip():
            self.fail("it is empty, and names no machine", param, ctx)
        return value

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 (click's signature)
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        """The names that begin so. Without an API there are none: a shell's line is no place for an error."""
        from dumont.cli.client import DEFAULT_URL, Client

        url = ctx.params.get("url") or DEFAULT_URL
        try:
            with Client(url, timeout_seconds=1.0) as client:
                machines = client.get("machines").get("machines") or []
        except CliError:
            return []
        names = sorted(str(machine.get("name")) for machine in machines)
        return [click.shell_completion.CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
@click.pass_context
def completion(context: click.Context, cli: Cli, shell: str) -> None:
    """Print a shell's completion script."""
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is None:
        raise CliError(f"no completion for {shell}", exit_code=2, code="invalid_input")
    script = maker(context.find_root().command, {}, "dumont", "_DUMONT_COMPLETE").source().strip()
    cli.result({"shell": shell, "install": INSTALL[shell], "script": script})
    # zsh demands its #compdef line first, so the remark comes last; all three shells comment with "#".
    cli.say(f"{script}\n\n# To install: {INSTALL[shell]}")
