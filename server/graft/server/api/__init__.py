"""The front doors: thin; requests are parsed and checked here before anything is held for them."""
