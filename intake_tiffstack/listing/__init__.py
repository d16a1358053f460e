"""From a urlpath to a table of files with size and mtime or ETag; ``list_files`` is the way in."""
