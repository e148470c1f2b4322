"""Tables of numbers: CSV and Parquet files, tables that scikit-learn carries, and made-up ones."""
