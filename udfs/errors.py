"""The one exception by which a SQL function refuses bad input."""


class SqlFunctionError(ValueError):
    """A sentence for the user: which value is wrong and what would work.

    The catalogue puts the function's name in front. Through nearsql's connection it arrives as
    `sqlite3.OperationalError`, so that the shell prints it and Datasette answers 400 with it.
    """
