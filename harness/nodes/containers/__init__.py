"""Nodes that are containers of an engine that speaks Docker's API."""
