"""How good a trained model is, in figures and on a page."""
