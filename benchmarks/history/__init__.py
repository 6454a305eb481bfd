"""Histories of random clients under faults, in the manner of Jepsen: recorded as they happen, checked afterwards.

`record` is what a history is made of and its file, `checker` says what is wrong with one, and knows nothing of how it
came about. See Kingsbury, "Jepsen: On the perils of network partitions"; Herlihy and Wing (1990) for what an
invocation and its completion allow one to conclude.
"""
