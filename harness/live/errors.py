"""What can go wrong between a command and the keeper of a lab."""


class LiveError(RuntimeError):
    """A lab cannot be reached or could not do what was asked; the message is for the user."""
