"""What `ellav bench` measures, and how."""
