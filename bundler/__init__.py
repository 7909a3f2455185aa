"""Carry a self-hosted LLM across an air gap."""

__version__ = "0.1.0"
