"""`aftercommit dev --demo`: a real load on a whole Aftercommit, run to its end, with an account that must add up.

`run` starts everything; `load` submits webhook deliveries to `receiver`, which fails some of them; `observe`
follows them through the API; `account` checks that nothing was lost or invented; `report` prints it.
"""
