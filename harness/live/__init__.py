"""A lab that stays up to work in by hand.

A *keeper* is a process of its own that holds one lab and serves a unix socket; the subcommands
``exec``, ``shell``, ``probe``, ``capture``, ``state`` and ``down`` talk to it. Nothing of the lab
outlives the keeper.
"""
