"""Evidence: what collectors find out about an image, each in one file behind one interface."""

__all__: list[str] = []
