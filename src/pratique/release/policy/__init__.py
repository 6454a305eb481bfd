"""The gate: a reviewed policy, evaluated purely over what was verified; it says allow, block, or that it cannot say."""

__all__: list[str] = []
