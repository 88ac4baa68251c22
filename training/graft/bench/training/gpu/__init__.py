"""What one GPU gives: the measurements behind `graft bench gpu`."""
