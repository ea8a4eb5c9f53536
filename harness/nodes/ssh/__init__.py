"""The ssh backend: nodes on other Linux machines, as sandboxes of their own there."""
