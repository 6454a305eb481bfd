"""Keeps processes running: restart policy, logs, probes, and no process that outlives its supervisor.

Import from the modules: the guardian is started often and loads next to nothing.
"""

__all__: list[str] = []
