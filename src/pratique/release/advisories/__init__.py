"""Known vulnerabilities, offline: records of the OSV format, and which versions of which packages they concern."""

__all__: list[str] = []
