"""A training job as all targets of `ellav launch` take it."""
