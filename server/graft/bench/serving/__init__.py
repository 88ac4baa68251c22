"""The measurements behind `graft bench lora`."""
