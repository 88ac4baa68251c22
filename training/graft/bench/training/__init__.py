"""The measurements behind `graft bench training`."""
