"""Bearer tokens of other issuers (OpenID Connect, JWT): their form, their keys, their claims, where the keys come from.

`token` and `keys` and `claims` decide without I/O; `source` fetches; `verifier` puts them together.
"""

__all__: list[str] = []
