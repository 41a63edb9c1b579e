"""`dumont deploy`: a model served in OpenAI's shape, on the cheapest GPU that holds it."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import click

from dumont.cli.commands.advise import advice_options, asked, say_model, say_unheard
from dumont.cli.commands.sleeping import length_seconds
from dumont.cli.errors import USAGE, CliError, Json
from dumont.cli.output import Cli, common_options, money, number
from dumont.cli.views import gpu_text

SERVING_SECONDS = 1800.0
_NAME_CHARACTERS = 40
_MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")


@click.command()
@click.argument("model", nargs=-1, required=True)
@click.option("--name", metavar="NAME", help="What the machine is called. [default: after the model]")
@advice_options
@click.option("--run", metavar="COMMAND", help="Serve it by this, instead of by vLLM or Ollama.")
@click.option("--health", metavar="CHECK", help='How its health is looked at: "http:8000/health".')
@click.option("--port", "model_port", type=click.IntRange(1, 65535), metavar="PORT", help="Where it serves.")
@click.option("--image", metavar="IMAGE", help="Another container image.")
@click.option("--sleep-after", metavar="TIME", help='Sleep after so long without a request. [default: 15m; "never"]')
@click.option("--race", "race_width", type=click.IntRange(1, 5), metavar="N", help="Rent so many at once. [default: 3]")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=SERVING_SECONDS, show_default=True,
              metavar="S", help="How long to wait until it serves.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def deploy(
    cli: Cli,
    model: tuple[str, ...],
    name: str | None,
    run: str | None,
    health: str | None,
    model_port: int | None,
    image: str | None,
    sleep_after: str | None,
    race_width: int | None,
    wait_seconds: float,
    yes: bool,
    detach: bool,
    **options: Any,
) -> None:
    """Serve a model on the cheapest GPU that holds it.

    Shows what it will rent and what that costs, and asks. Then the model answers at DUMONT_URL/v1, in OpenAI's shape;
    after a quarter of an hour without a request the machine sleeps, and the next request wakes it.
    """
    from dumont.cli.follow import failure, follow
    from dumont.cli.keys import ensure_key
    from dumont.cli.serving import until_serving

    wanted = " ".join(model)
    with cli.client() as client:
        answer = client.get("advisor", **asked(wanted, options | {"limit": 100}))
        advice: Json = answer.get("advice") or {}
        say_model(cli, advice)
        served = _served_name(wanted, advice, run)
        fit = _pick(cli, advice, options.get("quantisation"), wanted, has_command=run is not None)
        named = name or _machine_name(served)
        body = {
            "name": named,
            "template": advice.get("template"),
            "model": served,
            "models": _names(wanted, served),
            "context": advice.get("context"),
            "quantisation": fit.get("quantisation"),
            "run": run,
            "health": health,
            "model_port": model_port,
            "image": image,
            "race_width": race_width,
            "idle_after_minutes": length_seconds(sleep_after) / 60.0 if sleep_after not in (None, "never") else None,
            **_offers_wanted(fit, advice, options),
            "ssh_public_keys": [ensure_key()[1]],
        }
        body = {field: value for field, value in body.items() if value is not None}
        if sleep_after == "never":
            body["idle_after_minutes"] = None
        _agree(cli, named, served, advice, fit, body, yes=yes)
        accepted = client.post("provision", body=body)
        operation: Json = accepted.get("operation") or {}
        if detach:
            cli.result({"advice": advice, "fit": fit, **accepted})
            cli.say(f"{named} is on its way: watch it with `dumont operation {operation.get('id')} --watch`")
            return
        operation = follow(cli, client, operation)
        machine = client.machine(named)
        error = failure(operation, machine)
        if error is not None:
            raise error
        machine = until_serving(cli, client, named, wait_seconds, gated=bool(advice.get("gated")) and run is None)
    base_url = f"{cli.url}/v1"
    cli.result({"machine": machine, "operation": operation, "fit": fit, "model": served, "base_url": base_url})
    _say_how(cli, named, served, base_url, machine)


def _served_name(wanted: str, advice: Json, run: str | None) -> str:
    """The name by which the program is told what to load. Raises `CliError` where nothing says which files."""
    if advice.get("template") == "comfyui":
        raise CliError(
            f"{advice.get('model')} makes pictures: it has no chat to serve",
            exit_code=USAGE,
            code="invalid_input",
            hint="dumont up NAME --template comfyui",
        )
    from dumont.domain.known_models import quantisation_in

    ollama = advice.get("template") == "ollama"
    if "/" in wanted or (ollama and ":" in wanted):
        served = wanted
    else:
        # What lies at the model's own repository is not quantised: it would not fit what was reckoned.
        served = "" if ollama or quantisation_in(wanted) is not None else str(advice.get("repository") or "")
    if ollama and "/" in wanted and "gguf" in wanted.casefold() and not wanted.startswith("hf.co/"):
        served = f"hf.co/{wanted}"  # as Ollama names what lies on huggingface.co
    if run is not None and not served:
        served = re.sub(r"[^A-Za-z0-9._:/@+-]+", "-", wanted).strip("-._:/@+")
    if not _MODEL_NAME.match(served):
        raise CliError(
            f"{wanted} says which model it is, and not where its files are",
            exit_code=USAGE,
            code="invalid_input",
            hint="name the repository on huggingface.co, OWNER/NAME; or as Ollama does, NAME:TAG",
        )
    return served


def _names(wanted: str, served: str) -> list[str]:
    """What callers may call it: as it is named where its files are, and as it was asked for."""
    return list(dict.fromkeys([served, wanted] if _MODEL_NAME.match(wanted) else [served]))


def _machine_name(served: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", served.split("/")[-1].casefold()).strip("-")
    return (name if name[:1].isalpha() else f"m-{name}")[:_NAME_CHARACTERS].strip("-")


def _pick(cli: Cli, advice: Json, quantisation: str | None, wanted: str, *, has_command: bool) -> Json:
    """The cheapest kind of GPU that holds the model, at the quantisation that was asked for: else the model's own."""
    from dumont.domain import templates
    from dumont.domain.errors import InvalidInput

    needs = advice.get("needs") or [{}]
    chosen = quantisation if any(n.get("quantisation") == quantisation for n in needs) else needs[0].get("quantisation")
    if not has_command:
        try:
            templates.check(templates.named(advice.get("template")), wanted, None, chosen)  # type: ignore[arg-type]
        except InvalidInput as error:
            raise CliError(str(error), exit_code=USAGE, code=error.code, hint=error.hint) from None
    fits = advice.get("offers") or []
    for fit in fits:
        if fit.get("quantisation") == chosen:
            found: Json = fit
            return found
    say_unheard(cli, advice)
    other = fits[0] if fits else None
    need = next((n for n in needs if n.get("quantisation") == chosen), needs[0])
    raise CliError(
        f"no offer holds {advice.get('model')} in {chosen} ({number(need.get('need_gib'), 1)} GiB) as asked",
        code="no_offers",
        safe="Nothing was rented.",
        hint=f"in {other.get('quantisation')} a {gpu_text(other)} at {money(other.get('usd_per_hour'))}/h does: "
        f"--quantisation {other.get('quantisation')}"
        if other
        else "raise --max-price, or look with `dumont advise`",
    )


