"""tesla's CPU kernels and the graph pass that puts them into compiled steps."""
