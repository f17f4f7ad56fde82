"""What `ellav plan` compiles, and the table of it."""
