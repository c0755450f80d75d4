"""What the live screens know, read from a workspace's files alone; nothing here knows Textual or loads PyTorch."""
