"""Signing and verifying: keys, certificates, envelopes, bundles, and where they lie in a registry."""

__all__: list[str] = []
