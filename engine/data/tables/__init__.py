"""Tables: Parquet files, and the Hugging Face hub."""
