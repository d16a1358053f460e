"""Reading: what an index takes of each file, and the bytes of it into an array."""
