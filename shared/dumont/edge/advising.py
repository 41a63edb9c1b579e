"""Templates in what callers send, and how advice is shown."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dumont.adapters.shapes import ready
from dumont.domain import templates
from dumont.domain.advisor import Context, Need
from dumont.domain.known_models import Quantisation
from dumont.domain.specs import ModelName
from dumont.edge.http import invalid
from dumont.operations.advising import Advised, Fit


class _Names(msgspec.Struct, frozen=True):
    """The models among the fields of a spec."""

    models: tuple[ModelName, ...] = ()


class TemplateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provision's body says of a template, besides the fields of `MachineSpec`."""

    template: Annotated[str, Meta(extra_json_schema={"enum": [known.name for known in templates.TEMPLATES]})]
    model: ModelName | None = None
    context: Context | None = None
    quantisation: Quantisation | None = None


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """A body with a template as the fields of `MachineSpec`. Raises `InvalidInput` naming the field."""
    names = TemplateRequest.__struct_fields__
    try:
        wish = msgspec.convert({n: v for n, v in fields.items() if n in names}, ready(TemplateRequest))
        # A model's name goes into a command: it is looked at before that, too.
        msgspec.convert({n: v for n, v in fields.items() if n == "models"}, ready(_Names))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    said = {name: value for name, value in fields.items() if name not in names}
    return templates.fill(wish.template, said, model=wish.model, context=wish.context, quantisation=wish.quantisation)


def advice(found: Advised) -> dict[str, Any]:
    """What a model needs, at each quantisation, and the offers that hold it. GiB to the hundredth."""
    known = found.advice
    template = templates.for_advice(known)
    view: dict[str, Any] = {
        "model": known.model.name,
        "repository": known.model.repository,
        "kind": known.model.kind,
        "parameters_billions": round(known.model.parameters, 2),
        "known": known.known,
        "gated": known.model.gated,
        "assumed": list(known.assumed),
        "template": template.name,
        "requests": known.requests,
        "download_gb": round(known.download_gb, 1),
        "disk_gb": found.query.disk_gb,
        "needs": [_need(need) for need in known.needs],
        "offers": [_fit(fit) for fit in found.fits],
    }
    if known.model.kind == "text":
        view |= {"context": known.context, "max_context": known.model.max_context or None}
    if found.unsearched:
        view["unsearched_gpu_counts"] = list(found.unsearched)
    if found.unanswered:
        view["unanswered"] = list(found.unanswered)
    return {name: value for name, value in view.items() if value is not None}


def _need(need: Need) -> dict[str, Any]:
    return {
        "quantisation": need.quantisation,
        "weights_gib": round(need.weights_gib, 2),
        "kv_cache_gib": round(need.kv_cache_gib, 2),
        "overhead_gib": round(need.overhead_gib, 2),
        "need_gib": round(need.need_gib, 2),
        "splits": [{"gpu_count": s.gpu_count, "vram_gib": round(s.vram_gib, 2)} for s in need.splits],
    }


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "quantisation": fit.quantisation,
        "gpu": fit.gpu,
        "gpu_count": fit.gpu_count,
        "vram_gib": fit.vram_gib,
        "needs_vram_gib": round(fit.needs_vram_gib, 2),
        "count": fit.count,
        "usd_per_hour": round(fit.usd_per_hour, 6),
        "usd_per_day": round(fit.usd_per_hour * 24, 4),
        "race_usd_per_hour": round(fit.race_usd_per_hour, 6),
        "offer": msgspec.to_builtins(fit.offer),
    }
