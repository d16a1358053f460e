"""Files and folders of this machine and of any fsspec store, and many requests at once."""
