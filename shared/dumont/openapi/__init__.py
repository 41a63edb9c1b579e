"""The OpenAPI document of all HTTP functions, made from what their code declares."""
