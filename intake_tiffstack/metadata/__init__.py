"""Metadata of one file: what each source contains, and what it means.

``readers/`` has one module per source; ``describe_file`` merges them into a ``FileMetadata``.
"""
