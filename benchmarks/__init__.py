"""This package, comparable packages and hand-written floors on the same files, in one run.

``python -m benchmarks`` runs all and writes ``docs/benchmarks.md``; see there how to read it.
"""
