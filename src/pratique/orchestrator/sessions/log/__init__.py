"""The generation log: one axis, `valkey` for replicas that share, `memory` for one replica and for tests."""

__all__: list[str] = []
