"""Arrays that read when they are indexed."""
