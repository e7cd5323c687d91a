"""What goes wrong with one picture."""


class UnusableImageError(ValueError):
    """A picture from which no face can be made. `reason` is one of the fixed reject reasons."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
