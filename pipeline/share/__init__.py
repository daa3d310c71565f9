"""One page of HTML that holds a whole map: to be sent, opened from a folder, or put on any server."""
