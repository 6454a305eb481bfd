"""The service's own tests, run in its image."""

from __future__ import annotations

import unittest

from names import ascii_of  # type: ignore[import-not-found]  # it lies beside this file in the image


class Names(unittest.TestCase):
    """What is plain stays as it is."""

    def test_an_ascii_name_stays_as_it_is(self) -> None:
        """No change."""
        self.assertEqual(ascii_of("example.org"), "example.org")  # noqa: PT009 - no pytest in the image


if __name__ == "__main__":
    unittest.main()
