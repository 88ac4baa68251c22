"""Jobs of a running server, carried out here: claimed by lease, each in a process of its own, told as it goes."""
