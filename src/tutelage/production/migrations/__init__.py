"""Every change of the decision log's tables, in order."""
