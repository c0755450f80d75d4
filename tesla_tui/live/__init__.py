"""The live screens: a Textual app over `tesla_tui.watch`."""
