"""The models in PyTorch, and the way of their weights there and back."""
