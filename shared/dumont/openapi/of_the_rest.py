"""The routes of the functions about offers, models, money and people; and of those that agents and markets call."""

from __future__ import annotations

from typing import Literal

from dumont.domain.heartbeats import Reply, Report
from dumont.domain.notices import Received
from dumont.domain.offers import OfferQuery
from dumont.domain.savings import Savings
from dumont.edge import audit, money
from dumont.edge import requests as sent
from dumont.edge.gateway.serve import TokenRequest
from dumont.openapi import shapes
from dumont.openapi.routes import Raw, Route
from dumont.openapi.shapes import many, shape
from dumont.operations.advising import AdvisorQuery
from dumont.operations.look import Offers
from dumont.operations.reconcile import Reconciled
from dumont.operations.spending import Spending
from dumont.operations.sweep import Swept

_BUDGETS = shape(
    "Budgets",
    "The budgets, how each stands, and the credit that is left.",
    budgets=many(shapes.BudgetView),
    credit=many(shapes.CreditView),
)
_ADVICE = shape("AdviceAnswer", "What a model needs, and what holds it.", advice=shapes.Advice)
_BILLS = shape("Bills", "Each provider's bill against our books.", providers=list[Reconciled])
_COSTS = shape("Costs", "What was spent.", costs=Spending)
_SAVINGS = shape("SavingsAnswer", "What was saved.", savings=Savings)
_AUDIT = shape("Audit", "The newest entries.", entries=many(shapes.AuditView))
_MODELS = shape("Models", "In OpenAI's shape.", object=Literal["list"], data=many(shapes.Model))
_OPENAI = shape("OpenAiRequest", "As OpenAI's API has it: `model` says which machine is asked.", model=str)
_JSON = Raw("application/json", "JSON, of whatever shape the other side gives it.")
_NOTHING = Raw("application/octet-stream", "Nothing, or what Slack is to show at once, as JSON.")
_THROUGH = "The answer is the machine's own. One that sleeps is woken; 503 with `Retry-After` says how far it is."

FUNCTIONS: dict[str, tuple[Route, ...]] = {
    "search": (
        Route("GET", "", "Offers, cheapest to finish first", {200: Offers}, arguments=OfferQuery),
        Route("POST", "", "Offers, cheapest to finish first", {200: Offers}, body=OfferQuery),
    ),
    "advisor": (
        Route("GET", "", "What a model needs", {200: _ADVICE}, arguments=AdvisorQuery),
        Route("POST", "", "What a model needs", {200: _ADVICE}, body=AdvisorQuery),
    ),
    "budgets": (
        Route("GET", "", "The budgets", {200: _BUDGETS}),
        Route("POST", "", "Set a budget", {200: _BUDGETS}, body=money.BudgetRequest),
        Route("DELETE", "", "Remove the budget of all together", {200: _BUDGETS}),
        Route("DELETE", "/{machine}", "Remove a machine's budget", {200: _BUDGETS}),
    ),
    "costs": (
        Route("GET", "", "What was spent", {200: _COSTS}, arguments=money.CostsRequest),
        Route("GET", "/savings", "What was saved", {200: _SAVINGS}, arguments=money.SavingsRequest),
        Route(
            "GET", "/reconcile", "Compare our books with the market's bill", {200: _BILLS}, arguments=money.SpanRequest
        ),
        Route("POST", "/reconcile", "Compare, and make good what is wrong", {200: _BILLS}, arguments=money.SpanRequest),
    ),
    "audit": (
        Route("GET", "", "What was asked to be changed, newest first", {200: _AUDIT}, arguments=audit.ListEntries),
    ),
    "heartbeat-check": (
        Route(
            "POST",
            "",
            "Sweep for deadlines that have passed",
            {200: Swept},
            arguments=sent.SweepRequest,
            proof="google",
        ),
    ),
    "heartbeat": (
        Route("POST", "", "An agent reports, and learns what it is to do", {200: Reply}, body=Report, proof="agent"),
    ),
    "agent": (
        Route(
            "GET",
            "",
            "The program that runs on hosts",
            {200: Raw("application/octet-stream", "A Python program; `ETag` is its SHA-256.")},
            proof="none",
        ),
    ),
    "provider-webhook": (
        Route("POST", "", "A market tells us something by itself", {200: Received}, body=_JSON, proof="market"),
    ),
    "slack": tuple(
        Route(
            "POST",
            path,
            summary,
            {200: (_JSON, _NOTHING)},
            body=Raw(media_type, "As Slack sends it."),
            proof="slack",
        )
        for path, summary, media_type in (
            ("/commands", "`/dumont …`", "application/x-www-form-urlencoded"),
            ("/actions", "A button", "application/x-www-form-urlencoded"),
            ("/events", "An event", "application/json"),
        )
    ),
    "gateway": (
        Route(
            "POST",
            "/{name}/token",
            "A token for a machine's ports",
            {200: shapes.GatewayToken},
            body=TokenRequest,
            body_may_be_absent=True,
            says="For an operator's API key: a token begets none.",
        ),
        *(
            Route(
                method,
                "/{name}/{port}/{path}",
                "A machine's port, passed through",
                {},
                body=Raw("*/*", "Whatever the machine takes.") if method in ("POST", "PUT", "PATCH") else None,
                body_may_be_absent=True,
                proof="gateway",
                says=_THROUGH,
            )
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        ),
    ),
    "v1": (
        Route(
            "GET",
            "/models",
            "The models that machines declare",
            {200: _MODELS},
            proof="gateway",
            fault=shapes.OpenAiError,
        ),
        Route("GET", "/models/{model}", "One model", {200: shapes.Model}, proof="gateway", fault=shapes.OpenAiError),
        *(
            Route(
                "POST",
                f"/{path}",
                f"OpenAI's `{path}`, answered by the machine that declares the model",
                {},
                body=_OPENAI,
                proof="gateway",
                fault=shapes.OpenAiError,
                says=_THROUGH,
            )
            for path in ("chat/completions", "completions", "embeddings")
        ),
    ),
}
