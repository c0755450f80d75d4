"""What a workspace and a run keep on disk: settings, journal, checkpoints, previews and heartbeat."""
