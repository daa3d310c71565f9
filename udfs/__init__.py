"""What SQL can do here: the connection, the function catalogue, search, clustering, projection."""
