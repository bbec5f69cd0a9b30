"""The guarantee under attack: every row of docs/guarantee.md's failure matrix, on real processes and real servers.

`make chaos` runs all of it at full size; `make test` runs the same at a small one. CHAOS=quick|full says which, SEED
decides everything that is random, and ROUNDS says how often each test that asks for a `seed` is run, each time with the
next one. What was measured is printed at the end beside the bounds that docs/guarantee.md gives. No test fails because
a machine is slow. support/ has what the tests share.
"""
