"""Tables of numbers: CSV files, tables that scikit-learn carries, and made-up ones."""
