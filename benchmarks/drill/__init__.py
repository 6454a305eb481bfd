"""The failure drill: a whole stack on loopback, people who use it, and a nemesis that breaks it.

`faults` draws what is broken and when, `house` runs the stack behind proxies, `nemesis` breaks it, `people` use it,
`prober` asks all the time whether it answers, `verdict` and `outages` judge what was seen, `report` writes it down.
"""

__all__: list[str] = []
