"""How well the list of doubted labels finds the wrong ones, before and after scores are calibrated, and by all evidence."""
