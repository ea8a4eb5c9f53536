"""The agent: the one file that runs inside a node. Standard library only, Python 3.9 and later."""
