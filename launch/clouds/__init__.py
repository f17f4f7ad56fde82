"""`ellav launch gke|tpu-vm|sky`: generated files and the tools that take them."""
