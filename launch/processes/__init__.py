"""Processes of one run: how they meet, are checked before it, and are followed."""
