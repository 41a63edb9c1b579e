"""A simulated rented machine: a folder for its disk, real processes, a real SSH server, and an nvidia-smi.

It isolates nothing: commands run as the user who runs it, on that user's own computer.
"""
