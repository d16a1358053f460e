"""Bytes: ranges of one file, from this machine (``local``) or from a store (``remote``)."""
