"""Commands as a user types them, in this process."""

from typer.testing import CliRunner

from adaptive_sampler.commands.app import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def refused(status: int, *arguments: str) -> str:
    """What a command that ends with this status says: one line."""
    result = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "TERM": "dumb"})
    assert (result.exit_code, result.stdout) == (status, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    return result.stderr
