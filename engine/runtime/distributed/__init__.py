"""Several processes for one run: who they are, what they exchange, and how they notice that one has died."""
