"""Which labels are wrong? Human errors and planted ones, found by cleanlab, by training dynamics, and by ours."""
