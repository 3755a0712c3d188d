"""justdub."""
