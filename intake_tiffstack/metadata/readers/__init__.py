"""One module a source of metadata."""
