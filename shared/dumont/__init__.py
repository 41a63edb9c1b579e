"""Dumont makes a cheap rented GPU behave like one that can be relied on."""

__version__ = "0.1.0"
