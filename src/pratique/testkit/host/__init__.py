"""The process that owns a run's servers: started on the first request, shared by all workers, gone with pytest."""

__all__: list[str] = []
