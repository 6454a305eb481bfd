"""What the services need from npm: the locked packages (`package-lock.json` beside this file), and their installer."""

__all__: list[str] = []