def _offers_wanted(fit: Json, advice: Json, options: dict[str, Any]) -> Json:
    """What is asked of offers: the kind that was chosen, at no more than what is agreed to."""
    fields: Json = {
        "gpu": fit.get("gpu"),
        "gpu_count": fit.get("gpu_count"),
        "min_vram_gib": fit.get("needs_vram_gib"),
        "max_price_usd_per_hour": _ceiling(fit, options),
        "disk_gb": advice.get("disk_gb"),
        "min_reliability": options.get("min_reliability"),
        "region": options.get("region"),
    }
    if options.get("unverified"):
        fields["verified_only"] = False
    return fields


def _ceiling(fit: Json, options: dict[str, Any]) -> float:
    """The most that an hour may cost: what the dearest racer does, and never more than was allowed."""
    dearest = math.ceil(float(fit.get("race_usd_per_hour") or 0.0) * 1e4) / 1e4
    allowed = options.get("max_price_usd_per_hour")
    return dearest if allowed is None else min(dearest, float(allowed))


def _agree(cli: Cli, name: str, served: str, advice: Json, fit: Json, body: Json, *, yes: bool) -> None:
    """Show what will be rented, and ask. Raises `CliError` for no, and where nobody can be asked."""
    ceiling = float(body["max_price_usd_per_hour"])
    at_least = float(fit.get("usd_per_hour") or 0.0)
    price = f"{money(at_least)}/h" + (f" to {money(ceiling)}/h" if ceiling > at_least + 1e-4 else "")
    memory = f"{number(fit.get('vram_gib'))} GiB each, {number(fit.get('needs_vram_gib'), 1)} needed"
    cli.say(
        f"{name}: {gpu_text(fit)} ({memory}), {number(body.get('disk_gb'))} GB of disk, "
        f"at {price} (at most {money(ceiling * 24, 2)} a day)"
    )
    cli.say(
        f"  serves {served} in {fit.get('quantisation')}, {advice.get('context')} tokens, by {advice.get('template')}"
    )
    if yes or cli.as_json:
        return
    if not sys.stdin.isatty():
        raise CliError(
            "nobody is here to agree to that", exit_code=USAGE, code="not_confirmed", hint="--yes agrees to it"
        )
    if not click.confirm("rent it?", err=True):
        raise CliError("nothing was rented", exit_code=USAGE, code="not_confirmed")


def _say_how(cli: Cli, name: str, served: str, base_url: str, machine: Json) -> None:
    cost = money(machine.get("cost_usd"))
    cli.say(f"{name} serves {served} at {money(machine.get('price_usd_per_hour'))}/h, {cost} so far")
    cli.say(f"""
  export OPENAI_BASE_URL={base_url} OPENAI_API_KEY="$(dumont gateway token {name})"

  curl $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "{served}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  python3 -c 'from openai import OpenAI; print(OpenAI().chat.completions.create(
    model="{served}", messages=[{{"role": "user", "content": "Hello"}}]).choices[0].message.content)'

  dumont down {name} --discard         when you are done""")
