"""One module for each system under test; each runs in its own process and its own environment."""
