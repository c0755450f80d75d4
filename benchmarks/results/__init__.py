"""The results in the documentation: experiments as data, their runs, what is kept of them, tables and plots."""
