"""TESLA and the methods it is compared with, one module each."""
