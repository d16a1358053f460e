"""The command line ``tiffstack``: look at a folder, write catalogs, pictures and copies.

``app`` has the commands and their errors; ``source`` the options that stand for a collection; the
other modules do the work of one command each.
"""
