"""`/gateway/MACHINE/PORT/…`: HTTP to a machine's port, which is open to nobody else; who sleeps is woken."""

from typing import Any

import functions_framework

from dumont.edge.gateway import serve, websocket

websocket.refuse_in_words()


@functions_framework.http
def gateway(request: Any) -> Any:
    """Any method. A gateway token or an operator's API key is the proof."""
    return serve.serve(request)
