"""Names: a path to fields, by a format string, a regex or a preset. Pure.

``matching`` compiles patterns and reads many paths; ``fields`` are the named parts and what their
names stand for; ``infer`` proposes a pattern from names.
"""
