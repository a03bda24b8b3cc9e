"""A paper each, as a short composition of the rooms."""
