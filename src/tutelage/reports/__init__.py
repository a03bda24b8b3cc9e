"""What people look at: the reports of runs, and plots.

Its files need the extras `reports` and `tables`: `page` writes a report, `run_folder` reads what it is made of, `plots` draws.
"""
