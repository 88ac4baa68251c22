"""Regular expressions as the grammar's automata read them."""
