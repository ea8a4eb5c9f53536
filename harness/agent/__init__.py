"""The agent: the one file that runs inside a node. Standard library only, Python 3.9 and later."""

from pathlib import Path

AGENT_FILE = Path(__file__).with_name("agent.py")
"""Where the agent's source lies, for backends that carry it into a node."""
