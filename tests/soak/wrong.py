"""What a soak says when something is not as it must be."""


class Wrong(AssertionError):
    """The service did what it must not do, or did not do what it must."""

    def __init__(self, what: str, *evidence: object) -> None:
        """Say what, and show what it was seen in."""
        super().__init__("\n  ".join([what, *(str(each) for each in evidence)]))
