"""Meaning: what files say of their pixels, and what the collection is said to be. Pure.

``file_metadata`` reads one file's by a module a kind of writer, ``merging`` puts those of many
together with names and options.
"""
