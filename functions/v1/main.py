"""`/v1/chat/completions`, `/v1/models`, …: OpenAI's API in front of the models that machines declare."""

from typing import Any

import functions_framework

from dumont.edge.gateway import openai


@functions_framework.http
def v1(request: Any) -> Any:
    """The request's `model` says which machine is asked; a gateway token or an API key is the proof."""
    return openai.serve(request)
