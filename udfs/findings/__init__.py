"""What neighbours say of a collection: duplicates, outliers, wrong labels, leaks. No SQL in here."""
