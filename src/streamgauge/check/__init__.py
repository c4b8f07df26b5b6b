"""`check`: one short request a target, and what each step of it tells.

Strategy: facts first, findings after. `knock` goes the way to the server without a request (a run's preflight uses it
too); `look` does that and sends at most two short requests. `way`, `who`, `answer`, `failure`, `pace` and `machine` are
functions from such facts to findings, without I/O.

Rules: a finding is one line for a person (what, in words, next step) and the same facts as values for a machine.
`fail` means that a run against this target cannot work; whatever only spoils its numbers is `warn`. What a server or
the system said is shown in its own words. A secret is told by its place and the name of its variable, never by value.
"""
