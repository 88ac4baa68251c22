"""`graft adapters`: canaries begun, promoted and taken back."""
