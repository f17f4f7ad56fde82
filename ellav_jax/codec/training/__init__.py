"""Training an EnCodec in PyTorch (the extra `torch`): the bundled codec further, or the official one on other voices."""
