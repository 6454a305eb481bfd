"""What a secret looks like, in any text: rules, how they are found quickly, and what may be said of one.

Pure: it is given texts and streams, and opens nothing itself. The scanner of files and history and the inspection of
images are built on it.
"""

__all__: list[str] = []
