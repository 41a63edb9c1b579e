"""A simulated GPU market that speaks Vast.ai's API.

`core.Market` is pure: for simulations with a virtual clock, use it alone, or with `api.Api` around it. `server` puts
it behind HTTP, and `machines` gives its instances real processes with real SSH servers.
"""
