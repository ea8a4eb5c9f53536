"""Loads the harness's plugin for a checkout in which it is not installed."""

from importlib.metadata import entry_points

if not any(point.value == "harness.plugin" for point in entry_points(group="pytest11")):
    pytest_plugins = ["harness.plugin"]
