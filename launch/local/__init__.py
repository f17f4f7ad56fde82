"""`ellav launch local`: processes on this machine."""
