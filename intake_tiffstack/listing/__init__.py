"""Files: a urlpath to a table of files with size and mtime or ETag. The only room that lists.

``finding`` is the way in; ``filetable`` what comes out; ``store`` and ``filesystem`` reach a folder
or an fsspec store.
"""
