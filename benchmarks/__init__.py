"""This package beside its peers and the floors, on the same files in one run.

``python -m benchmarks`` runs all and writes ``docs/benchmarks.md``; see there how to read it.
"""
