"""`ellav launch slurm`."""
