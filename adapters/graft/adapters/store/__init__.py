"""Content-addressed files, and local folders of them."""
