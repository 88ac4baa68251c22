"""Libraries of our own that come built, so that no machine needs a compiler."""
