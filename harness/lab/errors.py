"""What can go wrong with a lab."""


class LabError(RuntimeError):
    """A lab could not be built, or something that a scenario asked of it could not be done."""
