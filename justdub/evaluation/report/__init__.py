"""The page of a run: tables, plots and players in one file that needs nothing else."""
