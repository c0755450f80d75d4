"""The main loop, from data to the test accuracy."""
