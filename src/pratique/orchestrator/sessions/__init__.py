"""Replies in flight: the generation log, its one producer per reply, takeover when a producer is lost, and readers.

`log/` holds the numbered events and the lease, `transcript` is what they add up to, `writer` puts them into the log,
`producer` makes one reply, `feed` is what readers follow, `follower` feeds from another replica's log, `takeover`
finds replies that nobody makes any more, `sessions` owns all of it.
"""

__all__: list[str] = []
