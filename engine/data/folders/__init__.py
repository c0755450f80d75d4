"""Pictures in folders and zips: the tree, its splits and classes, files with labels."""
