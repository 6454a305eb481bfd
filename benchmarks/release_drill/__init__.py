"""The 2 a.m. drill of governed releases."""
