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
from dumont.openapi.routes import FunctionRoutes, Raw, Route
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
_OPENAI = shape("OpenAiRequest", "As OpenAI's API has it: `model` says which machine is asked.", model=str)
_JSON = Raw("application/json", "JSON, of whatever shape the other side gives it.")
_NOTHING = Raw("application/octet-stream", "Nothing, or what Slack is to show at once, as JSON.")
_THROUGH = "The answer is the machine's own. One that sleeps is woken; 503 with `Retry-After` says how far it is."

FUNCTIONS = (
    FunctionRoutes(
        "search",
        (
            Route(
                method="GET", summary="Offers, cheapest to finish first", arguments=OfferQuery, answers={200: Offers}
            ),
            Route(method="POST", summary="Offers, cheapest to finish first", body=OfferQuery, answers={200: Offers}),
        ),
    ),
    FunctionRoutes(
        "advisor",
        (
            Route(method="GET", summary="What a model needs", arguments=AdvisorQuery, answers={200: _ADVICE}),
            Route(method="POST", summary="What a model needs", body=AdvisorQuery, answers={200: _ADVICE}),
        ),
    ),
    FunctionRoutes(
        "budgets",
        (
            Route(method="GET", summary="The budgets", answers={200: _BUDGETS}),
            Route(method="POST", summary="Set a budget", body=money.BudgetRequest, answers={200: _BUDGETS}),
            Route(method="DELETE", summary="Remove the budget of all together", answers={200: _BUDGETS}),
            Route(method="DELETE", path="/{machine}", summary="Remove a machine's budget", answers={200: _BUDGETS}),
        ),
    ),
    FunctionRoutes(
        "costs",
        (
            Route(
                method="GET",
                summary="What was spent",
                arguments=money.CostsRequest,
                answers={200: shape("Costs", "What was spent.", costs=Spending)},
            ),
            Route(
                method="GET",
                path="/savings",
                summary="What was saved",
                arguments=money.SavingsRequest,
                answers={200: shape("SavingsAnswer", "What was saved.", savings=Savings)},
            ),
            Route(
                method="GET",
                path="/reconcile",
                summary="Compare our books with the market's bill",
                arguments=money.SpanRequest,
                answers={200: _BILLS},
            ),
            Route(
                method="POST",
                path="/reconcile",
                summary="Compare, and make good what is wrong",
                arguments=money.SpanRequest,
                answers={200: _BILLS},
            ),
        ),
    ),
    FunctionRoutes(
        "audit",
        (
            Route(
                method="GET",
                summary="What was asked to be changed, newest first",
                arguments=audit.ListEntries,
                answers={200: shape("Audit", "The newest entries.", entries=many(shapes.AuditView))},
            ),
        ),
    ),
    FunctionRoutes(
        "heartbeat-check",
        (
            Route(
                method="POST",
                summary="Sweep for deadlines that have passed",
                arguments=sent.SweepRequest,
                answers={200: Swept},
                proof="google",
            ),
        ),
    ),
    FunctionRoutes(
        "heartbeat",
        (
            Route(
                method="POST",
                summary="An agent reports, and learns what it is to do",
                body=Report,
                answers={200: Reply},
                proof="agent",
            ),
        ),
    ),
    FunctionRoutes(
        "agent",
        (
            Route(
                method="GET",
                summary="The program that runs on hosts",
                answers={200: Raw("application/octet-stream", "A Python program; `ETag` is its SHA-256.")},
                proof="none",
            ),
        ),
    ),
    FunctionRoutes(
        "provider-webhook",
        (
            Route(
                method="POST",
                summary="A market tells us something by itself",
                body=_JSON,
                answers={200: Received},
                proof="market",
            ),
        ),
    ),
    FunctionRoutes(
        "slack",
        tuple(
            Route(
                method="POST",
                path=path,
                summary=summary,
                body=Raw(media_type, "As Slack sends it."),
                answers={200: (_JSON, _NOTHING)},
                proof="slack",
                refusals=(403,),
            )
            for path, summary, media_type in (
                ("/commands", "`/dumont …`", "application/x-www-form-urlencoded"),
                ("/actions", "A button", "application/x-www-form-urlencoded"),
                ("/events", "An event", "application/json"),
            )
        ),
    ),
    FunctionRoutes(
        "gateway",
        (
            Route(
                method="POST",
                path="/{name}/token",
                summary="A token for a machine's ports",
                body=TokenRequest,
                body_may_be_absent=True,
                answers={200: shapes.GatewayToken},
                says="For an operator's API key: a token begets none.",
            ),
            *(
                Route(
                    method=method,
                    path="/{name}/{port}/{path}",
                    summary="A machine's port, passed through",
                    body=Raw("*/*", "Whatever the machine takes.") if method in ("POST", "PUT", "PATCH") else None,
                    body_may_be_absent=True,
                    answers={},
                    proof="gateway",
                    says=_THROUGH,
                )
                for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
            ),
        ),
        any_path=True,
    ),
    FunctionRoutes(
        "v1",
        (
            Route(
                method="GET",
                path="/models",
                summary="The models that machines declare",
                answers={200: shape("Models", "In OpenAI's shape.", object=Literal["list"], data=many(shapes.Model))},
                proof="gateway",
                fault=shapes.OpenAiError,
            ),
            Route(
                method="GET",
                path="/models/{model}",
                summary="One model",
                answers={200: shapes.Model},
                proof="gateway",
                fault=shapes.OpenAiError,
            ),
            *(
                Route(
                    method="POST",
                    path=f"/{path}",
                    summary=f"OpenAI's `{path}`, answered by the machine that declares the model",
                    body=_OPENAI,
                    answers={},
                    proof="gateway",
                    fault=shapes.OpenAiError,
                    says=_THROUGH,
                )
                for path in ("chat/completions", "completions", "embeddings")
            ),
        ),
    ),
)
