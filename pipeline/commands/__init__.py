"""One module a `nearsql` subcommand: its options, a call, and what it prints."""
