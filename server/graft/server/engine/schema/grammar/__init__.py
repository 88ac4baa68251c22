"""From shapes to a grammar in llguidance's Lark."""
