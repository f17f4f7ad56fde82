"""What `ellav evaluate` judges, row by row, and its report."""
